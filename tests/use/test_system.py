"""Rules, calibration, operating points and hierarchies, against formulas written out here."""

import numpy as np
import pytest

from cxr.errors import CxrError
from cxr.metrics.scaling import Scaling
from cxr.metrics.tree import downwards
from cxr.use.system import Rule, read_scaling
from tests.use.made import FINDINGS, model

SCORES = np.random.default_rng(0).random((3, 50, 2)).astype(np.float32)  # members, images, findings
WEIGHTS = ((0.2, 0.5, 0.3), (0.0, 1.0, 0.0))


def test_a_weighted_mean_has_weights_of_its_own_for_each_finding() -> None:
    found = Rule("mean", WEIGHTS)(SCORES)
    assert found[:, 0] == pytest.approx(0.2 * SCORES[0, :, 0] + 0.5 * SCORES[1, :, 0] + 0.3 * SCORES[2, :, 0])
    np.testing.assert_array_equal(found[:, 1], SCORES[1, :, 1])


def test_logits_are_weighted_with_an_intercept() -> None:
    odds = (SCORES.astype(float) / (1 - SCORES.astype(float)))[..., 0]
    product = np.exp(0.7) * odds[0] ** 0.2 * odds[1] ** 0.5 * odds[2] ** 0.3
    assert Rule("logit", WEIGHTS, (0.7, 0.0))(SCORES)[:, 0] == pytest.approx(product / (1 + product), abs=1e-6)
    certain = np.array([[[0.0, 1.0]]] * 3, np.float32)
    assert Rule("logit", WEIGHTS, (0.0, 0.0))(certain)[0] == pytest.approx([1e-7, 1 - 1e-7], rel=1e-3)
    assert Rule("logit", WEIGHTS, (0.0, 0.0))(certain)[0, 0] > 0, "scores of 0 and 1 are clipped"
    assert Rule("mean", ((2.0, 0.0, 0.0), (-1.0, 0.0, 0.0)))(certain + 0.7)[0].tolist() == [1, 0]


def test_the_largest_and_the_votes() -> None:
    for row in range(50):
        each = SCORES[:, row]
        assert Rule("max")(SCORES)[row].tolist() == [max(each[:, 0]), max(each[:, 1])]
        votes = [sum(score >= 0.5 for score in each[:, k]) / 3 for k in (0, 1)]
        assert Rule("vote")(SCORES)[row].tolist() == pytest.approx(votes)
    assert Rule("vote")(np.full((2, 1, 1), 0.5, np.float32)).item() == 1, "one half is a vote"


def test_no_child_is_above_its_parent_after_combining_and_calibrating() -> None:
    scaling = Scaling("platt", FINDINGS, (1.0, 1.0), (0.0, 3.0), ())
    system = model(parents=(-1, 0), scaling=scaling, rule=Rule("mean", WEIGHTS)).system
    score = system.combine(SCORES)
    calibrated = system.calibrate(score)
    assert calibrated is not None and (SCORES[1, :, 1] > score[:, 0]).any()
    for found in (score, calibrated):
        assert (found[:, 1] <= found[:, 0]).all() and (found[:, 1] == found[:, 0]).any()
    assert downwards((1, 2, -1)) == [1, 0]
    for wrong in ((1, 0), (-1, 2), (0, -1)):
        with pytest.raises(CxrError, match="are not those of a hierarchy"):
            downwards(wrong)


def test_a_call_is_positive_from_the_threshold_on_and_unknown_without_one() -> None:
    calls = model().system.calls(np.array([[0.5, 0.9], [0.4999, 0.1]], np.float32))
    assert calls["half"][:, 0].tolist() == [1, 0] and np.isnan(calls["half"][:, 1]).all()
    assert calls["youden"].tolist() == [[1, 1], [1, 0]]
    thresholds = np.array([1 / 3, 2 / 3], np.float32)  # as validation scores give them
    assert model(points={"p": tuple(thresholds.tolist())}).system.calls(thresholds[None])["p"].tolist() == [[1, 1]]


def test_without_a_calibration_there_are_no_calibrated_scores() -> None:
    assert model(scaling=None).system.calibrate(SCORES[0]) is None


@pytest.mark.parametrize(
    "changed",
    [{"slope": [1.0]}, {"findings": ["Mass"]}, {"intercept": [float("nan"), 0.0]}, {"slope": ["1", 2.0]},
     {"slope": [10**400, 1]}, {"method": "\ud800"}, {"method": ["platt"]}, {"identity": ["\ud800"]}],
)  # fmt: skip
def test_a_calibration_of_other_findings_is_refused(changed: dict[str, object]) -> None:
    scaling = model().system.scaling
    assert scaling is not None and read_scaling(scaling.as_plain(), FINDINGS, "x") == scaling
    with pytest.raises(CxrError, match=r"^x has no calibration of the findings Mass, Effusion"):
        read_scaling(scaling.as_plain() | changed, FINDINGS, "x")
