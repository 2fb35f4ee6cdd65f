"""The pictures of the report: what is drawn and written on them is what an independent count of the input says."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cxr.figures import canvas, figures, intervals, learning, maps
from cxr.findings import NIH14
from tests.figures.drawing import (
    GROUPS,
    LABELS,
    MANY,
    MODELS,
    NAN,
    auroc_table,
    case,
    grid_of_mixtures,
    judged,
    random_labels,
    random_log,
    texts,
)


def test_prevalence_bars_count_known_positives_of_each_split() -> None:
    figure = figures._prevalence_figure(LABELS, ["A", "Pleural_B", "C"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "Pleural B", "C", "No Finding"]
    bars = {bar.get_label(): [int(patch.get_width()) for patch in bar] for bar in axes.containers}
    assert bars == {"train": [1, 2, 0, 0], "val": [1, 0, 0, 0], "test": [0, 0, 0, 1]}
    assert [text.get_text().strip() for text in axes.texts] == ["2 (40.0%)", "2 (40.0%)", "0 (0.0%)", "1 (20.0%)"]


def test_prevalence_bars_of_the_splits_follow_each_other() -> None:
    train, val, test = figures._prevalence_figure(LABELS, ["A", "C"]).axes[0].containers
    for first, second, third in zip(train, val, test, strict=True):
        assert second.get_x() == first.get_width()
        assert third.get_x() == first.get_width() + second.get_width()


def test_prevalence_sorts_by_total_and_keeps_no_finding_last() -> None:
    table = LABELS.drop(columns="split")
    axes = figures._prevalence_figure(table, ["C", "No Finding", "A"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A", "C", "No Finding"]
    assert [int(bar.get_width()) for bar in axes.containers[0]] == [3, 1, 2]
    assert axes.yaxis_inverted()


def test_cooccurrence_counts_equal_a_hand_count() -> None:
    counts = figures.cooccurrence_counts(LABELS, ["A", "Pleural_B", "C"])
    assert counts.to_numpy().tolist() == [[3, 2, 1], [2, 3, 1], [1, 1, 1]]
    assert counts.dtypes.unique() == [np.int64]
    assert list(counts.index) == list(counts.columns) == ["A", "Pleural_B", "C"]


def test_cooccurrence_shares_are_of_the_rows_images_where_the_column_is_known() -> None:
    left, right = figures._cooccurrence_figure(LABELS, ["A", "Pleural_B", "C"], "").axes[:2]
    assert [text.get_text() for text in left.texts] == ["3", "2", "1", "2", "3", "1", "1", "1", "1"]
    # Of A's three images two bear B; of B's three, A is unknown on one, and two of the other two bear it.
    assert [text.get_text() for text in right.texts] == ["100", "67", "33", "100", "100", "33", "100", "100", "100"]


def test_cooccurrence_leaves_shares_of_an_absent_finding_blank() -> None:
    table = LABELS.assign(C=0.0)
    left, right = figures._cooccurrence_figure(table, ["A", "C"], "").axes[:2]
    assert [text.get_text() for text in left.texts] == ["3", "0", "0", "0"]
    assert [text.get_text() for text in right.texts] == ["100", "0", "", ""]


def test_comparison_draws_each_model_at_its_values_beside_its_finding() -> None:
    table = pd.DataFrame({"x": [0.9, NAN, 0.9], "y": [0.8, NAN, 0.8]}, index=["A", "Pleural_B", "macro average"])
    figure = figures._comparison_figure(table, "")
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


TARGET = random_labels(MANY).to_numpy()
RARE = np.where(np.arange(40) % 7, TARGET * 0.8, 0.02)
DRAWN: dict[str, Callable[[], Figure]] = {
    "prevalence of 40": lambda: figures._prevalence_figure(random_labels(MANY), MANY),
    "prevalence of 1": lambda: figures._prevalence_figure(LABELS, ["A"]),
    "co-occurrence of 14": lambda: figures._cooccurrence_figure(random_labels(list(NIH14)), NIH14, ""),
    "co-occurrence of 1": lambda: figures._cooccurrence_figure(LABELS, ["Pleural_B"], ""),
    "ROC of 21": lambda: figures._roc_curves_figure(TARGET[:, -21:], 1 - TARGET[:, -21:], MANY[-21:], "run " * 40),
    "ROC of 1": lambda: figures._roc_curves_figure(TARGET[:, :1], TARGET[:, 1:2], MANY[:1], ""),
    "precision of 14": lambda: intervals._precision_recall_figure(TARGET[:, :14], RARE[:, :14], NIH14, ""),
    "reliability of 14": lambda: intervals._reliability_figure(TARGET[:, :14], RARE[:, :14], NIH14, "", None),
    "reliability of 1": lambda: intervals._reliability_figure(TARGET[:, :1], RARE[:, :1], MANY[-1:], "run " * 40, None),
    "intervals of 40": lambda: intervals._forest_figure(judged(MANY), MANY, "run " * 40),
    "subgroups": lambda: intervals._subgroup_figure(GROUPS, ""),
    "learning of 30": lambda: learning._learning_curves_figure(random_log(30), "run " * 40),
    "learning of 1": lambda: learning._learning_curves_figure(random_log(1), ""),
    "comparison of 40": lambda: figures._comparison_figure(auroc_table(MANY), ""),
    "comparison of 1": lambda: figures._comparison_figure(auroc_table(["A"]).iloc[:, :1], ""),
    "ensemble of 2": lambda: maps._ensemble_landscape_figure(grid_of_mixtures(2), MODELS[:2], "AUROC"),
    "ensemble of 3": lambda: maps._ensemble_landscape_figure(grid_of_mixtures(3), MODELS[:3], "AUROC"),
    "ensemble of 5": lambda: maps._ensemble_landscape_figure(grid_of_mixtures(5), MODELS, "AUROC"),
    "attention": lambda: maps._attention_maps_figure([case(s, t) for s in (0.1, 0.9) for t in (0, 1, NAN)], ""),
}


@pytest.mark.parametrize("name", DRAWN)
def test_tick_labels_titles_and_legend_do_not_overlap(name: str) -> None:
    figure = DRAWN[name]()
    figure.canvas.draw()
    page = figure.bbox
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        drawn = [box.padded(-0.5) for box in labels if page.contains(box.x0, box.y0)]
        assert not any(one.overlaps(other) for one, other in combinations(drawn, 2))
    frames = [axes.get_window_extent() for axes in figure.axes]
    apart = [*figure.texts, *figure.legends]
    apart += [label for label in (figure._suptitle, figure._supxlabel) if label is not None and label not in apart]  # type: ignore[attr-defined]
    boxes = [artist.get_window_extent() for artist in apart]
    for box in boxes:
        assert page.x0 - 1 <= box.x0
        assert box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0
        assert box.y1 <= page.y1 + 1
        assert not any(box.overlaps(frame) for frame in frames)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_every_public_function_writes_the_same_picture_again(tmp_path: Path) -> None:
    target = TARGET[:, :2]
    image = np.zeros((8, 8), np.uint8)
    writers: dict[str, Callable[[Path], None]] = {
        "prevalence": lambda path: figures.prevalence(LABELS, ["A", "C"], path),
        "cooccurrence": lambda path: figures.cooccurrence(LABELS, ["A", "C"], path, "title"),
        "roc_curves": lambda path: figures.roc_curves(target, target, ["A", "C"], path, "title"),
        "learning_curves": lambda path: learning.learning_curves(random_log(3), path, "title"),
        "comparison": lambda path: figures.comparison(auroc_table(["A"]), path, "title"),
        "attention_maps": lambda path: maps.attention_maps([case()], path, "title"),
        "contact_sheet": lambda path: maps.contact_sheet([image], ["a"], path, columns=2, title="title"),
        "ensemble_landscape": lambda path: maps.ensemble_landscape(grid_of_mixtures(2), MODELS[:2], path),
    }
    for name, write in writers.items():
        first, second = tmp_path / "figures" / f"{name}.png", tmp_path / f"{name}-again.png"
        write(first)
        write(second)
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as picture:
            assert picture.format == "PNG"
            assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_figures_are_known_to_no_global_state(tmp_path: Path) -> None:
    from matplotlib import pyplot, rcParams

    before = dict(rcParams)
    figures.prevalence(LABELS, ["A"], tmp_path / "a.png")
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before


def test_shown_names_have_no_underscore() -> None:
    assert canvas.shown("Pleural_Thickening") == "Pleural Thickening"
