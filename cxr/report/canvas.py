"""What every picture of the report shares: colours that all readers can tell apart, names as shown, writing a PNG."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cxr.files import replacing

DPI = 150

# Okabe and Ito, "Color Universal Design", 2008, without its yellow, which is too light for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# As many dashes as colours less one: walking both at once gives 42 lines before a pair repeats.
DASHES = ("-", "--", ":", "-.", (0, (7, 1, 1, 1, 1, 1)), (0, (9, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def blank(width: float, height: float, *, tight: bool = False) -> Figure:
    """A white figure of `width` by `height` inches that lays itself out; it is known to no global state.

    With `tight`, axes of fixed aspect, such as images, move together.
    """
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, compress=tight)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
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


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """How many columns a legend below `figure` can have before its longest label no longer fits."""
    longest = max((len(label) for label in labels), default=1)
    return max(1, min(len(labels), int(figure.get_figwidth() * 12 / (longest + 8))))
