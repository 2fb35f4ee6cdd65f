"""Batches over ranks: every image once an epoch, as many batches everywhere, windows that do not depend on ranks."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.data.sampling import EpochBatches

lengths, sizes, many = st.integers(0, 150), st.integers(1, 17), st.integers(1, 6)


def batches(
    length: int, size: int, ranks: int, shuffle: bool = True, seed: int = 0, epoch: int = 0
) -> list[list[list[tuple[int, int]]]]:
    """Of every rank, its batches of draws."""
    found = []
    for rank in range(ranks):
        sampler = EpochBatches(length, size, seed, shuffle, rank, ranks)
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(sampler) == len(found[-1])
    return found


def draws(one_rank: list[list[tuple[int, int]]]) -> list[int]:
    return [position for batch in one_rank for position, _ in batch]


@given(lengths, sizes, many, st.booleans(), st.integers(0, 9), st.integers(0, 9))
def test_every_image_exactly_once_over_all_ranks(
    length: int, size: int, ranks: int, shuffle: bool, seed: int, epoch: int
) -> None:
    drawn = chain.from_iterable(draws(rank) for rank in batches(length, size, ranks, shuffle, seed, epoch))
    assert sorted(position for position in drawn if position >= 0) == list(range(length))


@given(lengths, sizes, many, st.booleans())
def test_every_rank_has_the_same_number_of_batches_of_the_same_size(
    length: int, size: int, ranks: int, shuffle: bool
) -> None:
    shapes = [[len(batch) for batch in rank] for rank in batches(length, size, ranks, shuffle)]
    assert all(shape == shapes[0] for shape in shapes)
    assert all(count == size for count in shapes[0][:-1]) and all(0 < count <= size for count in shapes[0])


@given(lengths, sizes, many, st.booleans())
def test_filler_comes_last_and_is_as_little_as_can_be(length: int, size: int, ranks: int, shuffle: bool) -> None:
    most = -(-length // ranks)  # images of the rank that has most
    alone = size > 1 and most % size == 1
    for rank in batches(length, size, ranks, shuffle):
        drawn = draws(rank)
        filler = [position for position in drawn if position < 0]
        assert len(drawn) == most + alone and drawn[len(drawn) - len(filler) :] == filler
        assert len(filler) <= 1 + alone and all(0 <= ~position < length for position in filler)


@given(lengths, st.integers(2, 17), many, st.booleans())
def test_no_image_is_alone_in_a_batch(length: int, size: int, ranks: int, shuffle: bool) -> None:
    assert all(len(batch) > 1 for rank in batches(length, size, ranks, shuffle) for batch in rank)


@given(st.integers(0, 200), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_windows_hold_the_same_images_whatever_the_number_of_ranks(
    length: int, size: int, accumulated: int, epoch: int
) -> None:
    def windows(ranks: int) -> list[set[int]]:
        """The images of each optimizer step: `12 * accumulated * size` of them, over all ranks."""
        steps = 12 // ranks * accumulated
        found = batches(length, size, ranks, epoch=epoch)
        count = -(-len(found[0]) // steps)
        taken = [[set(draws(rank[k * steps : (k + 1) * steps])) for rank in found] for k in range(count)]
        return [{position for each in window for position in each if position >= 0} for window in taken]

    alone = windows(1)
    assert all(windows(ranks) == alone for ranks in (2, 3, 4))
    assert all(len(window) == 12 * accumulated * size for window in alone[:-1])


def real(one_rank: list[list[tuple[int, int]]]) -> list[int]:
    return [position for position in draws(one_rank) if position >= 0]


def test_six_and_seven_images_on_two_ranks() -> None:
    assert [draws(rank) for rank in batches(6, 3, 2, shuffle=False)] == [[0, 2, 4], [1, 3, 5]]
    assert [draws(rank) for rank in batches(7, 4, 2, shuffle=False)] == [[0, 2, 4, 6], [1, 3, 5, ~0]]


def test_more_ranks_than_images_get_filler() -> None:
    assert [draws(rank) for rank in batches(1, 1, 3, shuffle=False)] == [[0], [~0], [~0]]
    assert [draws(rank) for rank in batches(1, 4, 3, shuffle=False)] == [[0, ~0], [~0, ~0], [~0, ~0]]


def test_evaluation_has_the_tables_order_in_every_epoch() -> None:
    for epoch in (0, 3):
        assert draws(batches(23, 4, 1, shuffle=False, epoch=epoch)[0]) == list(range(23))


def test_order_is_decided_by_seed_and_epoch_alone() -> None:
    orders = {(s, e): tuple(real(batches(50, 7, 1, seed=s, epoch=e)[0])) for s in range(3) for e in range(3)}
    assert len(set(orders.values())) == 9  # seed 0 epoch 1 is not seed 1 epoch 0
    for (seed, epoch), order in orders.items():
        assert tuple(real(batches(50, 11, 1, seed=seed, epoch=epoch)[0])) == order
        assert order != tuple(range(50))


def test_iterating_twice_or_later_gives_the_same_epoch() -> None:
    sampler = EpochBatches(30, 4, seed=1, shuffle=True)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first == list(sampler) and second != first


@pytest.mark.parametrize("shuffle", [True, False])
def test_draws_are_plain_numbers_that_carry_the_epoch(shuffle: bool) -> None:
    found = batches(9, 3, 2, shuffle, epoch=6)
    flat = [draw for rank in found for batch in rank for draw in batch]
    assert all(type(position) is int and epoch == 6 for position, epoch in flat) and len(flat) == 10


def test_lightning_reaches_set_epoch_through_the_sampler_of_the_batch_sampler() -> None:
    batch_sampler = EpochBatches(30, 4, shuffle=True)
    before = list(batch_sampler)
    batch_sampler.sampler.set_epoch(1)
    assert list(batch_sampler) != before
