"""Pictures of an evaluation: intervals of every finding, reliability, precision and recall, subgroups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cxr.figures.canvas import (
    COLOURS,
    below,
    blank,
    count_positives,
    heading,
    labels,
    picture,
    plain,
    save,
    shown,
    small_multiples,
    unit_square,
    wrapped,
)
from cxr.figures.results import WithInterval
from cxr.metrics.auroc import average_precision, macro
from cxr.metrics.calibration import BIN, expected_calibration_error, reliability_bins
from cxr.metrics.curves import precision_recall_curve

_HOLLOW = "; hollow: no interval"


@picture
def forest(test: Mapping[str, Any], findings: Sequence[str], path: Path, title: str = "") -> None:
    """Draws the AUROC of every finding with its interval, best above, the macro average below a line.

    A value without an interval has a hollow marker. If the macro average has none for want of patients of some
    findings, the mean over the others stands beside it.

    Args:
        test: of `metrics.json`, with intervals.
        findings: L names.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_forest_figure(test, findings, title), path)


def _forest_figure(test: Mapping[str, Any], findings: Sequence[str], title: str) -> Figure:
    areas = {name: WithInterval.of(test["auroc"][name]) for name in findings}
    drawn = sorted((name for name in findings if not np.isnan(areas[name].value)), key=lambda name: areas[name].value)
    about = test.get("intervals", {})
    means = [("macro average", WithInterval.of(test["macro_auroc"]))]
    supported = about.get("macro_of_supported", {}).get("auroc")
    if supported is not None:
        means.insert(0, (f"macro average ({about['fewest_patients']}+ patients each)", WithInterval.of(supported)))
    rows = [*means, *((shown(name), areas[name]) for name in drawn)]
    names, lines = labels([name for name, _ in rows])
    figure = blank(8.0, 1.8 + (0.1 + 0.18 * lines) * len(rows))
    axes = plain(figure.add_subplot())
    for height, (_, area) in enumerate(rows):
        below = height < len(means)
        _bar(axes, area, height, "black" if below else COLOURS[0])
        positives = "" if below else f"  {test['positives'][drawn[height - len(means)]]} positive"
        axes.annotate(
            f"{area.value:.3f}{positives}", (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
        axes.axhline(height, color="0.94", linewidth=0.6, zorder=0)
    axes.axvline(0.5, color="0.6", linewidth=1)
    axes.axhline(len(means) - 0.5, color="0.5", linewidth=0.8)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.set_xlabel("AUROC, 95 % interval over patients" + _HOLLOW * any(np.isnan(area.low) for _, area in rows))
    heading(figure, title or "AUROC with intervals")
    return figure


def _bar(axes: Axes, area: WithInterval, height: float, colour: str) -> None:
    """The value and its interval; hollow where there is none, so that it does not look exact."""
    if not np.isnan(area.low):
        axes.plot([area.low, area.high], [height, height], color=colour, linewidth=2)
    inside = "white" if np.isnan(area.low) else colour
    axes.plot([area.value], [height], marker="o", color=colour, markerfacecolor=inside, markersize=5)


@picture
def reliability(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    findings: Sequence[str],
    path: Path,
    title: str = "",
    patient: NDArray[Any] | None = None,
) -> None:
    """Draws how often each finding is there against how likely the scores call it, see `reliability_bins`.

    Args:
        target: (N, L), NaN unknown.
        score: (N, L), probabilities.
        findings: L names.
        path: the PNG to write.
        title: replaces the default heading.
        patient: (N,), whose image each is; every image is a patient of its own if not given.
    """
    save(_reliability_figure(target, score, findings, title, patient), path)


def _reliability_figure(
    target: NDArray[np.floating],
    score: NDArray[np.floating],
    findings: Sequence[str],
    title: str,
    patient: NDArray[Any] | None,
) -> Figure:
    curves = reliability_bins(target, score, np.arange(len(target)) if patient is None else patient)
    errors = expected_calibration_error(target, score)
    end = 1.04 * min(1.0, max([0.05, *(value for curve in curves for value in (*curve.score, *curve.high))]))
    figure, panels = small_multiples(len(findings))
    for axes, name, curve, error, column in zip(panels, findings, curves, errors, target.T, strict=True):
        said = "undefined" if np.isnan(error) else f"{error:.3f}"
        axes.set_title(f"{wrapped(shown(name), 22)}\nECE {said}", fontsize=9)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        reach = np.stack([curve.prevalence - curve.low, curve.high - curve.prevalence]).clip(min=0)
        axes.errorbar(
            curve.score, curve.prevalence, reach, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.2,
            elinewidth=0.9, capsize=2,
        )  # fmt: skip
        count_positives(axes, column, 0.06)
        axes.set_xlim(-0.02 * end, end)
        axes.set_ylim(-0.02 * end, end)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
    below(figure, f"mean score of a bin (of {BIN} images or more, where there are as many); bars: 95 % intervals")
    figure.supylabel("share of images with the finding", fontsize=10)
    heading(figure, title or "Reliability")
    return figure


@picture
def precision_recall_curves(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws a panel for every finding's precision-recall curve, the best average precision first; dashed: prevalence.

    Args:
        target: (N, L), NaN unknown.
        score: (N, L), higher for present.
        findings: L names; the panel of one without a positive or a negative image comes last and says so.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_precision_recall_figure(target, score, findings, title), path)


def _precision_recall_figure(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], title: str
) -> Figure:
    values = average_precision(target, score)
    figure, panels = small_multiples(len(findings))
    for axes, i in zip(panels, np.argsort(-values, kind="stable"), strict=True):  # NaN is sorted last
        said = "undefined" if np.isnan(values[i]) else f"{values[i]:.3f}"
        axes.set_title(f"{wrapped(shown(findings[i]), 22)}\nAP {said}", fontsize=9)
        count_positives(axes, target[:, i], 0.92)
        if not np.isnan(values[i]):
            precision, recall, _ = precision_recall_curve(target[:, i], score[:, i])
            axes.axhline(np.nanmean(target[:, i]), color="0.6", linewidth=0.8, linestyle="--")
            axes.plot(recall, precision, color=COLOURS[0], linewidth=1.4, drawstyle="steps-pre")
    unit_square(panels)
    below(figure, "recall (sensitivity); dashed: the finding's prevalence")
    figure.supylabel("precision (positive predictive value)", fontsize=10)
    average = "undefined" if np.isnan(values).all() else f"{macro(values):.3f}"
    heading(figure, title or "Precision and recall", f"macro average precision (AP) {average}")
    return figure


@picture
def subgroup_points(divisions: Mapping[str, Any], path: Path, title: str = "") -> None:
    """Draws the macro AUROC of every group with its interval, attributes one below the other.

    A group whose findings all have too few patients is named without a value, and a value without an interval has a
    hollow marker.

    Args:
        divisions: `subgroups` of `metrics.json`.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_subgroup_figure(divisions, title), path)


def _subgroup_figure(divisions: Mapping[str, Any], title: str) -> Figure:
    rows = [
        (f"{attribute}: {name}", group["patients"], WithInterval.of(group["macro_auroc"]), attribute)
        for attribute, about in divisions.items()
        for name, group in about["groups"].items()
    ][::-1]
    names, lines = labels([row[0] for row in rows], 34)
    figure = blank(8.0, 1.8 + (0.1 + 0.18 * lines) * max(3, len(rows)))
    axes = plain(figure.add_subplot())
    attributes = list(divisions)
    for height, (_, patients, area, attribute) in enumerate(rows):
        if not np.isnan(area.value):
            _bar(axes, area, height, COLOURS[attributes.index(attribute) % len(COLOURS)])
        said = "not judged" if np.isnan(area.value) else f"{area.value:.3f} "
        counted = f"{said} {patients} patient{'s' * (patients != 1)}"
        axes.annotate(counted, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.axhline(height, color="0.94", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    hollow = any(np.isnan(area.low) and not np.isnan(area.value) for _, _, area, _ in rows)
    axes.set_xlabel("macro AUROC, 95 % interval over patients" + _HOLLOW * hollow)
    heading(figure, title or "Subgroups")
    return figure
