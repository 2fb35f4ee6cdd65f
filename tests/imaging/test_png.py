"""Gray PNG against Pillow's decoder, at the edges of stored blocks, and damaged in every byte."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from cxr.imaging.png import PLAIN_GRAY, SIGNATURE, DamagedPng, decode_plain, read_chunks


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_lines(width: int, height: int, *parts: bytes) -> bytes:
    """A gray PNG of these IDAT contents."""
    header = chunk(b"IHDR", struct.pack(">II", width, height) + PLAIN_GRAY)
    return SIGNATURE + header + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (1, 65534), (3, 21844), (2, 65534), (300, 437)])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_pixels_are_those_that_pillow_reads(shape: tuple[int, int], level: int) -> None:
    smooth = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 3 % 256).astype(np.uint8)
    for pixels in (noise(*shape), smooth):
        content = encoded(pixels, compress_level=level)
        png = read_chunks(content)
        assert (png.width, png.height, png.form) == (shape[1], shape[0], PLAIN_GRAY)
        np.testing.assert_array_equal(decode_plain(png), np.asarray(Image.open(io.BytesIO(content))))


def test_pixels_may_be_split_over_chunks_and_followed_by_more() -> None:
    pixels = noise(9, 11)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    np.testing.assert_array_equal(decode_plain(read_chunks(with_lines(11, 9, lines[:40], b"", lines[40:]))), pixels)
    np.testing.assert_array_equal(decode_plain(read_chunks(with_lines(11, 7, lines))), pixels[:7])


def test_a_flipped_bit_anywhere_is_found() -> None:
    content = encoded(noise(12, 12))
    for place in range(len(SIGNATURE), len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        with pytest.raises(DamagedPng, match=r"damaged|truncated"):
            decode_plain(read_chunks(damaged))


def test_a_cut_anywhere_is_found() -> None:
    content = encoded(noise(12, 12))
    for length in range(len(SIGNATURE), len(content)):
        with pytest.raises(DamagedPng, match="truncated"):
            read_chunks(content[:length])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (zlib.compress(bytes(50)), "damaged: it has 50 of 132 bytes of pixels"),
        (zlib.compress(bytes(132))[:-1] + b"\2", "damaged: its pixels cannot be decompressed"),
        (b"no zlib stream", "damaged: its pixels cannot be decompressed"),
        (zlib.compress(b"\7" * 132), "damaged: its pixels cannot be decoded"),
    ],
)
def test_pixels_that_make_no_image_are_named(lines: bytes, message: str) -> None:
    with pytest.raises(DamagedPng, match=message):
        decode_plain(read_chunks(with_lines(11, 11, lines)))


def test_a_stream_without_end_is_not_inflated_beyond_the_image() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    assert decode_plain(read_chunks(with_lines(10, 10, bomb))).shape == (10, 10)
