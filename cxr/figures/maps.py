"""Pictures of the report that map a plane: where a model looked, sheets of radiographs, the weights of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cxr.figures.canvas import (
    COLOURS,
    DASHES,
    blank,
    heading,
    legend_columns,
    note,
    picture,
    plain,
    save,
    shown,
    wrapped,
)

HIT, CORRECT_REJECTION, FALSE_ALARM, MISS, UNKNOWN = "hit", "correct rejection", "false alarm", "miss", "not known"
_ROWS = (HIT, CORRECT_REJECTION, FALSE_ALARM, MISS, UNKNOWN)  # the order down the page
_COLUMNS = 2  # cases in a row
_GAP = 1.04  # from the radiograph's left edge to the overlay's, in widths
_STEPS = 50  # a profile over more weights than this is taken over bins of 1 / _STEPS


@dataclass(frozen=True, eq=False)
class AttentionCase:
    """One radiograph, one finding, and where the model looked on it.

    Attributes:
        image: (H, W) uint8.
        attention: (h, w) float, not negative, any resolution; it covers the whole image. It is the finding's own where
            the network gives each one, else the same for all findings.
        finding: the finding's name.
        score: the model's probability of it.
        target: 1 present, 0 absent, NaN unknown.
        image_name: shown below the picture.
        boxes: (x, y, width, height) of marked regions in pixels of `image`, from its upper left corner.
        threshold: the finding's operating point; a score of at least this is an alarm.
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
        """What the score came to: a hit, a correct rejection, a false alarm, a miss, or not known."""
        if isnan(self.target):
            return UNKNOWN
        if self.score >= self.threshold:
            return HIT if self.target == 1 else FALSE_ALARM
        return MISS if self.target == 1 else CORRECT_REJECTION


@picture
def attention_maps(cases: Sequence[AttentionCase], path: Path, title: str = "", own: bool = False) -> None:
    """Draws radiographs, each beside itself under the attention with marked regions outlined, right answers first.

    Args:
        cases: at least one; each outcome begins a new row and keeps the order given.
        path: the PNG to write.
        title: replaces the default heading.
        own: each finding has a map of its own.

    Raises:
        ValueError: there are no cases.
    """
    save(_attention_maps_figure(cases, title, own), path)


def _attention_maps_figure(cases: Sequence[AttentionCase], title: str, own: bool = False) -> Figure:
    if not cases:
        raise ValueError("attention_maps was given no cases")
    groups = {outcome: [case for case in cases if case.outcome == outcome] for outcome in _ROWS}
    width = min(_COLUMNS, max(len(group) for group in groups.values()))
    rows = [
        (outcome, group[start : start + width])
        for outcome, group in groups.items()
        for start in range(0, len(group), width)
    ]
    figure = blank(4.0 * width + 1.4, 2.4 * len(rows) + 1.1, tight=True)
    grid = figure.subplots(len(rows), width, squeeze=False)
    for (outcome, row), line in zip(rows, grid, strict=True):
        for axes, case in zip(line, row, strict=False):
            _attention_map(axes, case)
        for axes in line[len(row) :]:
            axes.set_axis_off()
        line[0].set_ylabel(outcome, fontsize=12, fontweight="bold")
    bar = ScalarMappable(Normalize(0, 1), "viridis")
    label = "attention, share of the map's maximum"
    figure.colorbar(bar, ax=grid, shrink=min(1.0, 2.4 / len(rows)), aspect=30, label=label)
    whose = "for the named finding" if own else "one map for all findings"
    said = f"Right of each radiograph: the model's attention, {whose}"
    boxed = "; white: marked regions of the named finding" if any(len(case.boxes) for case in cases) else ""
    heading(figure, title or "Where the model looked", f"{said}{boxed}.")
    return figure


