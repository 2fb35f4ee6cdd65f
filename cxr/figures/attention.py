"""Attention maps drawn over radiographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr.figures.canvas import blank, heading, readable, wrapped

HIT, CORRECT_REJECTION, FALSE_ALARM, MISS, UNKNOWN = "hit", "correct rejection", "false alarm", "miss", "not known"
_OUTCOMES = (HIT, CORRECT_REJECTION, FALSE_ALARM, MISS, UNKNOWN)  # from top to bottom
_COLUMNS = 2  # cases in a row
_GAP = 1.04  # from the radiograph's left edge to the overlay's, in widths


@dataclass(frozen=True, eq=False)
class AttentionCase:
    """One radiograph, one finding, and the network's attention.

    Attributes:
        image: (H, W) uint8.
        attention: (h, w) float, not negative, of any resolution; it covers the whole image. The finding's own map where
            the network has one per finding, else the same for all findings.
        finding: the finding's name.
        score: the network's probability of the finding.
        target: 1 present, 0 absent, NaN unknown.
        image_name: shown below the image.
        boxes: (x, y, width, height) of rectangles that form the marked region, in pixels of `image`, from its upper
            left corner.
        threshold: the finding's operating point; scores at or above it are positive.
    """

    image: NDArray[np.uint8]
    attention: NDArray[np.floating]
    finding: str
    score: float
    target: float
    image_name: str
    boxes: Sequence[tuple[float, float, float, float]] = ()
    threshold: float = 0.5

    @property
    def outcome(self) -> str:
        """`hit`, `correct rejection`, `false alarm`, `miss`, or `not known`."""
        if isnan(self.target):
            return UNKNOWN
        if self.score >= self.threshold:
            return HIT if self.target == 1 else FALSE_ALARM
        return MISS if self.target == 1 else CORRECT_REJECTION


def attention_maps(cases: Sequence[AttentionCase], name: str, per_finding: bool = False) -> Figure:
    """Radiographs, each next to a copy with the attention overlaid and marked regions outlined, sorted by outcome.

    Args:
        cases: at least one; each outcome starts a new row and keeps the order given.
        per_finding: whether each finding has its own map.

    Raises:
        ValueError: there are no cases.
    """
    if not cases:
        raise ValueError("attention_maps needs at least one case")
    groups = {outcome: [case for case in cases if case.outcome == outcome] for outcome in _OUTCOMES}
    width = min(_COLUMNS, max(map(len, groups.values())))
    rows = [
        (outcome, group[start : start + width])
        for outcome, group in groups.items()
        for start in range(0, len(group), width)
    ]
    figure = blank(4.0 * width + 1.4, 2.4 * len(rows) + 1.1, compress=True)
    grid = figure.subplots(len(rows), width, squeeze=False)
    for (outcome, row), line in zip(rows, grid, strict=True):
        for axes, case in zip(line, row, strict=False):
            _attention_map(axes, case)
        for axes in line[len(row) :]:
            axes.set_axis_off()
        line[0].set_ylabel(outcome, fontsize=12, fontweight="bold")
    bar = ScalarMappable(Normalize(0, 1), "viridis")
    label = "attention relative to the map's maximum"
    figure.colorbar(bar, ax=grid, shrink=min(1.0, 2.4 / len(rows)), aspect=30, label=label)
    which = "one map per finding" if per_finding else "one map for all findings"
    boxed = "; white lines: marked regions of the named finding" if any(len(case.boxes) for case in cases) else ""
    heading(figure, f"Attention maps: {name}", f"Right of each radiograph: the network's attention ({which}){boxed}.")
    return figure


def _attention_map(axes: Axes, case: AttentionCase) -> None:
    height, width = case.image.shape
    # Pixel edges are at whole numbers. The overlay, right of the radiograph, has the size of the radiograph.
    film, right = (0.0, float(width), float(height), 0.0), _GAP * width
    overlay = (right, right + width, float(height), 0.0)
    attention = case.attention / max(float(case.attention.max()), 1e-12)
    opacity = 0.6 * np.sqrt(attention)
    for extent in (film, overlay):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, extent=extent)
    axes.imshow(attention, "viridis", vmin=0, vmax=1, alpha=opacity, extent=overlay, interpolation="bilinear")
    axes.set_xlim(0, right + width)
    axes.set_ylim(height, 0)
    if len(case.boxes):
        across, down = right + np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
        outline = axes.contour(across, down, np.pad(_region(case), 1), [0.5], colors="white", linewidths=1.6)
        outline.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground="black")])
    score = f"{case.score:.2f}".removeprefix("0")
    truth = UNKNOWN if isnan(case.target) else "present" if case.target == 1 else "absent"
    result = truth if truth == UNKNOWN else f"{truth} → {case.outcome}"
    axes.set_title(wrapped(f"{readable(case.finding)}: score {score}, {result}", 54), fontsize=9)
    axes.set_xlabel(wrapped(case.image_name, 60), fontsize=7.5, color="0.3")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _region(case: AttentionCase) -> NDArray[np.float64]:
    """1 for the pixels (H, W) of the marked region, 0 for others."""
    region = np.zeros(case.image.shape)
    corners = np.array(case.boxes)
    corners[:, 2:] += corners[:, :2]
    for left, top, right, bottom in np.maximum(np.rint(corners).astype(int), 0).tolist():
        region[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    return region
