"""Pictures with intervals: a value that has none does not look exact."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxr.figures import intervals
from tests.figures.drawing import NAN, points, texts

WITH = {"value": 0.8, "ci": [0.7, 0.9]}


def markers(figure: Figure) -> dict[float, bool]:
    """Height of each marker to whether it is filled."""
    lines = [line for line in figure.findobj(Line2D) if line.get_marker() == "o"]
    return {points(line)[0, 1]: line.get_markerfacecolor() == line.get_color() for line in lines}


def test_findings_without_an_interval_are_hollow_and_the_mean_of_the_others_is_drawn() -> None:
    test: dict[str, Any] = {
        "auroc": {"A": WITH, "B": 0.9, "C": None}, "macro_auroc": 0.85, "positives": {"A": 20, "B": 2, "C": 0},
        "intervals": {"fewest_patients": 5, "macro_of_supported": {"auroc": WITH}},
    }  # fmt: skip
    figure = intervals.forest(test, ["A", "B", "C"], "a")
    assert markers(figure) == {0: False, 1: True, 2: False, 3: True}
    ticks = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert ticks == ["B", "A", "macro average", "macro average (5+ patients each)"]
    assert {"0.900  2 positive", "AUROC, 95 % interval over patients; hollow: no interval"} <= set(texts(figure))
    figure = intervals.forest({**test, "auroc": {"A": WITH}, "macro_auroc": WITH, "intervals": {}}, ["A"], "a")
    assert markers(figure) == {0: True, 1: True} and not any("hollow" in text for text in texts(figure))


def test_groups_of_too_few_patients_are_named_and_not_drawn() -> None:
    groups = {
        "F": {"n": 90, "patients": 40, "macro_auroc": WITH},
        "M": {"n": 90, "patients": 1, "macro_auroc": None},
        "X": {"n": 9, "patients": 8, "macro_auroc": 1.0},
    }
    figure = intervals.subgroup_points({"sex": {"groups": groups}}, "a")
    assert markers(figure) == {0: True, 2: False}
    assert {"too few patients:  1 patient", "0.800  40 patients", "1.000  8 patients"} <= set(texts(figure))


def test_comparison_draws_each_model_at_its_values_beside_its_finding() -> None:
    table = pd.DataFrame({"x": [0.9, NAN, 0.9], "y": [0.8, NAN, 0.8]}, index=["A", "Pleural_B", "macro average"])
    figure = intervals.comparison(table, "")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "Pleural B", "macro average"]
    assert axes.yaxis_inverted()
    x, y, separator = axes.get_lines()[:3]
    np.testing.assert_array_equal(x.get_xdata(), table["x"])
    np.testing.assert_array_equal(y.get_xdata(), table["y"])
    ticks = axes.get_yticks()
    assert (np.abs(np.asarray(x.get_ydata()) - ticks) < 0.5).all()
    assert ticks[1] < np.asarray(separator.get_ydata())[0] < ticks[2]
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    assert {"x (0.900)", "y (0.800)"} <= set(texts(figure))
