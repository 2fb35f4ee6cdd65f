"""What all figures share: colours, size, layout, titles, and saving as a PNG."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, sqrt
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from cxr.errors import first_line
from cxr.files.writing import replacing

_Arguments = ParamSpec("_Arguments")

DPI = 150

# Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too light for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One dash pattern fewer than colours: cycling through both gives 42 different lines.
DASHES = ("-", "--", ":", "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (9, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_PER_ROW = 5  # small multiples


class _Literal(Figure):
    """A figure without math text: names come from users, and a `$` must not start a formula."""

    def draw(self, renderer: Any) -> None:
        """Draws everything on `renderer`."""
        with rc_context({"text.parse_math": False}):  # tick labels are created while drawing
            for text in self.findobj(Text):
                text.set_parse_math(False)  # type: ignore[attr-defined]
            super().draw(renderer)


@contextmanager
def attempt(path: Path) -> Iterator[None]:
    """Turns an error while drawing the figure `path` into a warning, so that no result depends on a figure.

    Raises:
        CxrError: `path` cannot be written, for instance because the disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error.__cause__, OSError):
            raise
        print(f"WARNING: the figure {path} cannot be drawn: {first_line(error)}", flush=True)


def draw(path: Path, figure: Callable[_Arguments, Figure], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
    """Writes `figure(*args, **kwargs)` to `path` as a PNG, atomically; an error while drawing prints a warning.

    Raises:
        CxrError: `path` cannot be written.
    """
    with attempt(path):
        made = figure(*args, **kwargs)
        with replacing(path) as temporary:
            made.savefig(temporary, format="png", dpi=DPI)


def blank(width: float, height: float, *, compress: bool = False) -> Figure:
    """A white figure of `width` by `height` inches with constrained layout, unknown to pyplot.

    With `compress`, axes of a fixed aspect ratio, such as images, move together.
    """
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, compress=compress)
    figure = _Literal(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def heading(figure: Figure, *lines: str) -> None:
    """Sets the figure's title: non-empty `lines`, wrapped to the figure's width."""
    width = max(20, int(figure.get_figwidth() * 10))  # about ten characters an inch at 12 points
    figure.suptitle("\n".join(wrapped(line, width) for line in lines if line), fontsize=12)


def plain(axes: Axes) -> Axes:
    """`axes` without the upper and right edges of its frame."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def wrapped(text: str, width: int) -> str:
    """`text` broken into lines of at most `width` characters; its own line breaks stay."""
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def readable(finding: str) -> str:
    """A finding's name for a label: `Pleural_Thickening` becomes `Pleural Thickening`."""
    return finding.replace("_", " ")


def rows_figure(names: Sequence[str], width: float, base: float, least: float = 0.0) -> tuple[Figure, list[str]]:
    """A figure for one horizontal row a name, and the names wrapped for the ticks.

    Args:
        names: labels of the rows.
        width: inches.
        base: height in inches of all but the rows.
        least: height in inches of a row, at least.
    """
    ticks = [wrapped(name, 30) for name in names]
    lines = max((tick.count("\n") + 1 for tick in ticks), default=1)
    return blank(width, base + max(0.1 + 0.18 * lines, least) * max(3, len(names))), ticks


def panels(titles: Sequence[str], x_label: str, y_label: str) -> tuple[Figure, list[Axes]]:
    """A figure with a square axes for each title, at most five in a row, with common limits and axis labels."""
    number, side = len(titles), 1.9
    across = number if number <= _PER_ROW else min(_PER_ROW, ceil(sqrt(1.3 * number)))
    down = ceil(number / across)
    figure = blank(max(4.5, side * across + 0.8), (side + 0.56) * down + 1.2)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[number:]:
        axes.remove()
    for axes in grid.flat[max(0, number - across) : number]:  # the lowest of its column
        axes.tick_params(labelbottom=True)
    for axes, title in zip(grid.flat, titles, strict=False):
        plain(axes).grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_box_aspect(1)
        axes.tick_params(labelsize=8)
        axes.set_title(title, fontsize=8.5)
    figure.supxlabel(wrapped(x_label, int(figure.get_figwidth() * 11)), fontsize=10)
    figure.supylabel(y_label, fontsize=10)
    return figure, list(grid.flat[:number])


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """How many columns a legend below `figure` can have before its longest label no longer fits."""
    longest = max((len(label) for label in labels), default=1)
    return max(1, min(len(labels), int(figure.get_figwidth() * 12 / (longest + 8))))
