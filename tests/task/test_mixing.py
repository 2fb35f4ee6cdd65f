"""Mixed training batches: what is in them, and what an epoch of them logs."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.errors import CxrError
from cxr.task.mixing import BalancedMixUp, Mixing, MixUp
from cxr.task.multi_label import MultiLabel
from tests.task.linear import Data, Linear
from tests.task.test_base import Recorded

KEY = [0, 1, 2, 3]


def batch_of(rows: int, filler: int = 0) -> dict[str, Tensor]:
    """Rows whose images, targets and attributes are powers of two, so that any mixture tells its parts."""
    value = 2.0 ** torch.arange(rows)
    index = torch.arange(rows)
    index[rows - filler :] = -1
    return {
        "image": value[:, None, None, None].expand(rows, 1, 2, 2).to(torch.uint8),
        "target": value[:, None].repeat(1, 3),
        "attributes": value[:, None].repeat(1, 5),
        "index": index,
    }


def parts_of(mixed: Tensor, rows: int) -> list[tuple[int, float]]:
    """For each row r of a mixture, the partner p and its share s in (1 - s) 2^r + s 2^p; (r, 0) if unmixed."""
    found = []
    for row, value in enumerate(mixed.tolist()):
        shares = {p: (value - 2.0**row) / (2.0**p - 2.0**row) for p in range(rows) if p != row}
        found.append(
            (row, 0.0) if value == 2.0**row else next((p, s) for p, s in shares.items() if abs(s - SHARE) < 1e-5)
        )
    return found


SHARE = 0.3


class Fixed(MixUp):
    def share(self, rng: np.random.Generator) -> float:
        return SHARE


def test_images_targets_and_attributes_are_mixed_with_those_of_one_partner() -> None:
    mixed = Fixed()(batch_of(7), KEY)
    parts = parts_of(mixed["image"][:, 0, 1, 1], 7)
    partners = [partner for partner, _ in parts]
    assert sorted(partners) == list(range(7)) and partners != list(range(7))
    assert parts == parts_of(mixed["target"][:, 2], 7) == parts_of(mixed["attributes"][:, 4], 7)
    assert mixed["image"].dtype == torch.float32 and mixed["index"].tolist() == list(range(7))


def test_an_unknown_target_makes_those_of_both_images_unknown() -> None:
    batch = batch_of(7)
    partners = [partner for partner, _ in parts_of(Fixed()(batch, KEY)["target"][:, 0], 7)]
    batch["target"][2, 1] = math.nan
    unknown = Fixed()(batch, KEY)["target"].isnan()
    assert not unknown[:, [0, 2]].any()
    assert unknown[:, 1].tolist() == [row == 2 or partner == 2 for row, partner in enumerate(partners)]


def test_filler_is_never_a_partner() -> None:
    for seed in range(50):
        batch = batch_of(7, filler=3)
        batch["target"][4:] = math.nan
        mixed = Fixed()(batch, [seed, 0, 0, 0])
        partners = [partner for partner, _ in parts_of(mixed["image"][:, 0, 0, 0], 7)]
        assert sorted(partners[:4]) == [0, 1, 2, 3]
        assert mixed["target"].isnan().all(dim=1).tolist() == [False] * 4 + [True] * 3


def test_the_mixture_is_a_function_of_its_key() -> None:
    def at(*key: int) -> list[float]:
        return MixUp()(batch_of(7), key)["target"][:, 0].tolist()

    torch.manual_seed(5)
    first = at(*KEY)
    torch.manual_seed(6)
    assert at(*KEY) == first
    assert all(at(*(number + (place == k) for k, number in enumerate(KEY))) != first for place in range(4))


@pytest.mark.parametrize(
    ("mixing", "mean", "square"),
    [(MixUp(0.2), 1 / 2, 0.2 * 1.2 / (0.4 * 1.4)), (BalancedMixUp(0.5), 1 / 3, 0.5 * 1.5 / (1.5 * 2.5))],
)
def test_shares_have_the_moments_of_their_distribution(mixing: Mixing, mean: float, square: float) -> None:
    shares = np.array([mixing.share(np.random.default_rng(seed)) for seed in range(4000)])
    assert shares.mean() == pytest.approx(mean, abs=0.03) and (shares**2).mean() == pytest.approx(square, abs=0.03)


def test_balanced_mixup_takes_the_share_of_the_second_stream() -> None:
    mixing = BalancedMixUp()
    batch = batch_of(6)
    mixed = mixing(batch, KEY)
    share = mixing.share(np.random.default_rng(KEY))
    expected = [(1 - share) * 2**row + share * 2 ** (row + 3) for row in range(3)]
    assert mixed["image"][:, 0, 0, 0].tolist() == pytest.approx(expected) and mixed["index"].tolist() == [0, 1, 2]
    assert mixed["target"].shape == (3, 3) and mixed["attributes"].shape == (3, 5)


def test_an_epoch_of_mixed_images_logs_the_training_loss_alone_and_all_of_validation() -> None:
    task = MultiLabel().attach(
        Linear(), Recorded(), ["a", "b", "c"], lambda parameters: torch.optim.SGD(parameters, 0.1), mix=MixUp()  # type: ignore[arg-type]
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, use_distributed_sampler=False, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, datamodule=Data(16))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    undefined = {name for name, value in logged.items() if math.isnan(value)}
    assert undefined == {"train/macro_auroc", "train/accuracy"} and "train/loss" in logged


def test_alpha_must_be_above_0() -> None:
    with pytest.raises(CxrError, match=r"mix\.alpha=0 must be a finite number above 0"):
        MixUp(alpha=0)
