"""Losses for the long tail against formulas written out, other libraries, and what must hold for every loss."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.loss import AsymmetricLossMultiLabel, DistributionBalancedLoss, TwoWayLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from cxr.errors import CxrError
from cxr.loss.asymmetric import Asymmetric
from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.class_balanced import ClassBalanced
from cxr.loss.cross_entropy import CrossEntropy
from cxr.loss.distribution_balanced import DistributionBalanced
from cxr.loss.focal import Focal
from cxr.loss.ldam import LDAM
from cxr.loss.logit_adjusted import LogitAdjusted
from cxr.loss.mae import MeanAbsoluteError
from cxr.loss.terms import LossTerms
from cxr.loss.two_way import TwoWay
from cxr.loss.weighted import class_weights
from cxr.model.network import NetworkOutput

POSITIVE, NEGATIVE = (1000, 100, 10), (200, 1100, 1190)
X, ROW = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.double), torch.tensor([[1.0, 0.0, 1.0]])
CB = (0.028362, 0.271255, 2.700382)  # effective numbers of POSITIVE at beta = .9999, scaled to a mean of 1

MULTI: dict[str, Callable[[], nn.Module]] = {
    "bce": lambda: BinaryCrossEntropy(POSITIVE, NEGATIVE, positive_weights=True, smoothing=0.1),
    "mae": MeanAbsoluteError,
    "asl": Asymmetric,
    "asl_unclipped": lambda: Asymmetric(clip=0.0, gamma_negative=0.5, gamma_positive=0.5),
    "distribution_balanced": lambda: DistributionBalanced(POSITIVE, NEGATIVE),
    "focal": lambda: Focal(POSITIVE, weights="effective_number"),
    "class_balanced": lambda: ClassBalanced(POSITIVE),
    "ldam": lambda: LDAM(POSITIVE, 30.0, weights="inverse"),
    "logit_adjusted": lambda: LogitAdjusted(POSITIVE, NEGATIVE),
}
SINGLE: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "focal": lambda: Focal(POSITIVE, "softmax", weights="inverse"),
    "focal_half": lambda: Focal(POSITIVE, "softmax", gamma=0.5),
    "class_balanced": lambda: ClassBalanced(POSITIVE, "softmax"),
    "ldam": lambda: LDAM(POSITIVE, 30.0, "softmax", weights="effective_number"),
    "logit_adjusted": lambda: LogitAdjusted(POSITIVE, NEGATIVE, "softmax"),
}
ALL = [*(pytest.param(MULTI[name], False, id=f"multi-{name}") for name in MULTI),
       *(pytest.param(SINGLE[name], True, id=f"single-{name}") for name in SINGLE),
       pytest.param(TwoWay, False, id="multi-two_way")]  # fmt: skip
SUMS = ALL[:-1]  # a sum over images


def given(loss: nn.Module, logits: Tensor, target: Tensor, epoch: int = 0) -> LossTerms:
    return loss(NetworkOutput(logits, None, logits), {"target": target}, epoch)


def mean(loss: nn.Module, logits: Tensor, target: Tensor, epoch: int = 0) -> float:
    terms = given(loss, logits, target, epoch)
    return float(terms.total / terms.number)


def drawn(single: bool, images: int = 12, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits and targets of which about half are unknown, (N, 3) float64; of whole images where one finding is."""
    rng = np.random.default_rng(3)
    logits = torch.tensor(rng.normal(size=(images, 3)) * spread)
    if single:
        target = np.eye(3)[rng.integers(0, 3, images)]
        target[rng.random(images) < 0.5, 1] = np.nan
    else:
        target = rng.integers(0, 2, (images, 3)).astype(float)
        target[rng.random(target.shape) < 0.5] = np.nan
    return logits, torch.tensor(target)


def hot(*classes: int) -> Tensor:
    return F.one_hot(torch.tensor(classes), 3).double()


def test_class_weights_are_those_of_scikit_learn_and_of_effective_numbers() -> None:
    labels = np.repeat([0, 1, 2], POSITIVE)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(class_weights(POSITIVE, "inverse"), torch.tensor(balanced, dtype=torch.float32))
    torch.testing.assert_close(class_weights(POSITIVE, "effective_number"), torch.tensor(CB), rtol=1e-5, atol=1e-6)
    beta = 0.9
    number = [sum(beta**k for k in range(n)) for n in (7, 1, 3)]  # the geometric series
    raw = [1 / each for each in number]
    expected = torch.tensor([3 * each / sum(raw) for each in raw])
    torch.testing.assert_close(class_weights((7, 0, 3), "effective_number", beta), expected)
    with pytest.raises(CxrError, match=r"loss\.weights=sqrt is unknown; choose none, inverse, effective_number"):
        class_weights(POSITIVE, "sqrt")