def _attention_map(axes: Axes, case: AttentionCase) -> None:
    height, width = case.image.shape
    # Pixel edges at whole numbers; the radiograph, and right of it the same under its map, which has the same edges.
    film, right = (0.0, float(width), float(height), 0.0), _GAP * width
    overlay = (right, right + width, float(height), 0.0)
    attention = case.attention / max(float(case.attention.max()), 1e-12)
    opacity = 0.6 * np.sqrt(attention)
    for extent in (film, overlay):
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, extent=extent)
    axes.imshow(attention, "viridis", vmin=0, vmax=1, alpha=opacity, extent=overlay, interpolation="bilinear")
    axes.set_xlim(0, right + width)
    axes.set_ylim(height, 0)
    for x, y, box_width, box_height in case.boxes:
        box = Rectangle((right + x, y), box_width, box_height, fill=False, edgecolor="white", linewidth=1.6)
        box.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground="black")])
        axes.add_patch(box)
    score = f"{case.score:.2f}".removeprefix("0")
    truth = UNKNOWN if isnan(case.target) else "present" if case.target == 1 else "absent"
    judged = truth if truth == UNKNOWN else f"{truth} → {case.outcome}"
    axes.set_title(wrapped(f"{shown(case.finding)}: score {score}, {judged}", 54), fontsize=9)
    axes.set_xlabel(wrapped(case.image_name, 60), fontsize=7.5, color="0.3")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], path: Path, columns: int = 6, title: str = ""
) -> None:
    """Draws images in a grid, row after row, each above its caption.

    Args:
        images: at least one, (H, W) uint8, of any sizes.
        captions: as many.
        path: the PNG to write.
        columns: images in a row.
        title: the heading; none if empty.

    Raises:
        ValueError: there are no images, or not as many captions.
    """
    save(_contact_sheet_figure(images, captions, columns, title), path)


def _contact_sheet_figure(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int, title: str
) -> Figure:
    if not images or len(images) != len(captions):
        raise ValueError(f"contact_sheet was given {len(images)} images and {len(captions)} captions")
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)
    texts = [wrapped(caption, 26) for caption in captions]
    lines = max(text.count("\n") + 1 for text in texts)
    figure = blank(max(1.9 * columns, 3.0), (1.9 + 0.15 * lines) * rows + 0.6 * bool(title))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images, texts, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption, y=0, pad=-3, va="top", fontsize=7.5)
    if title:
        heading(figure, title)
    return figure


@picture
def ensemble_landscape(
    landscape: pd.DataFrame,
    members: Sequence[str],
    path: Path,
    objective: str = "validation macro AUROC",
    robust: Sequence[float] | None = None,
) -> None:
    """Draws how the objective depends on the members' weights, and marks where it is greatest.

    Two members give a line over the first one's weight, three a triangle with a member in each corner; any other number
    one line a member, the greatest objective reached at each weight of that member.

    Args:
        landscape: one row a mixture: a column of weights for each member (rows sum to 1) and `value`, the objective.
        members: columns of `landscape`.
        path: the PNG to write.
        objective: what `value` is, for the axis and the heading.
        robust: (M,) weights that the ensemble takes in place of the best ones, marked too; none if it takes the best.

    Raises:
        ValueError: no row has a value.
    """
    save(_ensemble_landscape_figure(landscape, members, objective, robust), path)


def _ensemble_landscape_figure(
    landscape: pd.DataFrame, members: Sequence[str], objective: str, robust: Sequence[float] | None = None
) -> Figure:
    landscape = landscape.dropna(subset=["value"])
    if landscape.empty:
        raise ValueError("ensemble_landscape was given no mixture that has a value")
    best = landscape.iloc[int(landscape["value"].to_numpy().argmax())]
    figure = blank(9, 6.5)
    axes = figure.add_subplot()
    if len(members) == 3:
        _triangle(axes, landscape, members, objective)
        note(figure, "Dotted lines: a member's weight is 0.25, 0.5 or 0.75.")
        x, y = _in_triangle(best[list(members)].to_numpy(dtype=float))
        _mark_optimum(axes, float(x), float(y), COLOURS[1])
        if robust is not None:
            axes.plot(*_in_triangle(np.array(robust)), "o", color="white", markersize=10, markeredgecolor="black")
    elif len(members) == 2:
        _profiles(axes, landscape, members[:1])
        if robust is not None:
            axes.axvline(robust[0], color="0.4", linestyle="--", linewidth=1)
        _mark_optimum(axes, best[members[0]], best["value"], COLOURS[1])
        axes.set_xlabel(f"weight of {members[0]}; the rest is on {members[1]}")
        axes.set_ylabel(objective)
    else:
        _profiles(axes, landscape, members)
        for i, member in enumerate(members):
            _mark_optimum(axes, best[member], best["value"], COLOURS[i % len(COLOURS)])
        axes.set_xlabel("weight of the member")
        axes.set_ylabel(f"best {objective} at that weight")
        lines, columns = axes.get_lines()[: len(members)], legend_columns(figure, members)
        figure.legend(lines, members, loc="outside lower center", ncols=columns, frameon=False)
    said = f"★ {best['value']:.4f} at " + ", ".join(f"{member} {best[member]:.2f}" for member in members)
    taken = ""
    if robust is not None:
        mark = {2: "dashed: ", 3: "○ "}.get(len(members), "")
        mixture = ", ".join(f"{member} {weight:.2f}" for member, weight in zip(members, robust, strict=True))
        taken = f"{mark}robust weights: {mixture}"
    heading(figure, f"{objective[:1].upper()}{objective[1:]} over the members' weights", said, taken)
    return figure


