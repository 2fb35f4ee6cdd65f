"""Charts of a catalog's labels: prevalence and co-occurrence of findings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cxr.figures.canvas import COLOURS, blank, heading, plain, readable, rows_figure, wrapped
from cxr.findings import NO_FINDING

_SPLITS = ("train", "val", "test")


def prevalence(table: pd.DataFrame, findings: Sequence[str]) -> Figure:
    """Bars: how many images have each finding, and how many have none, stacked by train, val and test.

    Args:
        table: one row per image; a float column for each finding (1 present, 0 absent, NaN unknown and not counted)
            and, optionally, `split`; images of other splits than train, val and test are left out.
        findings: columns of `table`; "No Finding" is every image on which all others are 0.
    """
    findings = [finding for finding in findings if finding != NO_FINDING]
    if "split" in table:
        table = table[table["split"].isin(_SPLITS)]
    values = table[findings].to_numpy(dtype=float)
    counted = pd.DataFrame(np.column_stack([values == 1, (values == 0).all(axis=1)]))
    split = table["split"].to_numpy() if "split" in table else np.full(len(table), "")
    parts = counted.groupby(split).sum().reindex(_SPLITS if "split" in table else [""], fill_value=0)
    totals = counted.sum().to_numpy()
    order = [*np.argsort(-totals[:-1], kind="stable"), len(findings)]
    at = np.arange(len(order)) + 0.5 * (np.arange(len(order)) == len(findings))

    figure, names = rows_figure([readable([*findings, NO_FINDING][k]) for k in order], 9, 1.6)
    axes = plain(figure.add_subplot())
    left = np.zeros(len(order))
    for (name, counts), colour in zip(parts.iterrows(), COLOURS, strict=False):
        axes.barh(at, counts.iloc[order], left=left, height=0.75, color=colour, label=str(name))
        left += counts.iloc[order].to_numpy()
    for y, total in zip(at, totals[order], strict=True):
        axes.text(total, y, f"  {total:,} ({total / max(len(table), 1):.1%})", va="center", fontsize=9)
    axes.axhline(len(findings) - 0.25, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(at, names)
    axes.set(xlim=(0, 1.25 * max(totals.max(), 1)), ylim=(at[-1] + 0.6, -0.6))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"images (share of all {len(table):,} images)")
    if len(parts) > 1:
        figure.legend(loc="outside lower center", ncols=len(parts), frameon=False)
    heading(figure, "Images with each finding")
    return figure


def cooccurrence(table: pd.DataFrame, findings: Sequence[str], name: str) -> Figure:
    """Two heat maps of the findings on the same image: counts, and shares of the row finding's images.

    A share is taken over the row finding's images on which the column finding is known.

    Args:
        table: one row per image, a float column for each finding (1 present, 0 absent, NaN unknown).
        findings: columns of `table`.
    """
    values = table[list(findings)].to_numpy(dtype=float)
    positive = (values == 1).astype(np.int64)
    counts = positive.T @ positive
    known = positive.T @ (~np.isnan(values)).astype(np.int64)
    figure, left, right = _counts_and_shares(counts, known, findings)
    left.set_title("images with both findings", fontsize=11)
    right.set_title("% of the row's images\nthat also have the column's finding", fontsize=11)
    heading(figure, f"Co-occurrence of findings: {name}")
    return figure


def confusion(matrix: Sequence[Sequence[int]], findings: Sequence[str], name: str) -> Figure:
    """Two heat maps of findings that exclude each other: counts, and shares of the row finding's images.

    Args:
        matrix: (L, L), images of the row's finding that were predicted as the column's.
        findings: L names.
    """
    counts = np.array(matrix, np.int64)
    figure, left, right = _counts_and_shares(counts, counts.sum(axis=1, keepdims=True) + 0 * counts, findings)
    left.set_title("images", fontsize=11)
    right.set_title("% of the row's images", fontsize=11)
    for axes in (left, right):
        axes.set_xlabel("predicted finding")
        axes.set_ylabel("finding of the image")
    heading(figure, f"Confusion matrix: {name}")
    return figure


def _counts_and_shares(
    counts: NDArray[np.int64], known: NDArray[np.int64], findings: Sequence[str]
) -> tuple[Figure, Axes, Axes]:
    """Heat maps of `counts` (L, L) and of their percentages of `known` (L, L), side by side."""
    shares = np.divide(100.0 * counts, known, out=np.full(counts.shape, np.nan), where=known > 0)
    cell, size = (0.5, 8.5) if len(findings) <= 20 else (0.36, 6.0)
    names = [wrapped(readable(finding), 26) for finding in findings]
    longest = max((len(line) for tick in names for line in tick.split("\n")), default=0)
    side = max(cell * len(findings), 2.2) + 0.08 * longest
    figure = blank(2 * (side + 1.4), side + 1.2)
    left, right = figure.subplots(1, 2)
    log = LogNorm(1, max(counts.max(initial=0), 2))
    _heat_map(left, np.where(counts > 0, counts, np.nan), log, [f"{count}" for count in counts.flat], size)
    texts = ["" if np.isnan(share) else f"{share:.0f}" for share in shares.flat]
    _heat_map(right, shares, Normalize(0, 100), texts, size)
    figure.colorbar(left.images[0], ax=left, fraction=0.05, label="images (log scale)", format="{x:,.0f}")
    figure.colorbar(right.images[0], ax=right, fraction=0.05, label="% of the row's images")
    for axes in (left, right):
        axes.set_xticks(range(len(findings)), names, rotation=90)
        axes.set_yticks(range(len(findings)), names)
    return figure, left, right


def _heat_map(axes: Axes, values: NDArray[np.float64], norm: Normalize, texts: Sequence[str], size: float) -> None:
    """Coloured cells with `texts` (row after row) on them, dark on light cells and light on dark ones."""
    colours = colormaps["cividis"].with_extremes(bad="0.92")
    axes.imshow(values, cmap=colours, norm=norm, interpolation="nearest")
    luminance = colours(norm(np.ma.masked_invalid(values)))[..., :3] @ (0.2126, 0.7152, 0.0722)
    for (row, column), text in zip(np.ndindex(values.shape), texts, strict=True):
        ink = "black" if luminance[row, column] > 0.45 else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
    axes.tick_params(length=0)
