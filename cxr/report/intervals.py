"""Pictures of an evaluation: intervals of every finding, reliability, precision and recall, subgroups."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cxr.metrics.auroc import average_precision, macro
from cxr.metrics.calibration import expected_calibration_error, reliability_curves
from cxr.metrics.curves import precision_recall_curve
from cxr.report.canvas import COLOURS, DASHES, blank, heading, note, plain, save, shown
from cxr.report.results import WithInterval

_ACROSS = 5  # small pictures in a row
_HOLLOW = "; hollow: no interval"


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
    areas = {name: WithInterval.of(test["auroc"][name]) for name in findings}
    drawn = sorted((name for name in findings if not np.isnan(areas[name].value)), key=lambda name: areas[name].value)
    about = test.get("intervals", {})
    means = [("macro average", WithInterval.of(test["macro_auroc"]))]
    supported = about.get("macro_of_supported", {}).get("auroc")
    if supported is not None:
        fewest = about["fewest_patients"]
        means.insert(0, (f"macro average\n({fewest}+ patients each)", WithInterval.of(supported)))
    rows = [*means, *((shown(name), areas[name]) for name in drawn)]
    figure = blank(8.0, 2.0 + 0.28 * len(rows))
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
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel("AUROC, 95 % interval over patients" + _HOLLOW * any(np.isnan(area.low) for _, area in rows))
    heading(figure, title or "AUROC with intervals")
    save(figure, path)


def _bar(axes: Axes, area: WithInterval, height: float, colour: str) -> None:
    """The value and its interval; hollow where there is none, so that it does not look exact."""
    if not np.isnan(area.low):
        axes.plot([area.low, area.high], [height, height], color=colour, linewidth=2)
    inside = "white" if np.isnan(area.low) else colour
    axes.plot([area.value], [height], marker="o", color=colour, markerfacecolor=inside, markersize=5)


def reliability(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws how often each finding is there against how likely the scores call it, in bins of equal numbers of images.

    Args:
        target: (N, L), NaN unknown.
        score: (N, L), probabilities.
        findings: L names.
        path: the PNG to write.
        title: replaces the default heading.
    """
    curves = reliability_curves(target, score, equal="mass")
    errors = expected_calibration_error(target, score)
    across = min(_ACROSS, len(findings))
    down = ceil(len(findings) / across)
    figure = blank(max(5.0, 2.3 * across), 0.9 + 2.4 * down)
    for position, (name, curve) in enumerate(zip(findings, curves, strict=True)):
        axes = plain(figure.add_subplot(down, across, position + 1))
        end = max([0.05, *curve.score, *curve.prevalence]) * 1.05
        axes.plot([0, end], [0, end], color="0.6", linewidth=1)
        axes.plot(curve.score, curve.prevalence, color=COLOURS[0], marker="o", markersize=3, linewidth=1.2)
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        said = "" if np.isnan(errors[position]) else f"\nECE {errors[position]:.3f}"
        axes.set_title(f"{shown(name)}{said}", fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("mean score of a bin", fontsize=9)
    figure.supylabel("share of images with the finding", fontsize=9)
    heading(figure, title or "Reliability")
    save(figure, path)


def precision_recall_curves(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws every finding's precision-recall curve, named with its average precision and its prevalence.

    Args:
        target: (N, L), NaN unknown.
        score: (N, L), higher for present.
        findings: L names; one without a positive or a negative image is named below the axes instead of drawn.
        path: the PNG to write.
        title: replaces the default heading.
    """
    save(_precision_recall_figure(target, score, findings, title), path)


def _precision_recall_figure(
    target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str], title: str
) -> Figure:
    values = average_precision(target, score)
    defined = [i for i in np.argsort(-values, kind="stable") if not np.isnan(values[i])]
    figure = blank(9.5, max(6.8, 1.6 + 0.2 * len(findings)))
    axes = plain(figure.add_subplot())
    for i in defined:
        precision, recall, _ = precision_recall_curve(target[:, i], score[:, i])
        share = float(np.nanmean(target[:, i]))
        label = f"{shown(findings[i])}  {values[i]:.3f} of {share:.3f}"
        dash = DASHES[i % len(DASHES)]
        axes.plot(recall, precision, color=COLOURS[i % len(COLOURS)], linestyle=dash, linewidth=1.4, label=label)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision (positive predictive value)")
    if defined:
        figure.legend(
            title="average precision, of prevalence", loc="outside right center", handlelength=4, fontsize=9,
            frameon=False,
        )  # fmt: skip
    average = f"{macro(values):.3f}" if defined else "undefined"
    heading(figure, title or "Precision and recall", f"macro average precision {average}")
    missing = [shown(name) for name, value in zip(findings, values, strict=True) if np.isnan(value)]
    if missing:
        note(figure, f"Not drawn, for want of positive or of negative images: {', '.join(missing)}.")
    return figure


def subgroup_points(divisions: Mapping[str, Any], path: Path, title: str = "") -> None:
    """Draws the macro AUROC of every group with its interval, attributes one below the other.

    A group whose findings all have too few patients is named without a value, and a value without an interval has a
    hollow marker.

    Args:
        divisions: `subgroups` of `metrics.json`.
        path: the PNG to write.
        title: replaces the default heading.
    """
    rows = [
        (f"{attribute}: {name}", group["patients"], WithInterval.of(group["macro_auroc"]), attribute)
        for attribute, about in divisions.items()
        for name, group in about["groups"].items()
    ][::-1]
    figure = blank(8.0, 1.8 + 0.28 * max(3, len(rows)))
    axes = plain(figure.add_subplot())
    attributes = list(divisions)
    for height, (_, patients, area, attribute) in enumerate(rows):
        if not np.isnan(area.value):
            _bar(axes, area, height, COLOURS[attributes.index(attribute) % len(COLOURS)])
        said = "not judged" if np.isnan(area.value) else f"{area.value:.3f} "
        counted = f"{said} {patients} patient{'s' * (patients != 1)}"
        axes.annotate(counted, (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.axhline(height, color="0.94", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), [shown(row[0]) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    hollow = any(np.isnan(area.low) and not np.isnan(area.value) for _, _, area, _ in rows)
    axes.set_xlabel("macro AUROC, 95 % interval over patients" + _HOLLOW * hollow)
    heading(figure, title or "Subgroups")
    save(figure, path)