def _mark_optimum(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot(x, y, "*", color=colour, markersize=17, markeredgecolor="black", markeredgewidth=0.8, zorder=10)


def _profiles(axes: Axes, landscape: pd.DataFrame, members: Sequence[str]) -> None:
    """A line a member: the greatest value over the mixtures that give it each weight."""
    plain(axes).grid(color="0.9", linewidth=0.6)
    for i, member in enumerate(members):
        weight = landscape[member].round(6)
        if weight.nunique() > _STEPS:
            weight = (weight * _STEPS).round() / _STEPS
        best = landscape["value"].groupby(weight).max()
        dash = DASHES[i % len(DASHES)]
        axes.plot(best, color=COLOURS[i % len(COLOURS)], linestyle=dash, marker="o", markersize=3, label=member)
    axes.set_xlim(-0.03, 1.03)


def _triangle(axes: Axes, landscape: pd.DataFrame, members: Sequence[str], objective: str) -> None:
    """One coloured cell a mixture, in a triangle whose corners are the members alone."""
    centres = np.stack(_in_triangle(landscape[list(members)].to_numpy(dtype=float)), axis=-1)
    # A grid of n mixtures has k steps along an edge, n = (k + 1)(k + 2) / 2; hexagons of this radius tile it.
    radius = 1 / max(sqrt(3) * (sqrt(8 * len(landscape) + 1) - 3) / 2, 10)
    angles = np.deg2rad(np.arange(30, 390, 60))
    hexagons = centres[:, None] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    cells = PolyCollection(
        list(hexagons), array=landscape["value"].to_numpy(), cmap="viridis", edgecolor="face", linewidth=0.3
    )
    axes.add_collection(cells)
    for share in (0.25, 0.5, 0.75):
        for i in range(3):
            ends = np.full((2, 3), 1 - share)
            ends[:, i] = share
            ends[0, (i + 1) % 3] = ends[1, (i + 2) % 3] = 0
            axes.plot(*_in_triangle(ends), color="black", linewidth=0.8, linestyle=":", alpha=0.6, zorder=3)
    axes.plot(*_in_triangle(np.eye(3)[[0, 1, 2, 0]]), color="black", linewidth=1, zorder=4)
    for corner, member in zip(np.eye(3), members, strict=True):
        offset, align = (18, "bottom") if corner[2] else (-18, "top")
        at = (float(corner[1] + corner[2] / 2), float(corner[2] * sqrt(3) / 2))
        text = f"all {wrapped(member, 30)}"
        axes.annotate(text, at, (0, offset), textcoords="offset points", ha="center", va=align)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.1, 1.1)
    axes.set_ylim(-0.1, 0.96)
    axes.figure.colorbar(cells, ax=axes, shrink=0.8, label=objective)


def _in_triangle(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(..., 3) weights that sum to 1 to x and y in the triangle (0, 0), (1, 0), (1 / 2, sqrt(3) / 2)."""
    return weights[..., 1] + weights[..., 2] / 2, weights[..., 2] * sqrt(3) / 2
