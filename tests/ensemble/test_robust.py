"""Robust weights, on simulated members whose true AUROC is known in closed form."""

import numpy as np
import pytest
from scipy.stats import norm  # type: ignore[import-untyped]

from cxr.ensemble.combine import Greedy, Weighted
from cxr.ensemble.robust import kept_share
from cxr.ensemble.splits import Validation

# Shares of the fourteen findings of ChestX-ray14 among its images, roughly.
PREVALENCE = np.array([0.10, 0.025, 0.04, 0.02, 0.12, 0.022, 0.015, 0.01, 0.18, 0.05, 0.056, 0.03, 0.013, 0.047])


class Members:
    """Members with normal scores: one more by `effect` where the finding is present, errors with a covariance."""

    def __init__(self, effect: list[float], covariance: np.ndarray) -> None:
        self.effect, self.covariance = np.array(effect), covariance

    @classmethod
    def equally_correlated(cls, effect: list[float], correlation: float) -> "Members":
        covariance = np.full((len(effect), len(effect)), correlation)
        np.fill_diagonal(covariance, 1)
        return cls(effect, covariance)

    def truth(self, weights: np.ndarray) -> float:
        """AUROC of a weighted mean on endless data: the mean is normal too."""
        return float(norm.cdf(weights @ self.effect / np.sqrt(2 * weights @ self.covariance @ weights)))

    def validation(self, images: int, rng: np.random.Generator) -> Validation:
        target = (rng.random((images, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
        mixing = np.linalg.cholesky(self.covariance)
        errors = np.einsum("mk,knl->mnl", mixing, rng.standard_normal((len(mixing), *target.shape)))
        scores = errors + self.effect[:, None, None] * target
        return Validation.stacked(np.clip(0.5 + scores / 20, 0, 1).astype(np.float32), target)


def changes(members: Members, images: int, draws: int, robust: bool, seed: int = 0, **options: object) -> np.ndarray:
    """True macro AUROC less that of equal weights, of each draw of validation."""
    rng = np.random.default_rng(seed)
    number = len(members.effect)
    equal = members.truth(np.full(number, 1 / number))
    found = []
    for _ in range(draws):
        fit = Weighted(robust=robust, **options).fit(members.validation(images, rng))  # type: ignore[arg-type]
        assert fit.weights is not None
        found.append(np.mean([members.truth(row) for row in fit.weights]) - equal)
    return np.array(found)


ALIKE = {
    "two": Members.equally_correlated([1.2] * 2, 0.5),
    "three": Members.equally_correlated([1.2] * 3, 0.7),
    "three with little in common": Members.equally_correlated([1.2] * 3, 0.3),
    "five": Members.equally_correlated([1.2] * 5, 0.7),
}
_TWINS = np.full((3, 3), 0.95)
_TWINS[2, :2] = _TWINS[:2, 2] = 0.2
np.fill_diagonal(_TWINS, 1)
UNLIKE = {
    "one better, one worse": Members.equally_correlated([1.4, 1.15, 0.9], 0.5),
    "one useless": Members.equally_correlated([1.3, 1.3, 0.2], 0.5),
    "two nearly the same and another one": Members([1.1] * 3, _TWINS),
    "two, one better": Members.equally_correlated([1.4, 0.9], 0.5),
}
STEP = {2: 0.05, 3: 0.05, 5: 0.125}  # of the grid


def test_weights_of_members_alike_are_hardly_worse_than_equal_ones() -> None:
    members = ALIKE["three"]
    searched, robust = (changes(members, 200, 25, kept, step=0.1).mean() for kept in (False, True))
    assert searched < -0.002
    assert robust > -0.0005


def test_weights_of_unlike_members_keep_their_gain() -> None:
    members = UNLIKE["one better, one worse"]
    searched, robust = (changes(members, 400, 15, kept, step=0.1).mean() for kept in (False, True))
    assert searched > 0.01
    assert robust > 0.85 * searched


def test_greedy_selection_is_robust_too() -> None:
    data = ALIKE["three"].validation(200, np.random.default_rng(3))
    found = [Greedy(robust=robust, bags=0, picks=10).fit(data).weights for robust in (False, True)]
    assert found[0] is not None and found[1] is not None
    assert np.abs(found[1] - 1 / 3).max() < 0.5 * np.abs(found[0] - 1 / 3).max()


def test_without_five_patients_with_any_finding_weights_are_equal() -> None:
    rng = np.random.default_rng(0)
    target = np.zeros((50, 2), np.float32)
    target[:4] = 1
    scores = rng.random((3, 50, 2)).astype(np.float32)
    scores[0] = target  # a perfect member, as far as four patients can tell
    fit = Weighted().fit(Validation.stacked(scores, target))
    np.testing.assert_allclose(fit.weights, 1 / 3)
    assert fit.record["robust"]["left_out"] == ["finding0", "finding1"]


def test_images_of_one_patient_are_one_patient() -> None:
    rng = np.random.default_rng(0)
    target = np.repeat(rng.random((60, 1)) < 0.5, 4, axis=0).astype(np.float32)
    scores = rng.random((3, 240, 1)).astype(np.float32)
    scores[0] += 0.2 * target  # every member rates all images of a patient alike
    scores = np.repeat(scores[:, ::4], 4, axis=1) / 1.2
    patients = [f"p{i // 4}" for i in range(240)]
    errors = [
        Weighted().fit(Validation.stacked(scores, target, ids)).record["robust"]["standard_error"]
        for ids in (patients, None)
    ]
    assert errors[0] > 1.5 * errors[1]


def test_a_fit_also_has_the_version_that_was_not_chosen() -> None:
    data = UNLIKE["one useless"].validation(300, np.random.default_rng(5))
    searched, robust = Weighted(robust=False).fit(data), Weighted().fit(data)
    assert searched.other is not None and robust.other is not None
    assert (searched.other[0], robust.other[0]) == ("weighted (robust)", "weighted")
    np.testing.assert_array_equal(searched.other[1], robust.weights)
    np.testing.assert_array_equal(robust.other[1], searched.weights)


def test_the_share_is_zero_without_a_gain_and_grows_with_it() -> None:
    gains = np.array([np.nan, -1.0, 0.0, 0.5, 1.0, 2.0, 8.0])
    share = kept_share(gains, np.ones(7), members=2)
    assert (share[:4] == 0).all() and (np.diff(share[3:]) > 0).all() and share[-1] < 1
    assert (kept_share(gains, np.ones(7), members=3) <= share).all()
    assert kept_share(1.0, 0.0, members=3) == 1
    assert kept_share(1.0, 0.0, members=3, known=0.25) == 0.5


def test_weights_of_identical_members_are_equal_in_the_fit_and_in_its_spread() -> None:
    data = ALIKE["two"].validation(200, np.random.default_rng(1))
    same = Validation.stacked(np.stack([data.scores[k][[0, 0, 0]] for k in range(14)], axis=-1), data.target)
    for robust in (False, True):
        np.testing.assert_allclose(Weighted(robust=robust).fit(same).weights, 1 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 200, 1000, 10_000])
@pytest.mark.parametrize("name", [*ALIKE, *UNLIKE])
def test_robust_weights_are_never_worse_than_equal_ones_and_keep_most_of_the_gain(name: str, images: int) -> None:
    members = (ALIKE | UNLIKE)[name]
    draws = {100: 300, 200: 200, 1000: 40, 10_000: 4}[images]
    step = STEP[len(members.effect)]
    searched, robust = (changes(members, images, draws, kept, step=step) for kept in (False, True))
    print(f"{name}, {images} images: searched {searched.mean():+.4f}, robust {robust.mean():+.4f}")
    assert robust.mean() > -0.0005
    if name in UNLIKE and images >= 200:
        assert robust.mean() > 0.85 * searched.mean()


@pytest.mark.slow
@pytest.mark.parametrize("images", [100, 200, 1000])
def test_robust_weights_per_finding_are_hardly_worse_than_equal_ones(images: int) -> None:
    draws = {100: 200, 200: 150, 1000: 30}[images]
    found = changes(ALIKE["three"], images, draws, robust=True, step=0.1, weights="per_finding")
    print(f"per finding, {images} images: {found.mean():+.4f}")
    assert found.mean() > -0.0005
