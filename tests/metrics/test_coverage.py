"""Coverage of nominal 95% intervals, and rejection rate for equal models, by simulation."""

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.bootstrap import bootstrap_auroc, bootstrap_average_precision
from cxr.metrics.comparison import compare
from cxr.metrics.interval import Resampling
from tests.metrics.random_findings import clustered

SEPARATION = {"0.80": 1.19, "0.95": 2.326, "0.98": 2.9}  # of the classes, by AUROC


def truth(metric, separation: float) -> float:
    target, score, _ = clustered(np.random.default_rng(99), 300_000, separation)
    return metric(target[:, 0], score[:, 0])


def held(ours, theirs, separation: float, simulations: int, resamples: int) -> int:
    """In how many simulations of about 600 images with at least 50 positives the interval holds the truth."""
    rng, value, count, done = np.random.default_rng(7), truth(theirs, separation), 0, 0
    while done < simulations:
        target, score, patient = clustered(rng, 200, separation)
        if target.sum() >= 50:
            found = ours(target, score, patient, Resampling(resamples, seed=done)).findings
            count += bool(found.low[0] <= value <= found.high[0])
            done += 1
    return count


@pytest.mark.parametrize("area", ["0.80", "0.95"])
def test_interval_of_auroc_has_its_nominal_coverage(area: str) -> None:
    simulations = 200
    low, high = binom.interval(0.999, simulations, 0.95)
    assert low <= held(bootstrap_auroc, roc_auc_score, SEPARATION[area], simulations, 200) <= high


@pytest.mark.slow
@pytest.mark.parametrize("area", ["0.80", "0.95", "0.98"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(bootstrap_auroc, roc_auc_score), (bootstrap_average_precision, average_precision_score)],
)
def test_interval_covers_92_to_98_percent(ours, theirs, area: str) -> None:
    simulations = 1500
    assert 0.92 <= held(ours, theirs, SEPARATION[area], simulations, 1000) / simulations <= 0.98


def false_alarms(simulations: int, resamples: int) -> int:
    """How often p < 0.05 for two models that are equally good by construction and share part of their noise."""
    rng, count = np.random.default_rng(11), 0
    for seed in range(simulations):
        target, score, patient = clustered(rng, 200, 1.19)
        logit = np.log(score / (1 - score))
        scores = [logit + rng.normal(0, 0.7, score.shape) for _ in range(2)]
        count += compare(target, *scores, patient, plan=Resampling(resamples, seed)).p[0] < 0.05
    return count


def test_equal_models_differ_significantly_in_one_case_of_twenty() -> None:
    low, high = binom.interval(0.999, 200, 0.05)
    assert low <= false_alarms(200, 200) <= high


@pytest.mark.slow
def test_equal_models_differ_significantly_in_2_to_8_percent() -> None:
    assert 0.02 <= false_alarms(1000, 1000) / 1000 <= 0.08


def few(positive: int, simulations: int, resamples: int) -> list[bool]:
    """Whether the interval holds the truth, where there is one, with so many positive patients of 200."""
    rng, held = np.random.default_rng(positive), []
    target = (np.arange(200) < positive).astype(np.float32)[:, None]
    for seed in range(simulations):
        found = bootstrap_auroc(
            target, rng.normal(size=(200, 1)) + 1.19 * target, np.arange(200), Resampling(resamples, seed)
        ).findings
        if not np.isnan(found.low[0]):
            held.append(bool(found.low[0] <= 0.8 <= found.high[0]))
    return held


@pytest.mark.parametrize("positive", [1, 2, 3, 4])
def test_fewer_than_five_positive_patients_give_no_interval(positive: int) -> None:
    assert few(positive, 30, 50) == []


@pytest.mark.parametrize("positive", [5, 10])
def test_intervals_of_five_or_ten_positive_patients_have_nearly_nominal_coverage(positive: int) -> None:
    held = few(positive, 200, 150)
    assert len(held) > 190 and binom.ppf(0.001, 200, 0.92) <= sum(held)


@pytest.mark.slow
@pytest.mark.parametrize("positive", [5, 6, 10, 20])
def test_few_positive_patients_cover_92_to_98_percent(positive: int) -> None:
    held = few(positive, 1500, 1000)
    assert 0.92 <= np.mean(held) <= 0.98


def of_means(rare: int, simulations: int, resamples: int) -> list[bool]:
    """Whether a mean of three findings with 40 positive patients and of a rare one is held."""
    rng, held = np.random.default_rng(rare), []
    target = (np.arange(200)[:, None] < [40, 40, 40, rare]).astype(np.float32)
    for seed in range(simulations):
        score = rng.normal(size=target.shape) + 1.19 * target
        found = bootstrap_auroc(target, score, np.arange(200), Resampling(resamples, seed))
        assert np.isnan(found.macro.low) == (rare < 5)
        held.append(bool(found.supported.low <= 0.8 <= found.supported.high))
    return held


@pytest.mark.parametrize("rare", [1, 3])
def test_a_mean_without_the_rare_finding_has_nearly_nominal_coverage(rare: int) -> None:
    assert binom.ppf(0.001, 150, 0.93) <= sum(of_means(rare, 150, 150))
