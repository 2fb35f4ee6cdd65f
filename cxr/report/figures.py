"""Charts of the report: what the labels hold, how a model learnt, and how well models tell each finding.

Each public function takes arrays or tables and writes one PNG. The figure itself is built by a function of the same
name with `_..._figure` around it, so that tests read the drawn numbers rather than pixels. Pictures of radiographs and
of ensemble weights are in `cxr.report.maps`.
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

from cxr.errors import CxrError
from cxr.findings import NO_FINDING
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.curves import roc_curve
from cxr.report.canvas import COLOURS, DASHES, MARKERS, blank, heading, legend_columns, note, plain, save, shown

SPLITS = ("train", "val", "test")
MACRO_AVERAGE = "macro average"
_PANELS = {"loss": "loss", "macro_auroc": "macro AUROC", "accuracy": "accuracy"}
_PARTS = {"train": ("training", COLOURS[0], "-"), "val": ("validation", COLOURS[1], "--")}


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

    figure = blank(9, 1.6 + 0.28 * len(order))
    axes = plain(figure.add_subplot())
    left = np.zeros(len(order))
    for (split, counts), colour in zip(parts.items(), COLOURS, strict=False):
        axes.barh(at, counts[order], left=left, height=0.75, color=colour, label=split)
        left += counts[order]
    for y, total in zip(at, totals[order], strict=True):
        axes.text(total, y, f"  {total:,} ({total / max(len(table), 1):.1%})", va="center", fontsize=9)
    axes.axhline(len(findings) - 0.25, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(at, [shown([*findings, NO_FINDING][i]) for i in order])
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
    side, name = max(cell * len(findings), 2.2), 0.08 * max(map(len, findings), default=0)
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
        axes.set_xticks(range(len(findings)), [shown(finding) for finding in findings], rotation=90)
        axes.set_yticks(range(len(findings)), [shown(finding) for finding in findings])
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


def roc_curves(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws every finding's ROC curve, named with its AUROC from best to worst, and the macro average in the title.

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown and left out of that finding's curve.
        score: (N, L), higher for present.
        findings: L names; one that lacks positive or negative images is named below the axes instead of drawn.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_roc_curves_figure(target, score, findings, title), path)


def _roc_curves_figure(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], title: str
) -> Figure:
    areas = auroc(target, score)
    defined = [i for i in np.argsort(-areas, kind="stable") if not np.isnan(areas[i])]
    figure = blank(9.5, max(6.8, 1.6 + 0.2 * len(findings)))
    axes = plain(figure.add_subplot())
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance  0.500", zorder=1)
    for rank, i in enumerate(defined):
        fpr, tpr, _ = roc_curve(target[:, i], score[:, i])
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        label = f"{shown(findings[i])}  {areas[i]:.3f}"
        axes.plot(fpr, tpr, color=colour, linestyle=dash, linewidth=1.6, label=label, zorder=100 - rank)
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_xlabel("false positive rate (1 − specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    chance, *curves = axes.get_lines()
    figure.legend(
        handles=[*curves, chance], title="AUROC", loc="outside right center", handlelength=4, fontsize=9, frameon=False
    )
    average = f"{macro(areas):.3f}, over {len(defined)} of {len(findings)} findings" if defined else "undefined"
    heading(figure, title or "ROC curve of each finding", f"macro average AUROC {average}")
    undefined = [shown(finding) for finding, area in zip(findings, areas, strict=True) if np.isnan(area)]
    if undefined:
        note(figure, f"Not drawn, for want of positive or of negative images: {', '.join(undefined)}.")
    return figure


def learning_curves(log: pd.DataFrame, path: Path, title: str = "") -> None:
    """Draws training and validation against the epoch, the gap between them shaded, and the best epoch marked.

    Args:
        log: one row an epoch: `epoch` and any of `train/` and `val/` `loss`, `macro_auroc`, `accuracy`, and `lr`; NaN
            where a value was not taken.
        path: the PNG to write.
        title: replaces the default heading.

    Raises:
        CxrError: `log` has no value in any of these columns.
    """
    save(_learning_curves_figure(log, title), path)


def _learning_curves_figure(log: pd.DataFrame, title: str) -> Figure:
    log = log.sort_values("epoch").set_index("epoch")
    series = {str(name): log[name].dropna() for name in log if log[name].notna().any()}
    panels = [key for key in _PANELS if f"train/{key}" in series or f"val/{key}" in series]
    panels += ["lr"] if "lr" in series else []
    if not panels:
        raise CxrError(f"the log has no value to draw; its columns are {', '.join(map(str, log.columns)) or 'none'}")
    figure = blank(8.5, 1.4 + 2.4 * len(panels))
    columns = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    mark = "o" if len(log) <= 40 else ""
    for key, axes in zip(panels, columns, strict=True):
        plain(axes).grid(color="0.9", linewidth=0.6)
        if key == "lr":
            axes.plot(series["lr"], color="black", marker=mark, markersize=3)
            axes.set_ylabel("learning rate")
            axes.set_yscale("log" if 0 < 10 * series["lr"].min() < series["lr"].max() else "linear")
            continue
        axes.set_ylabel(_PANELS[key])
        for part, (name, colour, dash) in _PARTS.items():
            if f"{part}/{key}" in series:
                line = series[f"{part}/{key}"]
                axes.plot(line, color=colour, linestyle=dash, marker=mark, markersize=4, label=name)
        if f"train/{key}" in series and f"val/{key}" in series:
            _gap(axes, series[f"train/{key}"], series[f"val/{key}"])
    if "val/macro_auroc" in series:
        reached = series["val/macro_auroc"]
        label = f"best epoch {reached.idxmax():g} (validation macro AUROC {reached.max():.4f})"
        for axes in columns:
            axes.axvline(reached.idxmax(), color=COLOURS[2], linestyle=":", linewidth=1.8, label=label)
    columns[-1].set_xlabel("epoch")
    columns[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    if log.index.min() == log.index.max():
        columns[-1].set_xticks([log.index.min()])
    named = {label: handle for axes in columns for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False)
    heading(figure, title or "Learning curves")
    return figure


def _gap(axes: Axes, train: pd.Series, val: pd.Series) -> None:
    """Shades between two curves over the epochs that have both, and states the last difference above the axes."""
    both = train.index.intersection(val.index)
    if not len(both):
        return
    axes.fill_between(both, train[both], val[both], color="0.5", alpha=0.25, linewidth=0, label="gap")
    gap = train[both[-1]] - val[both[-1]]
    stated = f"{gap:+.4f}".replace("-", "−")
    axes.set_title(f"training − validation at epoch {both[-1]:g}: {stated}", loc="right", fontsize=9)


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
    height = max(0.32, 0.085 * len(models))
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
    axes.set_yticks(at, [shown(str(name)) for name in table.index])
    axes.set_ylim(at[-1] + 0.6, -0.6)
    axes.grid(axis="x", color="0.88", linewidth=0.6)
    axes.set_xlabel("AUROC" + (" (0.5 is chance)" if (values < 0.55).any() else ""))
    labels = [str(line.get_label()) for line in axes.get_lines()[: len(models)]]
    columns = legend_columns(figure, labels)
    handles = axes.get_lines()[: len(models)]
    heading_of = "macro average in brackets" if averaged else None
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, title=heading_of)
    heading(figure, title or "AUROC of each finding")
    return figure
