"""What every picture of the report shares: colours that all readers can tell apart, names as shown, writing a PNG."""

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from cxr.errors import first_line
from cxr.files.writing import replacing

_Arguments = ParamSpec("_Arguments")

DPI = 150

# Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too light for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# As many dashes as colours less one: walking both at once gives 42 lines before a pair repeats.
DASHES = ("-", "--", ":", "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (9, 3)))
_ACROSS = 5  # small multiples in a row
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


class _Literal(Figure):
    """A figure that draws its texts as they are written: names come from users, and a `$` begins no formula."""

    def draw(self, renderer: Any) -> None:
        """Draws everything on `renderer`."""
        with rc_context({"text.parse_math": False}):  # for ticks, which are made while they are drawn
            for text in self.findobj(Text):
                text.set_parse_math(False)  # type: ignore[attr-defined]
            super().draw(renderer)


@contextmanager
def attempt(path: Path) -> Iterator[None]:
    """Says in one sentence that the picture `path` cannot be drawn, and lets the work around it go on.

    Raises:
        CxrError: `path` cannot be written, for instance because the disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error.__cause__, OSError):
            raise
        print(f"WARNING: the picture {path} cannot be drawn: {first_line(error)}", flush=True)


def picture(draw: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Makes a function that draws to its argument `path` one that makes an `attempt`: no result hangs on a picture."""

    @functools.wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        with attempt(inspect.signature(draw).bind(*args, **kwargs).arguments["path"]):
            draw(*args, **kwargs)

    return drawn


def blank(width: float, height: float, *, tight: bool = False) -> Figure:
    """A white figure of `width` by `height` inches that lays itself out; it is known to no global state.

    With `tight`, axes of fixed aspect, such as images, move together.
    """
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, compress=tight)
    figure = _Literal(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes `figure` as a PNG to `path`, whole or not at all.

    Raises:
        CxrError: `path` cannot be written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def heading(figure: Figure, *lines: str) -> None:
    """Sets the figure's title: one paragraph for each text that is not empty, wrapped to the figure's width."""
    width = max(20, int(figure.get_figwidth() * 10))  # about ten characters an inch at 12 points
    figure.suptitle("\n".join(wrapped(line, width) for line in lines if line), fontsize=12)


def note(figure: Figure, text: str) -> None:
    """Sets small print below the figure's axes, wrapped to the figure's width."""
    figure.supxlabel(wrapped(text, max(20, int(figure.get_figwidth() * 15))), fontsize=8, x=0.01, ha="left")


def below(figure: Figure, text: str) -> None:
    """Names the horizontal axis that all axes of the figure share, wrapped to the figure's width."""
    figure.supxlabel(wrapped(text, int(figure.get_figwidth() * 11)), fontsize=10)


def plain(axes: Axes) -> Axes:
    """`axes` without the upper and right edges of its frame."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def wrapped(text: str, width: int) -> str:
    """`text` broken into lines of at most `width` characters; the line breaks that it has stay."""
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def shown(finding: str) -> str:
    """A finding's name as a reader sees it: `Pleural_Thickening` is `Pleural Thickening`."""
    return finding.replace("_", " ")


def labels(names: Sequence[str], width: int = 26) -> tuple[list[str], int]:
    """Names for the ticks of an axis, long ones on several lines, and the most lines that one has."""
    found = [wrapped(name, width) for name in names]
    return found, max((label.count("\n") + 1 for label in found), default=1)


def small_multiples(number: int, side: float = 1.9) -> tuple[Figure, list[Axes]]:
    """A figure of `number` square axes of `side` inches with common limits, at most five in a row."""
    across = number if number <= _ACROSS else min(_ACROSS, ceil(sqrt(1.3 * number)))
    down = ceil(number / across)
    figure = blank(max(4.5, side * across + 0.8), (side + 0.42) * down + 1.2)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[number:]:
        axes.remove()
    for axes in grid.flat[max(0, number - across) : number]:  # the lowest of its column
        axes.tick_params(labelbottom=True)
    for axes in grid.flat[:number]:
        plain(axes).grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_box_aspect(1)
        axes.tick_params(labelsize=8)
    return figure, list(grid.flat[:number])


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """How many columns a legend below `figure` can have before its longest label no longer fits."""
    longest = max((len(label) for label in labels), default=1)
    return max(1, min(len(labels), int(figure.get_figwidth() * 12 / (longest + 8))))


def unit_square(panels: Sequence[Axes]) -> None:
    """Limits and ticks of shares, from 0 to 1 both ways."""
    for axes in panels:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([0, 0.5, 1]))


def count_positives(axes: Axes, target: NDArray[np.floating], height: float) -> None:
    """Writes into `axes`, at that height, how many of the known labels (N,) are positive."""
    said = f"{int((target == 1).sum()):,} of {int((~np.isnan(target)).sum()):,} positive"
    axes.text(0.96, height, said, transform=axes.transAxes, ha="right", va="center", fontsize=8, color="0.3")
