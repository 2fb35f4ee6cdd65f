"""Means and differences over seeds: Welch's test where seeds alone vary, and how often equal configurations differ."""

import numpy as np
import pytest
from scipy.stats import binom, norm, ttest_ind  # type: ignore[import-untyped]

from cxr.metrics.interval import Resampling
from cxr.metrics.seeds import Seeds, difference_over_seeds, mean_over_seeds

VARYING = {"seeds": (0.1, 0.1, 1.0), "patients": (1.0, 0.1, 0.1), "patients by seed": (0.1, 1.0, 0.1), "all": (1, 1, 1)}


def side(rng: np.random.Generator, seeds: int, weight: np.ndarray, varying: tuple[float, float, float]) -> Seeds:
    """A metric that is the mean of a number of each patient, which varies with patient, patient and seed, and seed."""
    patients = weight.shape[1]
    main, both, own = (0.02 * spread for spread in varying)
    numbers = patients**0.5 * (main * rng.normal(size=(patients, 1)) + both * rng.normal(size=(patients, seeds)))
    numbers = 0.5 + numbers + own * rng.normal(size=seeds)
    return Seeds(numbers.mean(axis=0), (weight @ numbers).T)


def alarms(seeds: tuple[int, int], varying: str, simulations: int, resamples: int = 100, patients: int = 60) -> int:
    """How often p < 0.05 for two configurations that are equal by construction."""
    rng, count = np.random.default_rng(sum(seeds)), 0
    for _ in range(simulations):
        weight = rng.multinomial(patients, [1 / patients] * patients, size=resamples) / patients
        one, other = (side(rng, number, weight, VARYING[varying]) for number in seeds)
        found, p = difference_over_seeds(one, other)
        assert (p < 0.05) == (found.low > 0 or found.high < 0)
        count += p < 0.05
    return count


@pytest.mark.parametrize(
    ("seeds", "varying"), [*((s, v) for s in (2, 3, 5) for v in ("seeds", "patients")), (3, "patients by seed")]
)
def test_equal_configurations_differ_3_to_7_percent_of_the_time(seeds: int, varying: str) -> None:
    simulations = 400
    low, high = binom.ppf(0.001, simulations, 0.03), binom.ppf(0.999, simulations, 0.07)
    assert low <= alarms((seeds, seeds), varying, simulations) <= high


@pytest.mark.slow
@pytest.mark.parametrize("varying", VARYING)
@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (2, 5)])
def test_equal_configurations_differ_about_3_to_7_percent_of_4000_times(seeds: tuple[int, int], varying: str) -> None:
    assert 0.025 <= alarms(seeds, varying, 4000, resamples=200) / 4000 <= 0.075


def test_where_patients_do_not_matter_it_is_welchs_test() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.7, 0.02, 3), rng.normal(0.72, 0.004, 5)
    jitter = rng.normal(0, 1e-9, 200)
    _, p = difference_over_seeds(Seeds(one, one[:, None] + jitter), Seeds(other, other[:, None] - jitter))
    assert p == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue, rel=0.01)  # Fisher's z is nearly straight


def test_single_runs_have_the_noise_of_patients_alone() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.8, 0.02, (1, 300)), rng.normal(0.7, 0.03, (1, 300))
    found, p = difference_over_seeds(Seeds(np.array([0.8]), one), Seeds(np.array([0.7]), other), Resampling(level=0.9))
    spread = np.arctanh(one - other).std(ddof=1)
    ends = np.tanh(np.arctanh(0.1) + norm.ppf([0.05, 0.95]) * spread)
    np.testing.assert_allclose([found.low, found.high], ends, rtol=1e-7)
    assert p == pytest.approx(2 * norm.sf(np.arctanh(0.1) / spread), rel=1e-6)


def test_the_mean_of_few_seeds_is_less_certain_than_each_of_them() -> None:
    rng = np.random.default_rng(2)
    values = np.array([0.70, 0.80])
    drawn = values[:, None] + rng.normal(0, 0.001, 400)
    two, single = mean_over_seeds(Seeds(values, drawn)), mean_over_seeds(Seeds(values[:1], drawn[:1]))
    assert two.value == 0.75 and two.low < 0.4 and two.high > 0.9  # t with one degree of freedom reaches far
    assert 0.69 < single.low < 0.7 < single.high < 0.71


def test_equal_runs_are_no_difference_and_a_constant_difference_has_no_verdict() -> None:
    drawn = np.random.default_rng(3).random((2, 50))
    same = Seeds(np.array([0.6, 0.7]), drawn)
    found, p = difference_over_seeds(same, same)
    assert (float(found.value), p) == (0, 1)
    found, p = difference_over_seeds(
        Seeds(np.array([1.0]), np.ones((1, 50))), Seeds(np.array([0.5]), np.full((1, 50), 0.5))
    )
    assert found.value == 0.5 and np.isnan([found.low, found.high, p]).all()


def test_undefined_resamples_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(4)
    drawn, values = rng.normal(0.7, 0.02, (2, 100)), np.array([0.7, 0.71])
    holes = drawn.copy()
    holes[0, :10], holes[1, 5:20] = np.nan, np.nan
    found, kept = (mean_over_seeds(Seeds(values, one)) for one in (holes, drawn[:, 20:]))
    assert found.undefined == 20 and (found.low, found.high) == (kept.low, kept.high)
    nothing, p = difference_over_seeds(Seeds(values, holes * np.nan), Seeds(values, holes))
    assert np.isnan([nothing.low, p]).all() and nothing.undefined == 100


def test_noise_that_is_in_the_resamples_and_between_seeds_counts_once() -> None:
    rng = np.random.default_rng(0)
    seeds, noise = 400, 0.01
    values = 0.5 + noise * rng.standard_normal(seeds)
    resamples = values[:, None] + noise * rng.standard_normal((seeds, 300))  # of each seed by itself
    found = mean_over_seeds(Seeds(values, resamples))
    once = norm.ppf(0.975) * noise / seeds**0.5
    assert (found.high - found.low) / 2 == pytest.approx(once, rel=0.15)  # counted twice, it is 1.41 times as much
