"""Prevalence and co-occurrence: drawn counts and shares equal a count by hand."""

from cxr.figures import labels
from tests.figures.drawing import LABELS


def test_prevalence_bars_count_known_positives_of_each_split() -> None:
    figure = labels.prevalence(LABELS, ["A", "Pleural_B", "C"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "Pleural B", "C", "No Finding"]
    bars = {bar.get_label(): [int(patch.get_width()) for patch in bar] for bar in axes.containers}
    assert bars == {"train": [1, 2, 0, 0], "val": [1, 0, 0, 0], "test": [0, 0, 0, 1]}
    assert [text.get_text().strip() for text in axes.texts] == ["2 (40.0%)", "2 (40.0%)", "0 (0.0%)", "1 (20.0%)"]


def test_prevalence_bars_of_the_splits_follow_each_other() -> None:
    train, val, test = labels.prevalence(LABELS, ["A", "C"]).axes[0].containers
    for first, second, third in zip(train, val, test, strict=True):
        assert second.get_x() == first.get_width()
        assert third.get_x() == first.get_width() + second.get_width()


def test_prevalence_sorts_by_total_and_keeps_no_finding_last() -> None:
    table = LABELS.drop(columns="split")
    axes = labels.prevalence(table, ["C", "No Finding", "A"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "C", "No Finding"]
    assert [int(bar.get_width()) for bar in axes.containers[0]] == [3, 1, 2]
    assert axes.yaxis_inverted()


def test_cooccurrence_shares_are_of_the_rows_images_where_the_column_is_known() -> None:
    left, right = labels.cooccurrence(LABELS, ["A", "Pleural_B", "C"], "").axes[:2]
    assert [text.get_text() for text in left.texts] == ["3", "2", "1", "2", "3", "1", "1", "1", "1"]
    # Of A's three images two bear B; of B's three, A is unknown on one, and two of the other two bear it.
    assert [text.get_text() for text in right.texts] == ["100", "67", "33", "100", "100", "33", "100", "100", "100"]


def test_cooccurrence_leaves_shares_of_an_absent_finding_blank() -> None:
    table = LABELS.assign(C=0.0)
    left, right = labels.cooccurrence(table, ["A", "C"], "").axes[:2]
    assert [text.get_text() for text in left.texts] == ["3", "0", "0", "0"]
    assert [text.get_text() for text in right.texts] == ["100", "0", "", ""]
