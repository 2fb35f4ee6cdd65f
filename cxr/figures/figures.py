"""Charts of the report: what the labels hold, and how well models tell each finding.

Each public function takes arrays or tables and writes one PNG. The figure itself is built by a function of the same
name with `_..._figure` around it, so that tests read the drawn numbers rather than pixels. How a model learnt is in
`cxr.figures.learning`, pictures of radiographs and of ensemble weights are in `cxr.figures.maps`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from cxr.figures.canvas import (
    COLOURS,
    MARKERS,
    below,
    blank,
    count_positives,
    heading,
    labels,
    legend_columns,
    picture,
    plain,
    save,
    shown,
    small_multiples,
    unit_square,
    wrapped,
)
from cxr.findings import NO_FINDING
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.curves import roc_curve

SPLITS = ("train", "val", "test")
MACRO_AVERAGE = "macro average"


@picture
def prevalence(table: pd.DataFrame, findings: Sequence[str], path: Path) -> None:
    """Draws how many images bear each finding, and how many bear none, as bars split by train, val and test.

    Args:
        table: one row an image; a float column for each finding (1 present, 0 absent, NaN unknown and counted nowhere)
            and, if there is one, `split`; images of any other split than train, val and test are left out.
        findings: columns of `table`; "No Finding" is every image on which all the others are 0.
        path: the PNG to write.
    """
    save(_prevalence_figure(table, findings), path)


def _prevalence_figure(table: pd.DataFrame, findings: Sequence[str]) -> Figure:
    findings = [finding for finding in findings if finding != NO_FINDING]
    if "split" in table:
        table = table[table["split"].isin(SPLITS)]
    values = table[findings].to_numpy(dtype=float)
    bears = np.column_stack([values == 1, (values == 0).all(axis=1)])
    parts = {"": bears.sum(axis=0)}
    if "split" in table:
        parts = {split: bears[(table["split"] == split).to_numpy()].sum(axis=0) for split in SPLITS}
    totals = np.sum(list(parts.values()), axis=0)
    order = [*np.argsort(-totals[:-1], kind="stable"), len(findings)]
    at = np.arange(len(order)) + 0.5 * (np.arange(len(order)) == len(findings))

    names, lines = labels([shown([*findings, NO_FINDING][i]) for i in order])
    figure = blank(9, 1.6 + (0.1 + 0.18 * lines) * len(order))
    axes = plain(figure.add_subplot())
    left = np.zeros(len(order))
    for (split, counts), colour in zip(parts.items(), COLOURS, strict=False):
        axes.barh(at, counts[order], left=left, height=0.75, color=colour, label=split)
        left += counts[order]
    for y, total in zip(at, totals[order], strict=True):
        axes.text(total, y, f"  {total:,} ({total / max(len(table), 1):.1%})", va="center", fontsize=9)
    axes.axhline(len(findings) - 0.25, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(at, names)
    axes.set_ylim(at[-1] + 0.6, -0.6)
    axes.set_xlim(0, 1.25 * max(totals.max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.set_xlabel(f"images (and share of all {len(table):,} images)")
    if len(parts) > 1:
        figure.legend(loc="outside lower center", ncols=len(parts), frameon=False)
    heading(figure, "Images that bear each finding")
    return figure


def cooccurrence_counts(table: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """How many images bear both the row's and the column's finding; the diagonal is the finding's own images.

    Args:
        table: one row an image, a float column for each finding (1 present, 0 absent, NaN unknown).
        findings: L columns of `table`.

    Returns:
        (L, L) int, symmetric, indexed by `findings` both ways.
    """
    positive = (table[list(findings)].to_numpy(dtype=float) == 1).astype(np.int64)
    return pd.DataFrame(positive.T @ positive, index=list(findings), columns=list(findings))


@picture
def cooccurrence(table: pd.DataFrame, findings: Sequence[str], path: Path, title: str = "") -> None:
    """Draws which findings occur on the same image: counts, and shares of the row's images.

    A share is taken over the row finding's images on which the column finding is known.

    Args:
        table: one row an image, a float column for each finding (1 present, 0 absent, NaN unknown).
        findings: columns of `table`.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_cooccurrence_figure(table, findings, title), path)


def _cooccurrence_figure(table: pd.DataFrame, findings: Sequence[str], title: str) -> Figure:
    values = table[list(findings)].to_numpy(dtype=float)
    counts = cooccurrence_counts(table, findings).to_numpy()
    known = (values == 1).astype(np.int64).T @ (~np.isnan(values)).astype(np.int64)
    shares = np.divide(100.0 * counts, known, out=np.full(counts.shape, np.nan), where=known > 0)

    cell, size = (0.5, 8.5) if len(findings) <= 20 else (0.36, 6.0)
    names, _ = labels([shown(name) for name in findings])
    side, name = (
        max(cell * len(findings), 2.2),
        0.08 * max((len(line) for n in names for line in n.split("\n")), default=0),
    )
    figure = blank(2 * (side + name + 1.4), side + name + 1.2)
    left, right = figure.subplots(1, 2)
    log = LogNorm(1, max(counts.max(initial=0), 2))
    _annotated(left, np.where(counts > 0, counts, np.nan), log, [f"{count}" for count in counts.flat], size)
    written = ["" if np.isnan(share) else f"{share:.0f}" for share in shares.flat]
    _annotated(right, shares, Normalize(0, 100), written, size)
    left.set_title("images that bear both", fontsize=11)
    right.set_title("% of the row's images\nthat also bear the column", fontsize=11)
    figure.colorbar(left.images[0], ax=left, fraction=0.05, label="images (log scale)", format="{x:,.0f}")
    figure.colorbar(right.images[0], ax=right, fraction=0.05, label="% of the row's images")
    for axes in (left, right):
        axes.set_xticks(range(len(findings)), names, rotation=90)
        axes.set_yticks(range(len(findings)), names)
    heading(figure, title or "Findings on the same image")
    return figure


