"""Augmentation: streams of their own for every transform, decided by (seed, epoch, image) and by nothing else."""

import random
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cxr.data.augment import Augmentation

import albumentations as A  # isort: skip  # after cxr, which turns its question to the network off

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
NOISE = np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)


def fired(augmentation: Augmentation, epoch: int, index: int) -> tuple[bool, bool]:
    """Whether a horizontal and a vertical flip were made, read off the pixels."""
    result = augmentation(IMAGE, epoch, index)
    for horizontal, vertical in product((False, True), repeat=2):
        expected = IMAGE[:, ::-1] if horizontal else IMAGE
        if np.array_equal(result, expected[::-1] if vertical else expected):
            return horizontal, vertical
    raise AssertionError("neither of the four")


def flips(seed: int = 0) -> Augmentation:
    return Augmentation([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], seed)


def every_kind(seed: int = 0) -> Augmentation:
    """Transforms that draw from NumPy's generator and from Python's."""
    affine = A.Affine(rotate=(-5, 5), translate_percent=(-0.05, 0.05), scale=(0.9, 1.15), border_mode=4, p=1)
    return Augmentation([affine, A.HorizontalFlip(p=0.5), A.GaussNoise(p=1), A.RandomBrightnessContrast(p=1)], seed)


@pytest.mark.parametrize("over", ["images", "epochs", "seeds"])
def test_two_flips_do_not_fire_together(over: str) -> None:
    places = {"images": lambda i: (0, 3, i), "epochs": lambda i: (0, i, 3), "seeds": lambda i: (i, 3, 0)}
    drawn = []
    for i in range(200):
        seed, epoch, index = places[over](i)
        drawn.append(fired(flips(seed), epoch, index))
    horizontal, vertical = np.array(drawn, float).T
    assert abs(np.corrcoef(horizontal, vertical)[0, 1]) < 0.25  # 3.5 standard deviations
    assert {drawn.count(pair) > 25 for pair in product((False, True), repeat=2)} == {True}
    assert 70 < horizontal.sum() < 130 and 70 < vertical.sum() < 130


def test_two_transforms_of_one_kind_have_streams_of_their_own() -> None:
    twice = Augmentation([A.HorizontalFlip(p=0.5), A.HorizontalFlip(p=0.5)])
    turned = [fired(twice, 0, index)[0] for index in range(200)]
    assert 60 < sum(turned) < 140  # one stream for both would turn every image back


def test_neighbouring_images_and_epochs_do_not_fire_together() -> None:
    grid = np.array([[fired(flips(), epoch, index)[0] for index in range(20)] for epoch in range(20)], float)
    assert abs(np.corrcoef(grid[:, 1:].ravel(), grid[:, :-1].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(grid[1:].ravel(), grid[:-1].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(grid.ravel(), grid.T.ravel())[0, 1]) < 0.2  # (epoch, index) is not (index, epoch)


def test_same_seed_epoch_and_image_give_the_same_pixels() -> None:
    first, second = every_kind(5), every_kind(5)
    places = [(epoch, index) for epoch in range(3) for index in range(10)]
    once = {place: first(NOISE, *place) for place in places}
    random.Random(0).shuffle(places)
    for place in places:  # in another order, from another object, whatever the global generators say
        random.seed(places.index(place))
        np.random.seed(places.index(place))  # noqa: NPY002
        np.testing.assert_array_equal(second(NOISE, *place), once[place])


def test_pixels_change_with_seed_epoch_and_image() -> None:
    places = list(product(range(2), range(4), range(4)))
    results = {every_kind(seed)(NOISE, epoch, index).tobytes() for seed, epoch, index in places}
    assert len(results) == len(places)


def test_global_generators_are_left_alone() -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    every_kind()(NOISE, 0, 0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_later_transforms_do_not_move_the_stream_of_earlier_ones() -> None:
    alone = Augmentation([A.HorizontalFlip(p=0.5)])
    for index in range(50):
        assert fired(alone, 0, index)[0] == fired(flips(), 0, index)[0]


def test_transforms_are_made_in_their_order() -> None:
    crop, pad = A.CenterCrop(4, 4), A.PadIfNeeded(6, 6, border_mode=0, fill=0)
    framed = Augmentation([crop, pad])(np.full((6, 6), 9, np.uint8), 0, 0)
    assert framed.sum() == 9 * 16 and framed.shape == (6, 6)
    assert Augmentation([pad, crop])(np.full((6, 6), 9, np.uint8), 0, 0).tolist() == [[9] * 4] * 4


def test_no_transforms_leave_the_image_as_it_is() -> None:
    np.testing.assert_array_equal(Augmentation()(NOISE, 1, 2), NOISE)


def test_read_only_images_of_the_cache_are_never_written_to() -> None:
    frozen = NOISE.copy()
    frozen.flags.writeable = False
    changed = Augmentation([*every_kind().transforms, A.CoarseDropout(p=1)])(frozen, 0, 0)
    assert not np.array_equal(changed, frozen)
    np.testing.assert_array_equal(frozen, NOISE)


def test_import_asks_the_network_for_nothing() -> None:
    code = """
import os, socket, sys, urllib.request
os.environ.pop("NO_ALBUMENTATIONS_UPDATE", None)
asked = []
def refuse(*arguments, **more):
    asked.append(arguments)
    raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
urllib.request.OpenerDirector.open = refuse
import cxr.data.augment
ours = len(asked)
for name in [name for name in sys.modules if name.split(".")[0] == "albumentations"]:
    del sys.modules[name]
os.environ.pop("NO_ALBUMENTATIONS_UPDATE")
import albumentations
print(ours, len(asked) - ours)
"""
    command, root = [sys.executable, "-c", code], Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    ours, theirs = map(int, done.stdout.split()[-2:])
    assert ours == 0
    if theirs == 0:
        pytest.skip("this albumentations asks for nothing on its own, so nothing is shown by the silence of ours")
