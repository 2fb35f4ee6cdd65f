"""Augmentation: a stream of its own for every transform, one warp for all that moves pixels, one table for tones."""

import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage, stats

from cxr.data.augment import Affine, Augmentation, Draws, Flip, Tone, uniform
from cxr.errors import CxrError

import albumentations as A  # isort: skip  # after cxr, which turns its question to the network off

SIZE = 24
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
SMOOTH = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8), (0, 0), 6)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 255, cv2.NORM_MINMAX)


def show(augmentation: Augmentation, image: np.ndarray, epoch: int = 0, index: int = 0, size: int | None = None,
         **more: bool) -> np.ndarray:  # fmt: skip
    return augmentation([image], Draws.of([index], epoch), size or len(image), **more)[0]


def mirrored(augmentation: Augmentation, epoch: int, index: int) -> bool:
    shown = show(augmentation, NOISE, epoch, index)
    if np.array_equal(shown, NOISE):
        return False
    np.testing.assert_array_equal(shown, NOISE[:, ::-1])
    return True


def inverted(augmentation: Augmentation, epoch: int, index: int) -> tuple[bool, bool]:
    """Whether the image was mirrored and whether its grays were inverted by a transform of albumentations."""
    shown = show(augmentation, NOISE, epoch, index)
    for turned, negative in product((False, True), repeat=2):
        expected = NOISE[:, ::-1] if turned else NOISE
        if np.array_equal(shown, 255 - expected if negative else expected):
            return turned, negative
    raise AssertionError("neither of the four")


def every_kind(seed: int = 0) -> Augmentation:
    """All of ours, and transforms that draw from NumPy's generator and from Python's."""
    affine = Affine(rotate=(-5, 5), shift=(-0.05, 0.05), scale=(0.9, 1.15), shear=(-3, 3))
    tone = Tone((-0.1, 0.1), (0.8, 1.2), (0.8, 1.2))
    return Augmentation([affine, Flip(), tone, A.GaussNoise(p=1), A.RandomBrightnessContrast(p=1)], seed)


# Chance


def test_numbers_are_uniform_and_independent() -> None:
    index = np.arange(20_000)
    drawn = np.concatenate([uniform(3, Draws.of(index, 2), stream, 3) for stream in range(3)], axis=1)
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    off = np.corrcoef(drawn.T) - np.eye(9)
    assert np.abs(off).max() < 0.03  # four standard deviations
    by_epoch = np.stack([uniform(3, Draws.of(index, epoch), 0, 1)[:, 0] for epoch in range(4)])
    by_seed = np.stack([uniform(seed, Draws.of(index, 2), 0, 1)[:, 0] for seed in range(4)])
    repeated = Draws(np.full(20_000, 2), index, np.ones(20_000, np.int64))
    for rows in (by_epoch, by_seed, np.stack([drawn[:, 0], uniform(3, repeated, 0, 1)[:, 0]])):
        assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.03
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 0.03
    assert len(np.unique(drawn)) > drawn.size * 0.999


def test_an_image_gets_its_numbers_in_any_batch() -> None:
    whole = uniform(1, Draws.of(range(50), 4), 2, 3)
    for row in (0, 7, 49):
        np.testing.assert_array_equal(uniform(1, Draws.of([row], 4), 2, 3)[0], whole[row])


@pytest.mark.parametrize("over", ["images", "epochs", "seeds"])
def test_two_transforms_do_not_fire_together(over: str) -> None:
    places = {"images": lambda i: (0, 3, i), "epochs": lambda i: (0, i, 3), "seeds": lambda i: (i, 3, 0)}
    drawn = []
    for i in range(200):
        seed, epoch, index = places[over](i)
        drawn.append(inverted(Augmentation([Flip(0.5), A.InvertImg(p=0.5)], seed), epoch, index))
    first, second = np.array(drawn, float).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25  # 3.5 standard deviations
    assert {drawn.count(pair) > 25 for pair in product((False, True), repeat=2)} == {True}
    assert 70 < first.sum() < 130 and 70 < second.sum() < 130


