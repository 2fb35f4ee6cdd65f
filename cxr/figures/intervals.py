"""Charts with one row per finding or group: AUROC with intervals, subgroups, and models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr.errors import counted
from cxr.figures.canvas import COLOURS, MARKERS, heading, legend_columns, plain, readable, rows_figure, wrapped
from cxr.figures.tables import MACRO
from cxr.metrics.plain import interval_of, value_of

_Row = tuple[str, object, str, str]  # label, number of `metrics.json`, text on the right, colour


def forest(test: Mapping[str, Any], findings: Sequence[str], name: str) -> Figure:
    """AUROC of every finding with its interval, highest first, and the macro average below a line.

    A value without an interval has a hollow marker. If some findings have too few patients for an interval, the mean
    over the others is shown as well.

    Args:
        test: of `metrics.json`, with intervals.
        findings: L names.
    """
    areas = test["auroc"]
    drawn = sorted((k for k in findings if areas[k] is not None), key=lambda k: value_of(areas[k]), reverse=True)
    rows = [(readable(k), areas[k], f"  {test['positives'][k]} positive", COLOURS[0]) for k in drawn]
    rows.append((MACRO, test["macro_auroc"], "", "black"))
    about = test.get("intervals", {})
    supported = about.get("macro_of_supported", {}).get("auroc")
    if supported is not None:
        rows.append((f"{MACRO} ({about['fewest_patients']}+ patients each)", supported, "", "black"))
    figure = _interval_rows(rows, "AUROC")
    figure.axes[0].axvline(0.5, color="0.6", linewidth=1)
    figure.axes[0].axhline(len(drawn) - 0.5, color="0.5", linewidth=0.8)
    heading(figure, f"AUROC with intervals: {name}")
    return figure


def subgroup_points(divisions: Mapping[str, Any], name: str) -> Figure:
    """Macro AUROC of every group with its interval, grouped by attribute.

    A group with too few patients for every finding has no marker; a value without an interval has a hollow one.

    Args:
        divisions: `subgroups` of `metrics.json`.
    """
    rows = []
    for number, (attribute, about) in enumerate(divisions.items()):
        for group_name, group in about["groups"].items():
            patients = f" {counted(group['patients'], 'patient')}"
            label, colour = f"{attribute}: {group_name}", COLOURS[number % len(COLOURS)]
            rows.append((label, group["macro_auroc"], f" {patients}", colour))
    figure = _interval_rows(rows, "macro AUROC")
    heading(figure, f"AUROC of subgroups: {name}")
    return figure


def transfer_points(rows: Sequence[Sequence[Any]]) -> Figure:
    """Macro AUROC of runs on their own test split and on other data sets, with intervals; a colour per run.

    Args:
        rows: run, data set, images, findings, macro AUROC as in `metrics.json`, and more.
    """
    runs = list(dict.fromkeys(row[0] for row in rows))
    drawn = [
        (f"{run} on {place}", area, f"  {counted(findings, 'finding')}", COLOURS[runs.index(run) % len(COLOURS)])
        for run, place, _, findings, area, *_ in rows
    ]
    figure = _interval_rows(drawn, "macro AUROC")
    heading(figure, "Runs on other data sets")
    return figure


def _interval_rows(rows: Sequence[_Row], x_label: str) -> Figure:
    figure, ticks = rows_figure([row[0] for row in rows], 8.0, 1.8)
    axes = plain(figure.add_subplot())
    hollow = False
    for y, (_, number, text, colour) in enumerate(rows):
        value, low, high = interval_of(number)
        if not np.isnan(value):
            alone = np.isnan(low)
            hollow |= bool(alone)
            axes.plot([low, high], [y, y], color=colour, linewidth=2)
            axes.plot(
                [value], [y], marker="o", color=colour, markerfacecolor="white" if alone else colour, markersize=5
            )
        shown = "too few patients:" if np.isnan(value) else f"{value:.3f}"
        axes.annotate(f"{shown}{text}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.axhline(y, color="0.94", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(rows)), ticks)
    axes.set_ylim(len(rows) - 0.3, -0.7)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.set_xlabel(f"{x_label}, 95 % interval over patients" + "; hollow: no interval" * hollow)
    return figure


def comparison(table: pd.DataFrame, name: str) -> Figure:
    """AUROC of several models or ensembles side by side: a row per finding, a marker per column of `table`.

    Args:
        table: findings and, last, "macro average" by models, AUROC; NaN is not drawn.
    """
    rows, models = len(table), [str(model) for model in table.columns]
    values = table.to_numpy(dtype=float)
    at = np.arange(rows) + 0.3 * (np.arange(rows) == rows - 1)
    figure, ticks = rows_figure(
        [readable(str(row)) for row in table.index], 9, 2.2 + 0.2 * len(models), 0.085 * len(models)
    )
    axes = plain(figure.add_subplot())
    for y in at[::2]:
        axes.axhspan(y - 0.5, y + 0.5, color="0.95", linewidth=0, zorder=0)
    shift = np.linspace(-0.3, 0.3, len(models)) if len(models) > 1 else np.zeros(1)
    for k in range(len(models)):
        colour, mark = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        axes.plot(values[:, k], at + shift[k], color=colour, marker=mark, linestyle="", markersize=6)
    handles = axes.get_lines()
    for y in at[np.isnan(values).all(axis=1)]:
        axes.annotate("undefined", (0.5, y), xycoords=("axes fraction", "data"), ha="center", va="center", color="0.4")
    axes.axhline(at[-1] - 0.65, color="black", linewidth=1)
    chance = bool((values < 0.55).any())
    if chance:
        axes.axvline(0.5, color="0.5", linewidth=1, linestyle="--", zorder=1)
    axes.set_yticks(at, ticks)
    axes.set_ylim(at[-1] + 0.6, -0.6)
    axes.grid(axis="x", color="0.88", linewidth=0.6)
    axes.set_xlabel("AUROC" + " (0.5 is chance)" * chance)
    labels = [wrapped(f"{model} ({mean:.3f})", 80) for model, mean in zip(models, values[-1], strict=True)]
    columns = legend_columns(figure, labels)
    title = "macro average in parentheses"
    figure.legend(list(handles), labels, loc="outside lower center", ncols=columns, frameon=False, title=title)
    heading(figure, f"AUROC of each finding: {name}")
    return figure
