"""From decoded pixels to the network's input: what a run's loaders and network do, and without PyTorch."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing, read_preprocessing

ROOT = Path(__file__).parents[2]
NOISE = np.random.default_rng(0).integers(0, 256, (150, 120), dtype=np.uint8)


@pytest.mark.parametrize("size", [32, 48, 64, 96])
def test_the_whole_image_is_resized_twice_and_normalised(size: int) -> None:
    made = Preprocessing(size, 64, mean=0.4, std=0.2)(NOISE)
    square = cv2.resize(NOISE, (64, 64), interpolation=cv2.INTER_AREA)
    method = cv2.INTER_AREA if size <= 32 else cv2.INTER_LINEAR
    seen = cv2.resize(square, (size, size), interpolation=method)
    assert made.shape == (1, size, size) and made.dtype == np.float32
    np.testing.assert_allclose(made[0], (seen / 255 - 0.4) / 0.2, atol=1e-5)


@pytest.mark.parametrize(("size", "corner"), [(64, 0), (60, 2), (59, 2), (1, 31)])
def test_a_crop_is_the_middle_of_the_square(size: int, corner: int) -> None:
    square = cv2.resize(NOISE, (64, 64), interpolation=cv2.INTER_AREA)
    made = Preprocessing(size, 64, crop=True)(NOISE)
    np.testing.assert_allclose(made[0] * 255, square[corner : corner + size, corner : corner + size], atol=1e-3)


@pytest.mark.parametrize(("preprocessing", "point"), [(Preprocessing(32, 64), 0.5), (Preprocessing(44, 64, True), 1.0)])
def test_a_mark_is_where_its_coordinates_say(preprocessing: Preprocessing, point: float) -> None:
    square = np.zeros((64, 64), np.uint8)
    square[20:24, 36:40] = 200  # rows, columns
    scale, shift = preprocessing.pixels()
    assert scale == point
    rows, columns = np.nonzero(preprocessing.view(square) > 100)
    assert (rows.min(), rows.max() + 1) == (20 * scale + shift, 24 * scale + shift)
    assert (columns.min(), columns.max() + 1) == (36 * scale + shift, 40 * scale + shift)


def test_arrays_and_tensors_are_normalised_alike() -> None:
    preprocessing = Preprocessing(8, 8, mean=0.449, std=0.226)
    values = np.arange(256, dtype=np.float32)
    tensor = preprocessing.normalise(torch.from_numpy(values))
    np.testing.assert_allclose(tensor.numpy(), preprocessing.normalise(values), rtol=1e-6, atol=1e-6)


def test_pixels_become_input_without_pytorch() -> None:
    program = (
        "import sys, numpy as np; from cxr.imaging.preprocessing import Preprocessing\n"
        "assert Preprocessing(4, 8, mean=.5, std=.2)(np.zeros((9, 9), np.uint8)).shape == (1, 4, 4)\n"
        "print([name for name in ('torch', 'lightning', 'pandas') if name in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


GOOD = {"size": 4, "cached": 8, "crop": False, "mean": 0.4, "std": 0.2}


def test_preprocessing_of_a_checkpoint_is_read_back() -> None:
    assert read_preprocessing(vars(Preprocessing(**GOOD)), "x") == Preprocessing(**GOOD)
    assert read_preprocessing({**GOOD, "channels": 1}, "x") == Preprocessing(**GOOD)  # of version 0.1


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (None, "x does not state the preprocessing of its network"),
        ({key: value for key, value in GOOD.items() if key != "cached"}, "it lacks one of size, cached"),
        (GOOD | {"size": 0}, "x: preprocessing: size=0"),
        (GOOD | {"size": True}, "size=true"),
        (GOOD | {"size": 10**9}, "size=1000000000"),
        (GOOD | {"cached": 2, "crop": True}, "cuts 4 px out of a cache of 2 px"),
        (GOOD | {"crop": 1}, "x does not state"),
        (GOOD | {"mean": float("nan")}, "mean=nan"),
        (GOOD | {"mean": "0.4"}, "mean='0.4'"),
        (GOOD | {"std": 0}, "std=0 must be a finite number above 0"),
    ],
)
def test_what_is_no_preprocessing_is_refused(about: object, sentence: str) -> None:
    with pytest.raises(CxrError) as refused:
        read_preprocessing(about, "x")
    assert sentence in str(refused.value)
