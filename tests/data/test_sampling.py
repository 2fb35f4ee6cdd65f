"""Batches over ranks: every image once an epoch, as many batches everywhere, windows that do not depend on ranks."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.data.sampling import Balanced, ClassAware, EpochBatches, Few, Order, Shuffled, WeightedByFindings
from cxr.errors import CxrError

lengths, sizes, many = st.integers(0, 150), st.integers(1, 17), st.integers(1, 6)


def of_length(length: int, size: int, seed: int = 0, shuffle: bool = False, rank: int = 0, ranks: int = 1,
              start: tuple[int, int] = (0, 0)) -> EpochBatches:  # fmt: skip
    target = np.zeros((length, 1), np.float32)
    return EpochBatches(target, size, seed, Shuffled() if shuffle else None, rank, ranks, start)


def plain(sampler: EpochBatches) -> list[list[tuple[int, int]]]:
    """Position and epoch of every draw; no image comes twice here."""
    found = list(sampler)
    assert all(batch.dtype == np.int64 and not batch[:, 2].any() for batch in found)
    return [[(int(position), int(epoch)) for position, epoch, _ in batch] for batch in found]


def batches(
    length: int, size: int, ranks: int, shuffle: bool = True, seed: int = 0, epoch: int = 0
) -> list[list[list[tuple[int, int]]]]:
    """Of every rank, its batches of draws."""
    found = []
    for rank in range(ranks):
        sampler = of_length(length, size, seed, shuffle, rank, ranks)
        sampler.set_epoch(epoch)
        found.append(plain(sampler))
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
    sampler = of_length(30, 4, seed=1, shuffle=True)
    first = plain(sampler)
    sampler.set_epoch(1)
    second = plain(sampler)
    sampler.set_epoch(0)
    assert plain(sampler) == first == plain(sampler) and second != first


@pytest.mark.parametrize("shuffle", [True, False])
def test_draws_carry_the_epoch(shuffle: bool) -> None:
    flat = [draw for rank in batches(9, 3, 2, shuffle, epoch=6) for batch in rank for draw in batch]
    assert all(epoch == 6 for _, epoch in flat) and len(flat) == 10


def test_lightning_reaches_set_epoch_through_the_sampler_of_the_batch_sampler() -> None:
    batch_sampler = of_length(30, 4, shuffle=True)
    before = plain(batch_sampler)
    batch_sampler.sampler.set_epoch(1)
    assert plain(batch_sampler) != before


@given(st.integers(1, 80), sizes, many, st.integers(0, 5), st.data())
def test_a_resumed_epoch_is_the_rest_of_the_straight_one_and_the_next_is_whole(
    length: int, size: int, ranks: int, epoch: int, data: st.DataObject
) -> None:
    for rank, straight in enumerate(batches(length, size, ranks, epoch=epoch)):
        had = data.draw(st.integers(0, len(straight)))
        sampler = of_length(length, size, 0, True, rank, ranks, (epoch, had))
        assert plain(sampler) == straight[had:], "before Lightning has said which epoch it is"
        sampler.set_epoch(epoch)
        assert plain(sampler) == straight[had:] and len(sampler) == len(straight)
        sampler.set_epoch(epoch + 1)
        assert plain(sampler) == batches(length, size, ranks, epoch=epoch + 1)[rank]


# Orders that go by the labels

RARE, COMMON, PLENTY = 0.01, 0.1, 0.4


def labelled(length: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    target = (rng.random((length, 3)) < [RARE, COMMON, PLENTY]).astype(np.float32)
    target[rng.random(target.shape) < 0.05] = np.nan
    return target


def counted(order: Order, target: np.ndarray, epochs: int = 20) -> np.ndarray:
    """How often each image comes, as a share of the epochs."""
    drawn = np.concatenate([order(target, 1, epoch) for epoch in range(epochs)])
    assert len(drawn) == epochs * len(target)
    return np.bincount(drawn, minlength=len(target)) / epochs


ORDERS = (Shuffled(), WeightedByFindings(), Balanced(1.0), Balanced(0.5), ClassAware())


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_functions_of_seed_and_epoch(order: Order) -> None:
    target = labelled(300)
    shown = {(s, e): tuple(order(target, s, e).tolist()) for s in range(2) for e in range(3)}
    assert len(set(shown.values())) == 6
    assert all(tuple(order(target, s, e).tolist()) == positions for (s, e), positions in shown.items())
    assert all(0 <= position < 300 for positions in shown.values() for position in positions)


def test_weighted_by_findings_draws_by_one_and_their_number() -> None:
    target = labelled()
    number = np.nansum(target, axis=1)
    often = counted(WeightedByFindings(2.0), target)
    expected = (1 + 2 * number) / (1 + 2 * number).mean()
    for findings in range(3):
        some = number == findings
        assert often[some].mean() == pytest.approx(expected[some].mean(), rel=0.05)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_balanced_draws_by_the_rarest_finding(power: float) -> None:
    target = labelled()
    often = counted(Balanced(power), target)
    present = np.nan_to_num(target) == 1
    none = ~present.any(axis=1)
    counts = np.array([*present.sum(axis=0), none.sum()], float)
    weight = np.array(
        [max([counts[k] ** -power for k in np.flatnonzero(row)] or [counts[3] ** -power]) for row in present]
    )
    expected = weight / weight.mean()
    for group in (present[:, 0], present[:, 1] & ~present[:, 0], none):
        assert often[group].mean() == pytest.approx(expected[group].mean(), rel=0.1)


def test_class_aware_shows_every_class_alike_and_its_images_in_turn() -> None:
    target = np.zeros((1000, 3), np.float32)
    target[:10, 0], target[10:110, 1], target[110:500, 2] = 1, 1, 1  # the rest has none
    drawn = ClassAware()(target, 0, 0)
    groups = np.digitize(drawn, [10, 110, 500])
    assert np.abs(np.bincount(groups) - 250).max() < 60
    rare = np.bincount(drawn[groups == 0], minlength=10)
    assert rare.max() - rare.min() <= 1, "each image of a class comes before one comes again"
    assert set(ClassAware()(np.zeros((7, 2), np.float32), 0, 0)) == set(range(7))


@pytest.mark.parametrize("order", [ClassAware(), Balanced(1.0), Balanced(0.5)])
def test_images_whose_labels_are_all_unknown_are_not_taken_for_no_finding(order: Order) -> None:
    target = np.zeros((60, 2), np.float32)
    target[:20, 0] = 1
    target[20:50] = np.nan  # 30 unknown, 10 without a finding
    target[50:55, 1] = np.nan  # half known: no finding that is known
    often = counted(order, target, epochs=100)
    assert not often[20:50].any()
    assert often[50:].sum() == pytest.approx(often[:20].sum() * shares(order), rel=0.1)


def shares(order: Order) -> float:
    """How often the 10 images without a finding come for each time that the 20 with one do."""
    return 1.0 if isinstance(order, ClassAware) else 10 / 20 * (20 / 10) ** order.power  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", [ClassAware(), Balanced(1.0)])
def test_images_of_which_nothing_at_all_is_known_are_drawn_alike(order: Order) -> None:
    often = counted(order, np.full((20, 3), np.nan, np.float32), epochs=200)
    assert often.min() > 0.7 and often.max() < 1.3


def test_a_repeated_image_is_numbered() -> None:
    target = labelled(50)
    sampler = EpochBatches(target, 7, 3, Balanced())
    drawn = np.concatenate(list(sampler))
    seen: dict[int, int] = {}
    for position, _, repeat in drawn.tolist():
        assert repeat == seen.get(position, 0)
        seen[position] = repeat + 1
    assert max(seen.values()) > 2


@pytest.mark.parametrize("images", [1, 16, 50, 99])
def test_few_shows_the_same_images_over_and_over(images: int) -> None:
    shown = [Few(images)(labelled(50), 3, epoch) for epoch in range(2)]
    assert len(shown[0]) == 50 and np.array_equal(shown[0], shown[1])
    times = np.bincount(shown[0], minlength=50)
    kinds = min(images, 50)
    assert (times > 0).sum() == kinds and times[times > 0].min() >= 50 // kinds and times.max() <= -(-50 // kinds)
    if images == 16:
        assert set(shown[0]) != set(Few(images)(labelled(50), 4, 0)), "another seed draws others"


@pytest.mark.parametrize(
    "make",
    [lambda: Balanced(2), lambda: Balanced(-1), lambda: WeightedByFindings(-1), lambda: Few(0), lambda: Few(1.5)],  # type: ignore[arg-type]
)
def test_orders_refuse_what_makes_no_sense(make: Callable[[], Order]) -> None:
    with pytest.raises(CxrError, match="sampler"):
        make()
