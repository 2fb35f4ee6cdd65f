"""Panels for each finding: ROC curves, precision-recall curves and reliability diagrams."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from cxr.errors import counted
from cxr.figures.canvas import COLOURS, heading, panels, readable, wrapped
from cxr.metrics.auroc import auroc, average_precision, macro
from cxr.metrics.calibration import BIN, expected_calibration_error, reliability_bins
from cxr.metrics.curves import precision_recall_curve, roc_curve

_Floats = NDArray[np.floating]


def roc_curves(target: _Floats, score: _Floats, findings: Sequence[str], name: str) -> Figure:
    """A ROC curve for each finding, sorted by AUROC; findings without a defined AUROC come last, without a curve.

    Args:
        target: (N, L), 1 present, 0 absent, NaN unknown and left out of that finding's curve.
        score: (N, L), higher for present.
        findings: L names.
    """
    areas = auroc(target, score)
    order = np.argsort(-areas, kind="stable")  # NaN last
    labels = ("false positive rate (1 − specificity)", "true positive rate (sensitivity)")
    figure, grid = panels([_title(findings[k], "AUROC", areas[k], target[:, k]) for k in order], *labels)
    for axes, k in zip(grid, order, strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        if not np.isnan(areas[k]):
            fpr, tpr, _ = roc_curve(target[:, k], score[:, k])
            axes.plot(fpr, tpr, color=COLOURS[0], linewidth=1.6)
            axes.fill_between(fpr, tpr, color=COLOURS[0], alpha=0.08, linewidth=0)
    _limit_to_unit_square(grid)
    heading(figure, f"ROC curves: {name}", _macro("macro average AUROC", areas))
    return figure


def precision_recall_curves(target: _Floats, score: _Floats, findings: Sequence[str], name: str) -> Figure:
    """A precision-recall curve for each finding, sorted by average precision; dashed: the finding's prevalence.

    Arguments as in `roc_curves`.
    """
    values = average_precision(target, score)
    order = np.argsort(-values, kind="stable")  # NaN last
    labels = ("recall (sensitivity); dashed: the finding's prevalence", "precision (positive predictive value)")
    figure, grid = panels([_title(findings[k], "AP", values[k], target[:, k]) for k in order], *labels)
    for axes, k in zip(grid, order, strict=True):
        if not np.isnan(values[k]):
            precision, recall, _ = precision_recall_curve(target[:, k], score[:, k])
            axes.axhline(float(np.nanmean(target[:, k])), color="0.6", linewidth=0.8, linestyle="--")
            axes.plot(recall, precision, color=COLOURS[0], linewidth=1.4, drawstyle="steps-pre")
    _limit_to_unit_square(grid)
    heading(figure, f"Precision-recall curves: {name}", _macro("macro average precision (AP)", values))
    return figure


def reliability(target: _Floats, score: _Floats, findings: Sequence[str], name: str, patient: NDArray[Any]) -> Figure:
    """A reliability diagram for each finding: observed frequency against mean score, see `reliability_bins`.

    Args:
        target: (N, L), NaN unknown.
        score: (N, L), probabilities.
        findings: L names.
        patient: (N,), each image's patient.
    """
    curves = reliability_bins(target, score, patient)
    errors = expected_calibration_error(target, score)
    end = 1.04 * min(1.0, max([0.05, *(value for curve in curves for value in (*curve.score, *curve.high))]))
    titles = [_title(*each) for each in zip(findings, ["ECE"] * len(errors), errors, target.T, strict=True)]
    x_label = f"mean score of a bin (of at least {BIN} images, where there are as many); bars: 95 % intervals"
    figure, grid = panels(titles, x_label, "share of images with the finding")
    for axes, curve in zip(grid, curves, strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        reach = np.stack([curve.prevalence - curve.low, curve.high - curve.prevalence]).clip(min=0)
        axes.errorbar(
            curve.score, curve.prevalence, reach, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.2,
            elinewidth=0.9, capsize=2,
        )  # fmt: skip
        axes.set(xlim=(-0.02 * end, end), ylim=(-0.02 * end, end))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    heading(figure, f"Reliability diagrams: {name}")
    return figure


def _title(finding: str, metric: str, value: float, target: _Floats) -> str:
    """The title of a panel: the finding, its metric, and how many of its known labels (N,) are positive."""
    shown = "undefined" if np.isnan(value) else f"{value:.3f}"
    counts = f"{int((target == 1).sum()):,} of {int((~np.isnan(target)).sum()):,} positive"
    return f"{wrapped(readable(finding), 24)}\n{metric} {shown}\n{counts}"


def _macro(name: str, values: NDArray[np.float64]) -> str:
    defined = int((~np.isnan(values)).sum())
    shown = f"{macro(values):.3f}, over {defined} of {counted(len(values), 'finding')}" if defined else "undefined"
    return f"{name} {shown}"


def _limit_to_unit_square(grid: Sequence[Axes]) -> None:
    for axes in grid:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
