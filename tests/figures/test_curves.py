"""ROC, precision-recall and reliability panels: drawn numbers equal those of scikit-learn or a plain count."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from sklearn.metrics import roc_curve as sklearn_roc_curve

from cxr.figures import curves
from cxr.findings import NIH14
from tests.figures.drawing import NAN, points, random_labels


def test_roc_panels_draw_the_oracles_points_and_sort_by_area() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random((200, 3)) < 0.3).astype(float)
    score = np.round(target * [0.2, 1.0, 0.5] + rng.random((200, 3)), 1)  # rounded: many ties
    target[rng.random(target.shape) < 0.1] = NAN
    figure = curves.roc_curves(target, score, ["A", "Pleural_B", "C"], "")
    expected = {}
    for i, name in enumerate(["A", "Pleural B", "C"]):
        known = ~np.isnan(target[:, i])
        fpr, tpr, _ = sklearn_roc_curve(target[known, i], score[known, i], drop_intermediate=False)
        area = roc_auc_score(target[known, i], score[known, i])
        counts = f"{(target[:, i] == 1).sum()} of {known.sum()} positive"
        expected[f"{name}\nAUROC {area:.3f}\n{counts}"] = np.array([fpr, tpr]).T, area
    assert [axes.get_title() for axes in figure.axes] == sorted(expected, key=lambda title: -expected[title][1])
    for axes in figure.axes:
        chance, curve = axes.get_lines()
        np.testing.assert_allclose(points(curve), expected[axes.get_title()][0])
        assert points(chance).tolist() == [[0, 0], [1, 1]]
    macro = np.mean([area for _, area in expected.values()])
    assert f"AUROC {macro:.3f}, over 3 of 3 findings" in figure.get_suptitle()


def test_panels_of_fourteen_findings_have_common_axes() -> None:
    target = random_labels(list(NIH14)).to_numpy()
    score = np.random.default_rng(5).random(target.shape)
    for figure in (
        curves.roc_curves(target, score, NIH14, ""),
        curves.precision_recall_curves(target, score, NIH14, ""),
        curves.reliability(target, score, NIH14, "", np.arange(len(target))),
    ):
        assert len(figure.axes) == 14
        assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}) == 1
        assert len({round(axes.get_window_extent().width) for axes in figure.axes}) == 1


def test_panels_say_what_is_undefined_and_come_last() -> None:
    target = np.array([[1, 0, 1], [0, 0, NAN], [1, 0, 1]])
    score = np.arange(9.0).reshape(3, 3) / 10
    roc = curves.roc_curves(target, score, ["A", "Pleural_B", "nan"], "")
    assert [axes.get_title() for axes in roc.axes] == [
        "A\nAUROC 0.500\n2 of 3 positive",
        "Pleural B\nAUROC undefined\n0 of 3 positive",
        "nan\nAUROC undefined\n2 of 2 positive",
    ]
    assert [len(axes.get_lines()) for axes in roc.axes] == [2, 1, 1]
    assert "1 of 3" in roc.get_suptitle()
    precision = curves.precision_recall_curves(target, score, ["A", "Pleural_B", "C"], "")
    assert [len(axes.get_lines()) for axes in precision.axes] == [2, 0, 0]
    assert [axes.get_title().split("\n")[1] for axes in precision.axes] == ["AP 0.833", "AP undefined", "AP undefined"]


def test_roc_panels_without_any_defined_finding_say_so() -> None:
    figure = curves.roc_curves(np.zeros((4, 1)), np.zeros((4, 1)), ["A"], "run 7")
    assert figure.get_suptitle() == "ROC curves: run 7\nmacro average AUROC undefined"


def test_reliability_draws_bins_of_enough_images_with_intervals() -> None:
    rng = np.random.default_rng(4)
    score = rng.random((400, 1)) ** 2
    target = (rng.random((400, 1)) < score).astype(float)
    (axes,) = curves.reliability(target, score, ["A"], "", np.arange(400) // 2).axes
    (bars,) = axes.containers
    order = np.argsort(score[:, 0]).reshape(5, 80)
    np.testing.assert_allclose(points(bars[0])[:, 0], score[order, 0].mean(axis=1))
    np.testing.assert_allclose(points(bars[0])[:, 1], target[order, 0].mean(axis=1))
    spans = np.array([segment[:, 1] for segment in bars[2][0].get_segments()])
    for (low, high), images in zip(spans, order, strict=True):
        share, patients = target[images, 0].mean(), len({image // 2 for image in images})
        for end in (low, high):  # Wilson: where the score test with the end as its hypothesis is just rejected
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / patients, rel=1e-4)
