"""The objective of an ensemble over the weights of its members."""

from collections.abc import Iterable, Sequence
from math import sqrt

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr.figures.canvas import COLOURS, DASHES, blank, heading, legend_columns, plain, wrapped

_BINS = 50  # of the weights, where a profile would have more points than this


def ensemble_landscape(
    landscape: pd.DataFrame, members: Sequence[str], objective: str, robust: Sequence[float] | None = None
) -> Figure:
    """The objective over the members' weights, with its maximum marked.

    Two members give a line over the first one's weight, three a triangle with a member in each corner. Other numbers
    give one line per member: the greatest objective at each weight of that member.

    Args:
        landscape: one row per mixture: a column of weights for each member (rows sum to 1) and `value`, the objective.
        members: columns of `landscape`.
        objective: what `value` is, for the axis and the title.
        robust: (M,) weights that the ensemble uses instead of the best ones, also marked.

    Raises:
        ValueError: no row has a value.
    """
    landscape = landscape.dropna(subset=["value"])
    if landscape.empty:
        raise ValueError("ensemble_landscape needs a mixture with a value; all values are NaN")
    best = landscape.iloc[int(landscape["value"].to_numpy().argmax())]
    figure = blank(9, 6.5)
    axes = figure.add_subplot()
    mark = ""
    if len(members) == 3:
        _triangle(axes, landscape, members, objective)
        figure.supxlabel("Dotted lines: a member's weight is 0.25, 0.5 or 0.75.", fontsize=8, x=0.01, ha="left")
        x, y = _in_triangle(best[list(members)].to_numpy(dtype=float))
        _mark_optimum(axes, float(x), float(y), COLOURS[1])
        if robust is not None:
            axes.plot(*_in_triangle(np.array(robust)), "o", color="white", markersize=10, markeredgecolor="black")
            mark = "○ "
    elif len(members) == 2:
        _profiles(axes, landscape, members[:1])
        if robust is not None:
            axes.axvline(robust[0], color="0.4", linestyle="--", linewidth=1)
            mark = "dashed: "
        _mark_optimum(axes, best[members[0]], best["value"], COLOURS[1])
        axes.set_xlabel(f"weight of {members[0]}; {members[1]} has the rest")
        axes.set_ylabel(objective)
    else:
        _profiles(axes, landscape, members)
        for k, member in enumerate(members):
            _mark_optimum(axes, best[member], best["value"], COLOURS[k % len(COLOURS)])
        axes.set_xlabel("weight of the member")
        axes.set_ylabel(f"best {objective} at that weight")
        lines, columns = axes.get_lines()[: len(members)], legend_columns(figure, members)
        figure.legend(lines, members, loc="outside lower center", ncols=columns, frameon=False)
    lines_of_title = [f"★ {best['value']:.4f} at {_mixture(members, best[list(members)])}"]
    if robust is not None:
        lines_of_title.append(f"{mark}robust weights: {_mixture(members, robust)}")
    heading(figure, f"{objective[:1].upper()}{objective[1:]} over the members' weights", *lines_of_title)
    return figure


def _mixture(members: Sequence[str], weights: Iterable[float]) -> str:
    return ", ".join(f"{member} {weight:.2f}" for member, weight in zip(members, weights, strict=True))


def _mark_optimum(axes: Axes, x: float, y: float, colour: str) -> None:
    axes.plot(x, y, "*", color=colour, markersize=17, markeredgecolor="black", markeredgewidth=0.8, zorder=10)


def _profiles(axes: Axes, landscape: pd.DataFrame, members: Sequence[str]) -> None:
    """A line per member: the greatest value over the mixtures that give it each weight."""
    plain(axes).grid(color="0.9", linewidth=0.6)
    for i, member in enumerate(members):
        weight = landscape[member].round(6)
        if weight.nunique() > _BINS:
            weight = (weight * _BINS).round() / _BINS
        best = landscape["value"].groupby(weight).max()
        dash = DASHES[i % len(DASHES)]
        axes.plot(best, color=COLOURS[i % len(COLOURS)], linestyle=dash, marker="o", markersize=3, label=member)
    axes.set_xlim(-0.03, 1.03)


def _triangle(axes: Axes, landscape: pd.DataFrame, members: Sequence[str], objective: str) -> None:
    """One coloured cell per mixture, in a triangle with the single members at its corners."""
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
