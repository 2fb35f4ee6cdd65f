"""Every kind of file is decoded right, and resized as areas say."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cxr.data.cache import read_gray, resize
from cxr.imaging.decode import BadImage

RNG = np.random.default_rng(7)
GRAY = RNG.integers(0, 256, (9, 13), np.uint8)
COLOUR = RNG.integers(0, 256, (9, 13, 3), np.uint8)
Folder = Callable[..., Path]


def test_gray_is_taken_as_it_is(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), GRAY)
    read = read_gray(tmp_path / "a.png")
    np.testing.assert_array_equal(read, GRAY)
    assert read.dtype == np.uint8


def test_sixteen_bits_are_scaled_to_eight_when_they_are_resized(tmp_path: Path) -> None:
    row = [0, 128, 129, 257, 32768, 65535]
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(np.array(row, np.uint16), (6, 1)))
    read = read_gray(tmp_path / "a.png")
    assert read.dtype == np.uint16 and read[0].tolist() == row
    assert resize(read, 6)[0].tolist() == [0, 0, 1, 1, 128, 255] and resize(read, 6).dtype == np.uint8


@pytest.mark.parametrize(("white", "dtype"), [(1, np.float32), (255, np.float32), (2**31 - 1, np.int32)])
def test_values_of_another_range_are_refused_with_their_range(white: float, dtype: type, tmp_path: Path) -> None:
    values = (np.linspace(0.5, 1, 64).reshape(8, 8) * white).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(BadImage) as raised:
        read_gray(tmp_path / "a.tif")
    assert f"range from {values.min():g} to {values.max():g}, where black is 0 and white 65535" in str(raised.value)
    Image.fromarray((values / values.max() * 65535).astype(dtype)).save(tmp_path / "a.tif")
    assert read_gray(tmp_path / "a.tif")[[0, -1], [0, -1]] == pytest.approx([32767.5, 65535], abs=0.5)


def test_sixteen_bits_are_rounded_once(tmp_path: Path) -> None:
    """100 and 156 of 257 would be the bytes 0 and 1 if they were rounded before the mean is taken."""
    values = np.tile(np.array([[100, 156], [100, 156]], np.uint16), (4, 4))
    assert (resize(values, 4) == 0).all()  # 128 of 257
    assert (resize(values + 2, 4) == 1).all()  # 130 of 257
    noisy = RNG.integers(0, 65536, (40, 40), np.uint16)
    means = noisy.reshape(10, 4, 10, 4).mean(axis=(1, 3)) / 257
    assert (np.abs(resize(noisy, 10) - means) <= 0.5001).all()


def test_every_eight_bit_value_survives_sixteen_bits(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "a.png"), ramp * 257)
    np.testing.assert_array_equal(resize(read_gray(tmp_path / "a.png"), 16), ramp)


@pytest.mark.parametrize("alpha", [np.full((9, 13), 255, np.uint8), np.zeros((9, 13), np.uint8), GRAY[::-1]])
def test_alpha_of_gray_rgba_is_passed_over(tmp_path: Path, alpha: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([GRAY, GRAY, GRAY, alpha]))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), GRAY)


def test_gray_with_alpha_is_its_gray_channel(tmp_path: Path) -> None:
    Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(GRAY[:, ::-1].copy())]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), GRAY)


def test_rgb_with_equal_channels_is_its_gray_channel(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([GRAY] * 3))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), GRAY)


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colour_is_turned_into_luma(tmp_path: Path, channels: str) -> None:
    red, green, blue = (COLOUR[..., k] for k in range(3))
    planes = [blue, green, red] + ([GRAY] if channels == "RGBA" else [])  # OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack(planes))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(read_gray(tmp_path / "a.png") - luma).max() <= 1


def test_palette_indices_are_not_taken_for_gray(tmp_path: Path) -> None:
    indices = RNG.integers(0, 8, (9, 13), np.uint8)
    levels = np.array([200, 10, 90, 255, 0, 33, 128, 64], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(np.repeat(levels, 3).tolist())
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == "P"
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), levels[indices])


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GRAY > 127).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), np.where(GRAY > 127, 255, 0))


def test_real_rgba_files_decode_to_their_gray_channel(shared: Path) -> None:
    modes = {}
    for path in sorted((shared / "nih_native").glob("*.png")):
        modes[path] = path.read_bytes()[25]  # PNG colour type: 0 gray, 6 RGBA
    rgba = [path for path, mode in modes.items() if mode == 6]
    assert len(modes) == 48 and len(rgba) == 4
    for path in [*rgba, *[path for path, mode in modes.items() if mode == 0][:4]]:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        np.testing.assert_array_equal(read_gray(path), pixels[..., 0] if pixels.ndim == 3 else pixels)


def test_real_mini_files_decode_as_another_library_decodes_them(shared: Path) -> None:
    for path in sorted((shared / "nih_mini" / "images").iterdir())[::60]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_gray(path), np.asarray(image))


# Resizing


def overlap(old: int, new: int) -> np.ndarray:
    """(new, old): the share of each new pixel that each old one covers."""
    weights = np.zeros((new, old))
    scale = old / new
    for i in range(new):
        for j in range(old):
            weights[i, j] = max(0.0, min((i + 1) * scale, j + 1) - max(i * scale, j)) / scale
    return weights


def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    image = RNG.integers(0, 256, (48, 48), np.uint8)
    means = [[image[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for j in range(12)] for i in range(12)]
    assert np.abs(resize(image, 12) - np.array(means)).max() <= 0.5


@pytest.mark.parametrize(("shape", "size"), [((30, 30), 12), ((40, 25), 10), ((256, 256), 224)])
def test_shrinking_weighs_every_pixel_by_its_area(shape: tuple[int, int], size: int) -> None:
    image = RNG.integers(0, 256, shape, np.uint8)
    expected = overlap(shape[0], size) @ image @ overlap(shape[1], size).T
    assert np.abs(resize(image, size) - expected).max() <= 0.51


def test_growing_is_bilinear() -> None:
    image = RNG.integers(0, 256, (5, 5), np.uint8)
    grown = resize(image, 10)
    for i in range(10):
        for j in range(10):
            y, x = (min(max((k + 0.5) / 2 - 0.5, 0), 4) for k in (i, j))
            top, left = min(int(y), 3), min(int(x), 3)
            b, a = y - top, x - left
            square = image[top : top + 2, left : left + 2].astype(float)
            expected = (1 - b) * ((1 - a) * square[0, 0] + a * square[0, 1]) + b * (
                (1 - a) * square[1, 0] + a * square[1, 1]
            )
            assert abs(grown[i, j] - expected) <= 1


def test_image_of_the_right_size_is_untouched() -> None:
    np.testing.assert_array_equal(resize(GRAY[:9, :9], 9), GRAY[:9, :9])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n%%EndProlog\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.eps"])
def test_postscript_reaches_no_ghostscript_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it is looked for anew
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(subprocess.CalledProcessError):  # the trap works: Pillow alone calls it
        Image.open(tmp_path / name).load()
    assert (tmp_path / "called").exists()
    (tmp_path / "called").unlink()
    with pytest.raises(BadImage, match="not an image of a known format"):
        read_gray(tmp_path / name)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "WEBP"])
def test_each_format_of_the_documentation_is_read(tmp_path: Path, kind: str) -> None:
    values = np.repeat(np.arange(0, 250, 10, np.uint8)[:, None], 20, axis=1)
    Image.fromarray(values).save(tmp_path / "film", kind, **({"quality": 100} if kind in ("JPEG", "WEBP") else {}))
    assert np.abs(read_gray(tmp_path / "film").astype(int) - values).max() <= 4
