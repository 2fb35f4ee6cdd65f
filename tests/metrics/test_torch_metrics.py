"""The gathering metrics against torchmetrics' own and against one call on all images."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_f1_score,
    multilabel_auroc,
    multilabel_average_precision,
)

from cxr.metrics.calibration import expected_calibration_error
from cxr.metrics.thresholds import rates
from cxr.metrics.torch_metrics import AUROC, AveragePrecision, CalibrationError, GatheredMetric, Rate
from tests.metrics.random_findings import NAN, findings

METRICS = (AUROC, AveragePrecision, Rate, CalibrationError)


def split(unknown: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    target, score, _ = findings(0, unknown=unknown)
    return torch.from_numpy(score), torch.from_numpy(target)


def fed(metric: GatheredMetric, score: torch.Tensor, target: torch.Tensor, batch: int = 64) -> GatheredMetric:
    for begin in range(0, len(score), batch):
        end = min(begin + batch, len(score))
        metric.update(torch.arange(begin, end), score[begin:end], target[begin:end])
    return metric


def test_areas_are_those_of_torchmetrics() -> None:
    score, target = split()
    for ours, theirs in ((AUROC(), multilabel_auroc), (AveragePrecision(), multilabel_average_precision)):
        expected = theirs(score, target.int(), num_labels=3, average=None)
        np.testing.assert_allclose(fed(ours, score, target).compute(), expected, atol=1e-6)
    score[score == 0.4] = 0.41  # torchmetrics calls a score at the threshold absent
    expected = [binary_f1_score(score[:, k], target[:, k].int(), threshold=0.4) for k in range(3)]
    np.testing.assert_allclose(fed(Rate("f1", 0.4), score, target).compute(), expected, atol=1e-6)


def test_unknown_targets_are_left_out() -> None:
    score, target = split(unknown=0.2)
    found = fed(CalibrationError(bins=5, equal="mass"), score, target).compute()
    expected = expected_calibration_error(target.numpy(), score.numpy(), 5, "mass")
    np.testing.assert_array_equal(found, expected)
    found = fed(Rate("mcc", [0.2, 0.3, 0.4]), score, target).compute()
    np.testing.assert_array_equal(found, rates(target.numpy(), score.numpy(), [0.2, 0.3, 0.4])["mcc"])


@pytest.mark.parametrize("kind", METRICS)
def test_images_that_come_again_count_once(kind: type[GatheredMetric]) -> None:
    score, target = split(unknown=0.1)
    once, again = fed(kind(), score, target), fed(kind(), score, target, batch=50)
    again.update(torch.tensor([3, 0, 3]), score[[3, 0, 3]], target[[3, 0, 3]])
    assert torch.equal(once.compute(), again.compute())


def test_states_gathered_from_two_processes_in_any_order_give_the_same() -> None:
    score, target = split()
    whole, joined = fed(AUROC(), score, target), AUROC()
    odd, even = torch.arange(1, 300, 2), torch.arange(0, 300, 2)
    joined.update(odd, score[odd], target[odd])
    joined.update(even, score[even], target[even])
    joined.ids, joined.scores, joined.targets = (  # as after a sync: one tensor for each list
        torch.cat(state) for state in (joined.ids, joined.scores, joined.targets)
    )
    assert torch.equal(joined.compute(), whole.compute())


def test_reset_forgets_and_nothing_seen_is_refused() -> None:
    metric = fed(AUROC(), *split())
    metric.reset()
    with pytest.raises(ValueError, match="AUROC has seen no image"):
        metric.compute()


def test_undefined_is_nan_and_not_zero() -> None:
    found = fed(AUROC(), torch.rand(4, 2), torch.zeros(4, 2)).compute()
    assert found.dtype == torch.float64 and torch.isnan(found).tolist() == [True, True]


def test_half_precision_scores_are_taken() -> None:
    score, target = split()
    assert fed(AUROC(), score.bfloat16(), target).compute().shape == (3,)


@pytest.mark.parametrize("strange", [-0.1, 1.1, NAN, 7.0])
def test_logits_are_refused_and_not_guessed(strange: float) -> None:
    with pytest.raises(ValueError, match="probabilities, not logits"):
        AUROC().update(torch.arange(2), torch.tensor([[0.5], [strange]]), torch.zeros(2, 1))


def test_shapes_that_differ_and_unknown_rates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"index \(1,\)"):
        AUROC().update(torch.arange(1), torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="known are accuracy, sensitivity"):
        Rate("recall")