def test_two_transforms_of_one_kind_have_streams_of_their_own() -> None:
    for transforms in ([Flip(0.5), Flip(0.5)], [A.HorizontalFlip(p=0.5), A.HorizontalFlip(p=0.5)]):
        turned = [mirrored(Augmentation(transforms), 0, index) for index in range(200)]
        assert 60 < sum(turned) < 140  # one stream for both would turn every image back


def test_neighbouring_images_and_epochs_do_not_fire_together() -> None:
    flip = Augmentation([Flip(0.5)])
    grid = np.array([[mirrored(flip, epoch, index) for index in range(20)] for epoch in range(20)], float)
    assert abs(np.corrcoef(grid[:, 1:].ravel(), grid[:, :-1].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(grid[1:].ravel(), grid[:-1].ravel())[0, 1]) < 0.2
    assert abs(np.corrcoef(grid.ravel(), grid.T.ravel())[0, 1]) < 0.2  # (epoch, index) is not (index, epoch)


def test_same_seed_epoch_and_image_give_the_same_pixels() -> None:
    first, second = every_kind(5), every_kind(5)
    places = [(epoch, index) for epoch in range(3) for index in range(10)]
    once = {place: show(first, NOISE, *place) for place in places}
    random.Random(0).shuffle(places)
    for place in places:  # in another order, from another object, whatever the global generators say
        random.seed(places.index(place))
        np.random.seed(places.index(place))  # noqa: NPY002
        np.testing.assert_array_equal(show(second, NOISE, *place), once[place])


def test_pixels_change_with_seed_epoch_image_and_repeat() -> None:
    places = list(product(range(2), range(4), range(4)))
    results = {show(every_kind(seed), NOISE, epoch, index).tobytes() for seed, epoch, index in places}
    assert len(results) == len(places)
    one = np.array([1])
    for augmentation in (every_kind(), Augmentation([A.GaussNoise(p=1)])):
        shown = [augmentation([NOISE], Draws(one, one, one * k), SIZE)[0].tobytes() for k in range(4)]
        assert len(set(shown)) == 4, "an image that comes twice in an epoch looks different"


def test_global_generators_are_left_alone() -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    show(every_kind(), NOISE)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_later_transforms_do_not_move_the_stream_of_earlier_ones() -> None:
    alone, two = Augmentation([Flip(0.5)]), Augmentation([Flip(0.5), A.InvertImg(p=0.5)])
    for index in range(50):
        assert mirrored(alone, 0, index) == inverted(two, 0, index)[0]


# Geometry


def place_of(matrix: np.ndarray, size: int, cached: int) -> np.ndarray:
    """Where each pixel (row, column) that comes out lies in the cache's image, by the inverse map about the centre."""
    rows, columns = np.mgrid[:size, :size]
    out = np.stack([columns - (size - 1) / 2, rows - (size - 1) / 2, np.ones_like(rows)]).reshape(3, -1)
    back = np.linalg.solve(matrix, out.astype(float)) * (cached / size)
    return np.stack([back[1] + (cached - 1) / 2, back[0] + (cached - 1) / 2]).reshape(2, size, size)


def interpolated(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(image.astype(float), places, order=1, mode="mirror")


def about(angle: float, scale: float, shift: tuple[float, float], shear: float = 0) -> np.ndarray:
    """A map of (x, y, 1): shear along x, turn clockwise on the screen, enlarge, shift."""
    a, s = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    lean = np.array([[1, s, 0], [0, 1, 0], [0, 0, 1]])
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ np.diag([scale, scale, 1]) @ turn @ lean


def fixed(rotate: float = 0, shift: float = 0, scale: float = 1, shear: float = 0) -> Affine:
    return Affine((rotate, rotate), (shift, shift), (scale, scale), (shear, shear))


@pytest.mark.parametrize("size", [64, 56, 90])
@pytest.mark.parametrize(
    ("rotate", "shift", "scale", "shear"),
    [(10, 0, 1, 0), (0, 0.1, 1, 0), (0, 0, 1.3, 0), (0, 0, 1, 8), (-7, 0.03, 0.8, 4)],
)  # fmt: skip
def test_affine_shows_what_interpolation_at_the_mapped_places_shows(
    size: int, rotate: float, shift: float, scale: float, shear: float
) -> None:
    shown = show(Augmentation([fixed(rotate, shift, scale, shear)]), SMOOTH, size=size)
    matrix = about(rotate, scale, (shift * size, shift * size), shear)
    expected = interpolated(SMOOTH, place_of(matrix, size, 64))
    assert np.abs(shown - expected).max() <= 2  # OpenCV interpolates at 1/32 of a pixel
    assert np.abs(shown - expected).mean() < 0.5


def test_a_positive_angle_turns_clockwise_and_a_positive_shift_goes_right_and_down() -> None:
    image = np.zeros((65, 65), np.uint8)
    image[12, 32] = 255  # above the centre
    assert np.unravel_index(show(Augmentation([fixed(rotate=90)]), image).argmax(), (65, 65)) == (32, 52)
    image[12, 32], image[32, 32] = 0, 255
    moved = show(Augmentation([fixed(shift=10 / 65)]), image)
    assert np.unravel_index(moved.argmax(), (65, 65)) == (42, 42)


def test_two_maps_are_one_warp_in_their_order() -> None:
    first, second = fixed(rotate=20), fixed(shift=0.15)
    matrix = about(0, 1, (0.15 * 64, 0.15 * 64)) @ about(20, 1, (0, 0))
    shown = show(Augmentation([first, second]), SMOOTH)
    assert np.abs(shown - interpolated(SMOOTH, place_of(matrix, 64, 64))).max() <= 2
    texture = np.random.default_rng(3).integers(0, 256, (64, 64), np.uint8)
    inner = (slice(28, 44), slice(28, 44))  # what comes in from outside differs
    once = show(Augmentation([first, second]), texture)
    after = show(Augmentation([second]), show(Augmentation([first]), texture))
    assert once[inner].std() > 1.05 * after[inner].std(), "one interpolation blurs less than two"


def test_a_map_and_its_inverse_leave_the_very_pixels() -> None:
    np.testing.assert_array_equal(show(Augmentation([fixed(rotate=13), fixed(rotate=-13)]), NOISE), NOISE)
    np.testing.assert_array_equal(show(Augmentation([Flip(1), Flip(1)]), NOISE), NOISE)


@pytest.mark.parametrize("size", [24, 20, 12, 11, 40])
def test_an_image_without_a_map_is_resized_once(size: int) -> None:
    method = cv2.INTER_AREA if size <= 12 else cv2.INTER_LINEAR
    expected = NOISE if size == SIZE else cv2.resize(NOISE, (size, size), interpolation=method)
    np.testing.assert_array_equal(show(Augmentation(), NOISE, size=size), expected)
    np.testing.assert_array_equal(show(Augmentation([Flip(1)]), NOISE, size=size), expected[:, ::-1])


def test_an_image_of_twice_the_size_is_brought_down_by_area_before_it_is_warped() -> None:
    stripes = np.tile(np.array([0, 0, 0, 255], np.uint8), (256, 64))
    shown = show(Augmentation([fixed(rotate=3)]), stripes, size=64)
    assert np.abs(shown[8:-8, 8:-8].astype(int) - 64).max() <= 1, "every pixel counts"


def test_crops_lie_anywhere_in_training() -> None:
    big = np.arange(64 * 64).reshape(64, 64) % 251
    big = big.astype(np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(big, (60, 60))
    corners = []
    for index in range(300):
        shown = show(Augmentation(), big, index=index, size=60, crop=True)
        places = np.argwhere((windows == shown).all(axis=(2, 3)))
        corners.append(tuple(places[0]))
    rows, columns = np.array(corners).T
    assert set(rows) == set(columns) == set(range(5))
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2 and min(np.bincount(rows)) > 30


def test_a_crop_is_turned_with_the_rest_in_one_warp() -> None:
    shown = show(Augmentation([fixed(rotate=10)]), SMOOTH, size=48, crop=True)
    rows, columns = np.mgrid[:48, :48]
    out = np.stack([columns - 23.5, rows - 23.5, np.ones_like(rows)]).reshape(3, -1).astype(float)
    back = np.linalg.solve(about(10, 1, (0, 0)), out)
    errors = [
        np.abs(shown - interpolated(SMOOTH, np.stack([back[1] + top, back[0] + left]).reshape(2, 48, 48))).max()
        for top in 23.5 + np.arange(17)
        for left in 23.5 + np.arange(17)
    ]
    assert min(errors) <= 2 < np.median(errors)


def test_ranges_are_filled_to_their_ends() -> None:
    draws = Draws.of(range(2000))
    affine = Affine(rotate=(-5, 5), shift=(-0.05, 0.05), scale=(0.9, 1.15))
    maps = affine.matrices(uniform(0, draws, 0, affine.numbers), 200)
    scale = np.sqrt(np.linalg.det(maps[:, :2, :2]))
    angle = np.rad2deg(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    for values, low, high in ((scale, 0.9, 1.15), (angle, -5, 5), (maps[:, 0, 2], -10, 10), (maps[:, 1, 2], -10, 10)):
        assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef([scale, angle, maps[:, 0, 2], maps[:, 1, 2]]) - np.eye(4)).max() < 0.1


def test_p_is_how_often() -> None:
    some = Affine(rotate=(5, 5), p=0.3).matrices(uniform(0, Draws.of(range(4000)), 0, 6), 10)
    assert 0.26 < np.mean([not np.array_equal(m, np.eye(3)) for m in some]) < 0.34


# Tone


def ramp() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_tone_is_gamma_then_contrast_then_brightness() -> None:
    shown = show(Augmentation([Tone((0.1, 0.1), (1.5, 1.5), (0.7, 0.7))]), ramp())
    gray = np.arange(256) / 255
    expected = np.clip((gray**0.7 - 0.5) * 1.5 + 0.5 + 0.1, 0, 1) * 255
    assert np.abs(shown.ravel() - expected).max() <= 0.5 + 1e-6


def test_tones_become_one_table_that_is_rounded_once() -> None:
    dark, light = Tone(contrast=(0.1, 0.1)), Tone(contrast=(10, 10))
    both = show(Augmentation([dark, light]), ramp()).astype(int)
    assert np.abs(both - ramp()).ravel()[4:-4].max() <= 1  # two roundings would leave 26 grays
    nothing = Augmentation([Tone((0.2, 0.2), p=0)])
    np.testing.assert_array_equal(show(nothing, ramp()), ramp())


# Refusals and order


def test_transforms_of_albumentations_are_made_in_their_order() -> None:
    darker, invert = A.RandomBrightnessContrast((-0.5, -0.5), (0, 0), p=1), A.InvertImg(p=1)
    light = np.full((8, 8), 200, np.uint8)
    assert show(Augmentation([darker, invert]), light).mean() > 150
    assert show(Augmentation([invert, darker]), light).mean() < 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(1.5), "p=1.5 must be between 0 and 1"),
        (lambda: Affine(scale=(0, 1)), r"scale=\[0, 1\] must be above 0"),
        (lambda: Affine(rotate=(5, -5)), r"rotate=\[5, -5\] must be two numbers \[low, high\] in order"),
        (lambda: Affine(rotate=5), "rotate=5 must be two numbers"),
        (lambda: Affine(shear=(-95, 0)), "between -90 and 90"),
        (lambda: Affine(shift=(float("nan"), 0)), "shift="),
        (lambda: Tone(gamma=(0, 1)), r"gamma=\[0, 1\] must be above 0"),
        (lambda: Augmentation([cv2.flip]), "is not a transform"),
        (lambda: show(Augmentation([A.CenterCrop(4, 4)]), NOISE), "keep shape and data type"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(CxrError, match=message):
        make()


def test_no_transforms_leave_the_image_as_it_is() -> None:
    np.testing.assert_array_equal(show(Augmentation(), NOISE, 1, 2), NOISE)
    assert Augmentation()([], Draws.of([]), 9).shape == (0, 9, 9)


@pytest.mark.parametrize("transforms", [(), (Flip(1),), (fixed(3),), (Tone((0.1, 0.1)),), (A.CoarseDropout(p=1),)])
def test_read_only_images_of_the_cache_are_never_written_to(transforms: Sequence[Any]) -> None:
    frozen = NOISE.copy()
    frozen.flags.writeable = False
    shown = show(Augmentation(transforms), frozen)
    shown[:] = 0
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
