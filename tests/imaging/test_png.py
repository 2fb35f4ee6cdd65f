"""PNG files: pixels against Pillow, and damage to every byte."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxr.imaging.decode import BadImage, gray

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_lines(width: int, height: int, *parts: bytes) -> bytes:
    """A gray PNG of these IDAT contents."""
    header = chunk(b"IHDR", struct.pack(">II", width, height) + bytes((8, 0, 0, 0, 0)))
    return SIGNATURE + header + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (1, 65534), (300, 437)])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_pixels_are_those_that_pillow_reads(shape: tuple[int, int], level: int) -> None:
    smooth = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 3 % 256).astype(np.uint8)
    for pixels in (noise(*shape), smooth):
        np.testing.assert_array_equal(gray(encoded(pixels, compress_level=level)), pixels)


def test_pixels_may_be_split_over_chunks_and_followed_by_more() -> None:
    pixels = noise(9, 11)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    np.testing.assert_array_equal(gray(with_lines(11, 9, lines[:40], b"", lines[40:])), pixels)
    np.testing.assert_array_equal(gray(with_lines(11, 7, lines)), pixels[:7])


@pytest.mark.parametrize(
    "ancillary",
    [chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"), chunk(b"tRNS", b"\0\7"),
     chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"acTL", struct.pack(">II", 1, 0))],
    ids=["orientation", "transparency", "gamma", "animation"],
)  # fmt: skip
def test_ancillary_chunks_change_no_pixel(ancillary: bytes) -> None:
    pixels = noise(9, 11)
    content = encoded(pixels)
    np.testing.assert_array_equal(gray(content[:33] + ancillary + content[33:]), pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_flipped_bit_anywhere_is_found(mode: str) -> None:
    content = encoded(np.asarray(Image.fromarray(noise(12, 12)).convert(mode)))
    for place in range(len(SIGNATURE), len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        with pytest.raises(BadImage, match=r"damaged|truncated"):
            gray(damaged)


def test_a_cut_anywhere_is_found() -> None:
    content = encoded(noise(12, 12))
    for length in range(len(SIGNATURE), len(content)):
        with pytest.raises(BadImage, match="truncated"):
            gray(content[:length])


@pytest.mark.parametrize(
    "lines",
    [zlib.compress(bytes(50)), zlib.compress(bytes(132))[:-1] + b"\2", b"no zlib stream", zlib.compress(b"\7" * 132)],
    ids=["too short", "wrong checksum", "not compressed", "unknown filter"],
)
def test_pixels_that_make_no_image_are_refused(lines: bytes) -> None:
    with pytest.raises(BadImage, match="damaged: its pixels cannot be decoded"):
        gray(with_lines(11, 11, lines))


def test_more_compressed_bytes_than_pixels_need_are_refused() -> None:
    with pytest.raises(BadImage, match=r"damaged: \d+ bytes of compressed pixels for 10x10 pixels"):
        gray(with_lines(10, 10, zlib.compress(bytes(200_000_000), 9)))


@pytest.mark.parametrize(("width", "height"), [(1 << 21, 1), (1, 1 << 21)])
def test_a_side_that_opencv_refuses_is_refused(width: int, height: int) -> None:
    with pytest.raises(BadImage, match="damaged"):
        gray(with_lines(width, height, zlib.compress(bytes(height * (width + 1)))))
