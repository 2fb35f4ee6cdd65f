"""The second stream of training images: class-balanced, as long as the first, and resumed with it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cxr.data.datamodule import RadiographData
from cxr.data.pairs import PairedBatches
from cxr.data.sampling import ClassAware, EpochBatches, Shuffled
from tests.data.test_datamodule import data_of

LABELS = np.eye(3, dtype=np.float32)[np.repeat([0, 1, 2], (90, 9, 2))]  # 101 images


def pairs(start: tuple[int, int] = (0, 0), rank: int = 0, ranks: int = 1) -> PairedBatches:
    first, second = (
        EpochBatches(LABELS, 8, seed, order, rank, ranks, start) for seed, order in ((0, Shuffled()), (1, ClassAware()))
    )
    return PairedBatches(first, second)


def test_the_first_stream_shows_every_image_once_and_the_second_all_classes_alike() -> None:
    batches = list(pairs())
    first, second = (np.concatenate([np.split(batch[:, 0], 2)[half] for batch in batches]) for half in (0, 1))
    assert sorted(first) == list(range(101)) and len(batches) == len(pairs())
    shares = LABELS[second].mean(axis=0)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.15)


def test_filler_is_in_the_same_rows_of_both_streams_on_every_rank() -> None:
    for rank in range(3):
        for batch in pairs(rank=rank, ranks=3):
            first, second = np.split(batch[:, 0] < 0, 2)
            assert np.array_equal(first, second)


def test_both_streams_change_with_the_epoch_and_resume_where_they_stopped() -> None:
    whole = pairs()
    zeroth = list(whole)
    whole.sampler.set_epoch(2)
    epoch = list(whole)
    assert all((a[:, 0] != b[:, 0]).any() for a, b in zip(np.split(zeroth[0], 2), np.split(epoch[0], 2), strict=True))
    rest = list(pairs(start=(2, 5)))
    assert len(rest) == len(epoch) - 5 and all(map(np.array_equal, rest, epoch[5:]))


def test_the_loader_delivers_both_streams_in_one_batch(nih_folder: Callable[..., Path]) -> None:
    plain = data_of(nih_folder())
    paired = RadiographData(
        plain.catalog, plain.cache, plain.preprocessing, plain.settings, plain.augmentation, partners=ClassAware()
    )
    alone, both = list(plain.train_dataloader()), list(paired.train_dataloader())
    for one, two in zip(alone, both, strict=True):
        assert len(two["index"]) == 2 * len(one["index"])
        assert all(np.array_equal(one[key], two[key][: len(one[key])], equal_nan=True) for key in one)
    assert [len(batch["index"]) for batch in paired.val_dataloader()] == [
        len(batch["index"]) for batch in plain.val_dataloader()
    ]
