"""Pictures with intervals: a value that has none does not look exact."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cxr.figures import intervals
from tests.figures.drawing import points, texts

WITH = {"value": 0.8, "ci": [0.7, 0.9]}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(intervals, "save", lambda figure, path: figures.append(figure))
    return figures


def markers(figure: Figure) -> dict[float, bool]:
    """Height of each marker to whether it is filled."""
    lines = [line for line in figure.findobj(Line2D) if line.get_marker() == "o"]
    return {points(line)[0, 1]: line.get_markerfacecolor() == line.get_color() for line in lines}


def test_findings_without_an_interval_are_hollow_and_their_mean_stands_beside_that_of_the_others(
    drawn: list[Figure],
) -> None:
    test: dict[str, Any] = {
        "auroc": {"A": WITH, "B": 0.9, "C": None}, "macro_auroc": 0.85, "positives": {"A": 20, "B": 2, "C": 0},
        "intervals": {"fewest_patients": 5, "macro_of_supported": {"auroc": WITH}},
    }  # fmt: skip
    intervals.forest(test, ["A", "B", "C"], Path("unused.png"))
    assert markers(drawn[0]) == {0: True, 1: False, 2: True, 3: False}
    said = texts(drawn[0])
    assert any("".join(text.split()) == "macroaverage(5+patientseach)" for text in said) and any(
        "hollow: no interval" in text for text in said
    )
    assert "0.900  2 positive" in said
    intervals.forest({**test, "auroc": {"A": WITH}, "macro_auroc": WITH, "intervals": {}}, ["A"], Path("unused.png"))
    assert all(markers(drawn[1]).values()) and not any("hollow" in text for text in texts(drawn[1]))


def test_groups_of_too_few_patients_are_named_and_not_drawn(drawn: list[Figure]) -> None:
    groups = {
        "F": {"n": 90, "patients": 40, "macro_auroc": WITH},
        "M": {"n": 90, "patients": 1, "macro_auroc": None},
        "X": {"n": 9, "patients": 8, "macro_auroc": 1.0},
    }
    intervals.subgroup_points({"sex": {"groups": groups}}, Path("unused.png"))
    assert markers(drawn[0]) == {2: True, 0: False}
    assert {"not judged 1 patient", "0.800  40 patients", "1.000  8 patients"} <= set(texts(drawn[0]))