def _annotated(axes: Axes, values: NDArray[np.float64], norm: Normalize, texts: Sequence[str], size: float) -> None:
    """A square of coloured cells with `texts` (row after row) upon them, dark on light cells and light on dark."""
    colours = colormaps["cividis"].with_extremes(bad="0.92")
    axes.imshow(values, cmap=colours, norm=norm, interpolation="nearest")
    painted = colours(norm(np.ma.masked_invalid(values)))
    light = painted[..., :3] @ (0.2126, 0.7152, 0.0722) > 0.45
    for (row, column), text in zip(np.ndindex(values.shape), texts, strict=True):
        ink = "black" if light[row, column] else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
    axes.tick_params(length=0)


@picture
def roc_curves(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws a panel for every finding's ROC curve, from the best AUROC to the worst, and names their macro average.

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown and left out of that finding's curve.
        score: (N, L), higher for present.
        findings: L names; the panel of one that lacks positive or negative images comes last and says so.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_roc_curves_figure(target, score, findings, title), path)


def _roc_curves_figure(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], title: str
) -> Figure:
    areas = auroc(target, score)
    figure, panels = small_multiples(len(findings))
    for axes, i in zip(panels, np.argsort(-areas, kind="stable"), strict=True):  # NaN is sorted last
        area = "undefined" if np.isnan(areas[i]) else f"{areas[i]:.3f}"
        axes.set_title(f"{wrapped(shown(findings[i]), 22)}\nAUROC {area}", fontsize=9)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        count_positives(axes, target[:, i], 0.08)
        if not np.isnan(areas[i]):
            fpr, tpr, _ = roc_curve(target[:, i], score[:, i])
            axes.plot(fpr, tpr, color=COLOURS[0], linewidth=1.6)
            axes.fill_between(fpr, tpr, color=COLOURS[0], alpha=0.08, linewidth=0)
    unit_square(panels)
    below(figure, "false positive rate (1 − specificity)")
    figure.supylabel("true positive rate (sensitivity)", fontsize=10)
    defined = int((~np.isnan(areas)).sum())
    average = f"{macro(areas):.3f}, over {defined} of {len(findings)} findings" if defined else "undefined"
    heading(figure, title or "ROC curve of each finding", f"macro average AUROC {average}")
    return figure


@picture
def comparison(table: pd.DataFrame, path: Path, title: str = "") -> None:
    """Draws the AUROC of several models or ensembles side by side: findings down, one marker a column of `table`.

    Args:
        table: (findings and, last, "macro average") by models, AUROC; NaN is not drawn.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_comparison_figure(table, title), path)


def _comparison_figure(table: pd.DataFrame, title: str) -> Figure:
    rows, models = len(table), [str(name) for name in table.columns]
    values = table.to_numpy(dtype=float)
    averaged = rows > 1 and table.index[-1] == MACRO_AVERAGE
    at = np.arange(rows) + 0.3 * (np.arange(rows) == rows - 1) * averaged
    names, lines = labels([shown(str(name)) for name in table.index])
    height = max(0.14 + 0.18 * lines, 0.085 * len(models))
    figure = blank(9, 2.2 + height * rows + 0.2 * len(models))
    axes = plain(figure.add_subplot())
    for y in at[::2]:
        axes.axhspan(y - 0.5, y + 0.5, color="0.95", linewidth=0, zorder=0)
    shift = np.linspace(-0.3, 0.3, len(models)) if len(models) > 1 else np.zeros(1)
    for i, model in enumerate(models):
        colour, mark = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        label = f"{model} ({values[-1, i]:.3f})" if averaged else model
        axes.plot(values[:, i], at + shift[i], color=colour, marker=mark, linestyle="", markersize=6, label=label)
    for y in at[np.isnan(values).all(axis=1)]:
        axes.annotate("undefined", (0.5, y), xycoords=("axes fraction", "data"), ha="center", va="center", color="0.4")
    if averaged:
        axes.axhline(at[-1] - 0.65, color="black", linewidth=1)
    if (values < 0.55).any():
        axes.axvline(0.5, color="0.5", linewidth=1, linestyle="--", zorder=1)
    axes.set_yticks(at, names)
    axes.set_ylim(at[-1] + 0.6, -0.6)
    axes.grid(axis="x", color="0.88", linewidth=0.6)
    axes.set_xlabel("AUROC" + (" (0.5 is chance)" if (values < 0.55).any() else ""))
    handles = axes.get_lines()[: len(models)]
    said = [wrapped(str(line.get_label()), 80) for line in handles]
    heading_of = "macro average in brackets" if averaged else None
    columns = legend_columns(figure, said)
    figure.legend(handles, said, loc="outside lower center", ncols=columns, frameon=False, title=heading_of)
    heading(figure, title or "AUROC of each finding")
    return figure
