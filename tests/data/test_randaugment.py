"""RandAugment's operations against timm's, its draws, and random resized crops against their definition."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from timm.data.auto_augment import AugmentOp

from cxr.data.augment import Augmentation, Draws, RandAugment, RandomResizedCrop
from cxr.data.augment.randaugment import OPERATIONS
from cxr.errors import CxrError

FILM = cv2.GaussianBlur(np.random.default_rng(3).integers(20, 230, (48, 48)).astype(np.uint8), (0, 0), 2)
OURS_BY_TIMM = {
    **{name: name for name in ("AutoContrast", "Equalize", "Invert", "Rotate", "SolarizeAdd", "ShearX", "ShearY")},
    **{f"{name}Increasing": name for name in ("Posterize", "Solarize", "Contrast", "Brightness", "Sharpness")},
    "TranslateXRel": "TranslateX", "TranslateYRel": "TranslateY",
}  # fmt: skip


@pytest.mark.parametrize("name", OURS_BY_TIMM)
@pytest.mark.parametrize("magnitude", [0.0, 3.7, 9.0, 10.0])
@pytest.mark.parametrize("negative", [False, True])
def test_operations_are_those_of_timm(
    name: str, magnitude: float, negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "PosterizeIncreasing":
        magnitude = min(magnitude, 9.9)  # at 10 timm keeps no bit, which Pillow refuses
    monkeypatch.setattr(random, "random", lambda: 0.9 if negative else 0.1)  # by which timm chooses the sign
    options = {"img_mean": 114, "interpolation": Image.Resampling.BILINEAR}
    theirs = AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=options)(Image.fromarray(FILM))
    ours = OPERATIONS[OURS_BY_TIMM[name]](Image.fromarray(FILM), (-1 if negative else 1) * magnitude / 10)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_there_is_an_operation_for_each_of_timm_but_color() -> None:
    from timm.data.auto_augment import rand_augment_transform

    names = {op.name for op in rand_augment_transform("rand-m9-mstd0.5-inc1", {}).ops}
    assert names == {*OURS_BY_TIMM, "ColorIncreasing"} and set(OURS_BY_TIMM.values()) == set(OPERATIONS)


def drawn(transform: RandAugment, images: int, epoch: int = 0) -> np.ndarray:
    return Augmentation([transform], seed=5)([FILM] * images, Draws.of(range(images), epoch), len(FILM))


def test_an_image_is_changed_by_seed_epoch_and_index_alone() -> None:
    together, again = drawn(RandAugment(), 40), drawn(RandAugment(), 40)
    np.testing.assert_array_equal(together, again)
    alone = Augmentation([RandAugment()], seed=5)([FILM], Draws.of([17]), len(FILM))
    np.testing.assert_array_equal(alone[0], together[17])
    assert (together != drawn(RandAugment(), 40, epoch=1)).any(axis=(1, 2)).sum() > 20


def test_a_quarter_of_the_images_passes_two_operations_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each operation, sign and strength is drawn as often as it should be."""
    seen: list[tuple[str, float]] = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda image, x, name=name: seen.append((name, x)) or image)  # type: ignore[misc,call-overload]
    images = 4000
    drawn(RandAugment(operations=2, magnitude=6, spread=0.5), images)
    assert stats.binomtest(len(seen), 2 * images, 0.5).pvalue > 1e-4
    counts = [sum(name == each for each, _ in seen) for name in OPERATIONS]
    assert stats.chisquare(counts).pvalue > 1e-4
    strength = np.array([x for _, x in seen])
    assert stats.binomtest(int((strength > 0).sum()), len(seen), 0.5).pvalue > 1e-4
    assert stats.kstest(np.abs(strength), "norm", (0.6, 0.05)).pvalue > 1e-4


@pytest.mark.parametrize("options", [{"operations": 0}, {"magnitude": 11}, {"spread": -1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(CxrError, match="of RandAugment must"):
        RandAugment(**options)  # type: ignore[arg-type]


# Random resized crop

RAMP = np.add.outer(np.zeros(256), np.arange(256)).astype(np.uint8)


def rectangles(crop: RandomResizedCrop, images: int) -> np.ndarray:
    """(images, 4): left, top, width and height of what is shown, in shares of the image, from two ramps."""
    augmentation, found = Augmentation([crop], seed=2), []
    for image in (RAMP, RAMP.T):
        shown = augmentation([np.ascontiguousarray(image)] * images, Draws.of(range(images)), 64, crop=True)
        line = shown[:, 32, :] if image is RAMP else shown[:, :, 32]
        inner = line[:, 10:54].astype(float)  # away from the borders, where pixels are reflected
        slope, start = np.polyfit(np.arange(10, 54), inner.T, 1)
        found.append(np.stack([(start + slope * -0.5 + 0.5) / 256, slope * 64 / 256], axis=1))
    (left, width), (top, height) = found[0].T, found[1].T
    return np.stack([left, top, width, height], axis=1)


def test_a_crop_has_area_ratio_and_place_as_defined() -> None:
    left, top, width, height = rectangles(RandomResizedCrop(scale=(0.1, 0.5)), 1500).T
    near = 0.01
    assert min(left.min(), top.min()) > -near and max((left + width).max(), (top + height).max()) < 1 + near
    area, ratio = width * height, np.log(width / height)
    assert stats.kstest(area, "uniform", (0.1, 0.4)).pvalue > 1e-4
    assert stats.kstest(ratio, "uniform", (np.log(3 / 4), 2 * np.log(4 / 3))).pvalue > 1e-4
    for place in (left / (1 - width), top / (1 - height)):
        assert stats.kstest(place, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.1 and abs(np.corrcoef(area, ratio)[0, 1]) < 0.1


def test_a_rectangle_that_never_fits_gives_the_whole_image() -> None:
    found = rectangles(RandomResizedCrop(scale=(1, 1), ratio=(1.5, 2)), 5)
    np.testing.assert_allclose(found, np.tile([0, 0, 1, 1], (5, 1)), atol=0.01)


@pytest.mark.parametrize("options", [{"scale": (0, 1)}, {"scale": (0.5, 1.2)}, {"ratio": (0, 1)}, {"scale": (1, 0.5)}])
def test_ranges_of_a_crop_are_checked(options: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(CxrError):
        RandomResizedCrop(**options)


def test_the_strongest_operations_give_images() -> None:
    for name, operation in OPERATIONS.items():
        assert np.asarray(operation(Image.fromarray(FILM), 1.0)).shape == FILM.shape, name