@pytest.mark.parametrize(
    ("loss", "logits", "target", "expected"),
    [
        (Asymmetric(), X, ROW, 0.194681 / 3),
        (DistributionBalanced(POSITIVE, NEGATIVE), X, ROW, 0.063350),
        (LDAM(POSITIVE, 30.0, "softmax"), 30 * torch.tensor([[0.2, 0.5, -0.1]]), hot(2), 33.000123),
        (Focal(POSITIVE, "softmax"), X, hot(1), 2.992718),
        (Focal(POSITIVE, "softmax", weights="effective_number"), X, hot(1), 0.811790),
        (LogitAdjusted(POSITIVE, NEGATIVE, "softmax"), X, hot(1), 5.309769),
        (TwoWay(), torch.tensor([[2, -1, 0.5], [-0.5, 1, 0.2]]), torch.tensor([[1.0, 0, 1], [0, 1, 0]]), 1.026862),
        (BinaryCrossEntropy([1], [1], smoothing=0.1), torch.tensor([[1.2]]), torch.ones(1, 1), 0.323282),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_closed_forms(loss: nn.Module, logits: Tensor, target: Tensor, expected: float) -> None:
    assert mean(loss, logits, target) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_weighted_cross_entropy_is_pytorchs_weighted_mean() -> None:
    logits, _ = drawn(True)
    target = torch.tensor([0, 1, 2, 2, 0, 1] * 2)
    for scheme in ("effective_number", "inverse"):
        weight = class_weights(POSITIVE, scheme).double()
        expected = F.cross_entropy(logits, target, weight)
        assert mean(ClassBalanced(POSITIVE, "softmax", scheme), logits, hot(*target)) == pytest.approx(float(expected))
    expected = F.binary_cross_entropy_with_logits(logits, hot(*target), pos_weight=torch.tensor(CB, dtype=torch.double))
    assert mean(ClassBalanced(POSITIVE), logits, hot(*target)) == pytest.approx(float(expected), rel=1e-5)


def test_multi_label_losses_agree_with_other_libraries_where_all_is_known() -> None:
    rng = np.random.default_rng(1)
    logits = torch.tensor(rng.normal(size=(40, 3)) * 3).float()
    target = torch.tensor(rng.integers(0, 2, (40, 3))).float()
    pairs = [
        (Asymmetric(2.5, 0.5, 0.1), AsymmetricLossMultiLabel(2.5, 0.5, 0.1, reduction="mean")(logits, target)),
        (
            DistributionBalanced(POSITIVE, NEGATIVE, mu=0.3, scale=5.0, gamma=1.5),
            DistributionBalancedLoss(POSITIVE, 1200, map_mu=0.3, neg_scale=5.0, focal_gamma=1.5)(logits, target),
        ),
        (
            DistributionBalanced(POSITIVE, NEGATIVE, gamma=0),
            DistributionBalancedLoss(POSITIVE, 1200, focal_gamma=0)(logits, target),
        ),
        (TwoWay(3.0, 2.0), TwoWayLoss(3.0, 2.0)(logits, target)),
        (Focal(POSITIVE, gamma=1.5), sigmoid_focal_loss(logits, target, alpha=-1, gamma=1.5, reduction="mean")),
    ]  # fmt: skip
    for loss, expected in pairs:
        assert mean(loss, logits, target) == pytest.approx(float(expected), rel=1e-4), type(loss).__name__


def test_sigmoid_forms_of_margins_and_shifts_are_binary_cross_entropy_of_shifted_logits() -> None:
    logits, target = drawn(False)
    known = ~target.isnan()
    margin = 15 * (torch.tensor(POSITIVE) / 10.0) ** -0.25
    prior = torch.tensor([p / n for p, n in zip(POSITIVE, NEGATIVE, strict=True)]).log()
    for loss, moved in (
        (LDAM(POSITIVE, 30.0), logits - margin * target.nan_to_num(0.0)),
        (LogitAdjusted(POSITIVE, NEGATIVE, tau=0.7), logits + 0.7 * prior),
    ):
        expected = F.binary_cross_entropy_with_logits(moved[known], target[known])
        assert mean(loss, logits, target) == pytest.approx(float(expected), rel=1e-5)


def test_losses_become_cross_entropy_where_their_idea_is_turned_off() -> None:
    logits, _ = drawn(True)
    target = hot(*[0, 1, 2] * 4)
    softmax, sigmoid = F.cross_entropy(logits, target), F.binary_cross_entropy_with_logits(logits, target)
    for expected, activation in ((softmax, "softmax"), (sigmoid, "sigmoid")):
        for loss in (
            Focal(POSITIVE, activation, gamma=0.0),
            LDAM(POSITIVE, 30.0, activation, max_margin=0.0),
            LogitAdjusted(POSITIVE, NEGATIVE, activation, tau=0.0),
            ClassBalanced(POSITIVE, activation, weights="none"),
            ClassBalanced(POSITIVE, activation, beta=0.0),
        ):
            assert mean(loss, logits, target) == pytest.approx(float(expected)), (type(loss), activation)
    assert mean(Asymmetric(0.0, 0.0, 0.0), logits, target) == pytest.approx(float(sigmoid))
    assert mean(BinaryCrossEntropy(POSITIVE, NEGATIVE, smoothing=0.5).eval(), logits, target) == pytest.approx(
        float(sigmoid)
    )


def test_deferred_weights_apply_from_the_epoch_after_the_deferred_ones() -> None:
    logits, target = drawn(True)
    loss, plain = (LDAM(POSITIVE, 30.0, "softmax", weights=w, defer_epochs=10) for w in ("effective_number", "none"))
    full = LDAM(POSITIVE, 30.0, "softmax", weights="effective_number")
    values = [mean(loss, logits, target, epoch) for epoch in (0, 9, 10, 11)]
    before, after = mean(plain, logits, target, 10), mean(full, logits, target)
    assert values == [before, before, after, after] and before != pytest.approx(after, rel=1e-2)
    assert (loss.switch_epoch, plain.switch_epoch, full.switch_epoch) == (10, None, None)


def test_ldam_refuses_a_head_without_cosines() -> None:
    with pytest.raises(CxrError, match="only head=normalised gives"):
        LDAM(POSITIVE, None)


@pytest.mark.parametrize(("make", "single"), ALL)
def test_unknown_targets_count_as_if_they_were_not_there(make: Callable[[], nn.Module], single: bool) -> None:
    logits, target = drawn(single)
    logits.requires_grad_()
    terms = given(make(), logits, target)
    (terms.total / terms.number).backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
    unknown = target.isnan().any(dim=1, keepdim=True).expand_as(target) if single else target.isnan()
    assert not logits.grad[unknown].any() and bool(logits.grad[~unknown].any())
    moved = torch.where(unknown, -logits.detach() * 7 + 1, logits.detach())
    assert mean(make(), moved, target) == pytest.approx(float(terms.total / terms.number), rel=1e-12)
    if single:
        known = ~unknown[:, 0]
        assert mean(make(), logits.detach()[known], target[known]) == pytest.approx(float(terms.total / terms.number))


def test_the_weights_of_distribution_balanced_go_by_the_known_positives_of_an_image() -> None:
    few, all_known = ([1000, 10], [200, 1190]), (POSITIVE, NEGATIVE)
    row = torch.tensor([[1.0, math.nan, 0.0]])
    without = mean(DistributionBalanced(*few), X[:, [0, 2]], row[:, [0, 2]])
    assert mean(DistributionBalanced(*all_known), X, row) == pytest.approx(without)


@pytest.mark.parametrize(("make", "single"), ALL)
def test_gradients_are_those_of_finite_differences(make: Callable[[], nn.Module], single: bool) -> None:
    logits, target = drawn(single, 6)
    loss = make()
    assert torch.autograd.gradcheck(lambda x: given(loss, x, target).total, logits.requires_grad_())


@pytest.mark.parametrize(("make", "single"), SUMS)
def test_terms_of_parts_add_up_to_those_of_the_whole(make: Callable[[], nn.Module], single: bool) -> None:
    logits, target = drawn(single)
    loss = make()
    whole = given(loss, logits, target)
    parts = [given(loss, logits[part], target[part]) for part in (slice(0, 5), slice(5, 6), slice(6, 12))]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total)
    torch.testing.assert_close(sum(part.number for part in parts), whole.number)


@pytest.mark.parametrize(("make", "single"), ALL)
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_half_precision_gives_what_float32_gives_and_extreme_logits_finite_gradients(
    make: Callable[[], nn.Module], single: bool, size: float
) -> None:
    logits, target = drawn(single)
    logits = (logits.clamp(-3, 3) * size).half()
    loss = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = given(loss, logits.requires_grad_(), target.half())
    torch.testing.assert_close(half.total, given(loss, logits.detach().float(), target.float()).total)
    half.total.backward()
    assert half.total.dtype == torch.float32 and bool(torch.isfinite(half.total))
    assert logits.grad is not None and (size == 1e4 or bool(torch.isfinite(logits.grad).all()))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Focal(POSITIVE, gamma=-1), r"loss\.gamma=-1 must be a finite number of at least 0$"),
        (lambda: ClassBalanced(POSITIVE, beta=1), r"loss\.beta=1 must be .* at least 0 and below 1$"),
        (lambda: Asymmetric(clip=math.nan), r"loss\.clip=nan must be"),
        (lambda: BinaryCrossEntropy([1], [1], smoothing="0.1"), r"loss\.smoothing=0\.1 must be"),  # type: ignore[arg-type]
        (lambda: LDAM(POSITIVE, 30.0, defer_epochs=True), r"loss\.defer_epochs=true must be"),
        (lambda: LDAM(POSITIVE, 30.0, defer_epochs=1.5), r"loss\.defer_epochs=1\.5 must be"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        make()
