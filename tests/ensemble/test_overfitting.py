"""The report on overfitting: resamples against repeated rows and scikit-learn, members left out against refits."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score  # type: ignore[import-untyped]

from cxr.ensemble.combine import Average, Geometric, MaxVote, Stacking, Weighted
from cxr.ensemble.objective import Resamples, evaluate_resamples
from cxr.ensemble.overfitting import candidates, overfitting_report, refits, without_member
from cxr.ensemble.splits import Validation

ORACLES = {
    "macro_auroc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier": lambda target, score: -brier_score_loss(target, score.astype(np.float64)),
}


def drawn(members: int = 3, images: int = 180, digits: int = 7, seed: int = 0) -> Validation:
    rng = np.random.default_rng(seed)
    target = (rng.random((images, 2)) < 0.4).astype(np.float32)
    noise = rng.normal(size=(members, images, 2)) * (1 + np.arange(members))[:, None, None]
    scores = (1 / (1 + np.exp(-noise - 1.5 * target))).round(digits).astype(np.float32)
    target[rng.random(target.shape) < 0.1] = np.nan
    return Validation.stacked(scores, target, [f"p{i // 3:02}" for i in range(images)])


def stack(data: Validation) -> np.ndarray:
    return np.stack([data.scores[k] for k in range(2)], axis=-1)


def macro(target: np.ndarray, score: np.ndarray) -> float:
    known = ~np.isnan(target)
    return float(np.mean([roc_auc_score(target[known[:, k], k], score[known[:, k], k]) for k in range(2)]))


def images_drawn(data: Validation, resamples: int, seed: int) -> np.ndarray:
    """How often each resample has each image, (N, R)."""
    drawn = Resamples.draw(data.patient, resamples, seed)
    return np.asarray(drawn.times[:, drawn.number].T)


@pytest.mark.parametrize("objective", sorted(ORACLES))
@pytest.mark.parametrize("digits", [1, 7])
def test_a_resamples_value_is_that_of_its_images_written_out(objective: str, digits: int) -> None:
    data = drawn(digits=digits)
    drawn_patients = Resamples.draw(data.patient, 5, seed=1)
    counts = images_drawn(data, 5, seed=1)
    points = np.array([[0.2, 0.3, 0.5], [1.0, 0, 0]])
    values = evaluate_resamples(points, data, objective, drawn_patients)
    assert values.shape == (5, 2, 2)
    for r in range(5):
        rows = np.repeat(np.arange(len(data)), counts[:, r].astype(int))
        for p, point in enumerate(points):
            for k in range(2):
                mixed = sum(w * m.astype(np.float64) for w, m in zip(point, data.scores[k], strict=True))
                score, target = np.asarray(mixed).astype(np.float32)[rows], data.target[rows, k]
                known = ~np.isnan(target)
                assert values[r, p, k] == pytest.approx(ORACLES[objective](target[known], score[known]), abs=1e-12)


def test_patients_are_drawn_whole_and_as_many_as_there_are() -> None:
    data = drawn()
    counts = images_drawn(data, 50, seed=2)
    assert (counts.reshape(60, 3, 50) == counts.reshape(60, 3, 50)[:, :1]).all()
    np.testing.assert_array_equal(counts.sum(axis=0), np.full(50, 180))
    assert len(np.unique(counts, axis=1).T) == 50
    np.testing.assert_array_equal(counts, images_drawn(data, 50, seed=2))


def test_a_resample_without_positives_leaves_the_finding_out() -> None:
    data = drawn()
    data.target[:, 0] = 0
    data.target[:3, 0] = 1  # one patient
    counts = images_drawn(data, 30, seed=0)
    values = evaluate_resamples(np.eye(3), data, "macro_auroc", Resamples.draw(data.patient, 30, seed=0))
    np.testing.assert_array_equal(np.isnan(values[:, :, 0]).all(axis=1), counts[0] == 0)
    assert (counts[0] == 0).any()
    fit = Weighted("per_finding").fit(data)
    weights = refits(Weighted("per_finding"), data, fit, 30, 0)
    np.testing.assert_allclose(weights.sum(axis=2), 1)


def test_every_refit_is_the_best_candidate_on_its_resample() -> None:
    data = drawn()
    method = Weighted(robust=False)
    fit = method.fit(data)
    assert fit.weights is not None and fit.shared is not None
    points = candidates(fit.weights, fit.shared, 0)
    np.testing.assert_allclose(points.sum(axis=1), 1)
    counts = images_drawn(data, 4, 0)
    scores = stack(data)
    for r, weights in enumerate(refits(method, data, fit, 4, 0)[:2]):
        rows = np.repeat(np.arange(len(data)), counts[:, r].astype(int))

        def value(point: np.ndarray, rows: np.ndarray = rows) -> float:
            mixed = np.tensordot(point, scores.astype(np.float64), 1).astype(np.float32)
            return macro(data.target[rows], mixed[rows])

        assert value(weights[0]) == pytest.approx(max(map(value, points)), abs=1e-6)


def test_weights_move_less_with_more_patients() -> None:
    small, large = drawn(images=90), drawn(images=3000)
    spread = []
    for data in (small, large):
        report = overfitting_report(
            Weighted(), data, Weighted().fit(data), "abc", {"weighted": (0.8, 0.7)}, 40, False, 0
        )
        assert report.weights is not None
        assert (report.weights["low"] <= report.weights["high"]).all()
        spread.append(report.weights["sd"].mean())
    assert spread[1] < 0.6 * spread[0]


def test_without_a_member_a_vote_is_that_of_the_others() -> None:
    data = drawn()
    scores = stack(data)
    for method, combined in ((MaxVote(), scores[[0, 2]].max(axis=0)), (Average(), scores[[0, 2]].mean(axis=0))):
        expected = macro(data.target, combined)
        assert without_member(method, data, method.fit(data), 1) == pytest.approx(expected, abs=1e-6)
    odds = (scores.astype(np.float64) / (1 - scores.astype(np.float64)))[1:]
    mixed = np.exp((1 * np.log(odds[0]) + 2 * np.log(odds[1])) / 3)
    method = Geometric([5, 1, 2])
    assert without_member(method, data, method.fit(data), 0) == pytest.approx(macro(data.target, mixed), abs=1e-6)


@pytest.mark.parametrize("kind", ["shared", "per_finding"])
def test_without_a_member_weights_are_the_best_of_the_grid_of_the_others(kind: str) -> None:
    data = drawn()
    method = Weighted(kind, step=0.1, shrinkage=0, robust=False)
    left = without_member(method, data, method.fit(data), 0)
    fewer = data.without(0)
    again = Weighted(kind, step=0.1, shrinkage=0, robust=False)
    fit = again.fit(fewer)
    refitted = macro(data.target, np.stack([again.combine(fewer.scores[k], fit, k) for k in range(2)], axis=1))
    assert left >= refitted - 1e-12 and left == pytest.approx(refitted, abs=0.01)


def test_without_a_member_stacking_is_fitted_again() -> None:
    data = drawn()
    again = Stacking(min_positives=5).fit(data.without(0))
    assert again.validation_scores is not None
    left = without_member(Stacking(min_positives=5), data, Stacking(min_positives=5).fit(data), 0)
    assert left == pytest.approx(macro(data.target, again.validation_scores), abs=1e-12)


def test_the_gap_is_validation_less_test() -> None:
    data = drawn()
    macros = {"a": (0.7, 0.65), "average": (0.8, 0.81), "weighted": (0.9, 0.8)}
    report = overfitting_report(Weighted(), data, Weighted().fit(data), "abc", macros, 0, False, 0)
    np.testing.assert_allclose(report.gap["gap"], [0.05, -0.01, 0.1])
    assert report.summary("weighted") == ["validation - test macro AUROC: weighted +0.1000 (average -0.0100)"]
    assert report.record()["weights"] is None and report.record()["resamples"] == 0
    assert report.markdown().count("| weighted | 0.9000 | 0.8000 | 0.1000 |") == 1
