"""Plain gray PNG, checked whole: ISA-L checks and inflates, OpenCV undoes the filters.

Half of decoding a radiograph is inflating it, and ISA-L does that in half the time of the zlib inside image libraries.
OpenCV then gets the same picture with its bytes stored in place of compressed, which costs it a copy.
"""

import struct
from typing import NamedTuple

import cv2
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_GRAY = bytes((8, 0, 0, 0, 0))  # of a header: eight bits, gray, not interlaced
_LONGEST = 65535  # bytes of a stored block (RFC 1951, section 3.2.4)
_END = b"\0\0\0\0IEND\xaeB`\x82"


class DamagedPng(Exception):
    """A PNG that is not whole; its text is the reason."""


class Png(NamedTuple):
    """What the chunks of a file say.

    Attributes:
        width: in pixels.
        height: in pixels.
        form: the header's bit depth, colour type, compression, filter and interlace method.
        pixels: content of the IDAT chunks, compressed.
    """

    width: int
    height: int
    form: bytes
    pixels: list[memoryview]


def read_chunks(content: bytes) -> Png:
    """Walks a PNG file (PNG specification, section 5).

    Raises:
        DamagedPng: a chunk is cut short or lacks the checksum it claims, or a part is missing.
    """
    whole, place, header, pixels = memoryview(content), len(SIGNATURE), b"", []
    while True:
        if place + 12 > len(content):
            raise DamagedPng("truncated: the file ends before its last chunk")
        length = int.from_bytes(whole[place : place + 4], "big")
        end = place + 12 + length
        if end > len(content):
            raise DamagedPng("truncated: the file ends inside a chunk")
        kind = content[place + 4 : place + 8]
        if isal_zlib.crc32(whole[place + 4 : end - 4]) != int.from_bytes(whole[end - 4 : end], "big"):
            raise DamagedPng(f"damaged: a chunk ({kind.decode('latin-1')!r}) does not have its checksum")
        if not header:
            if kind != b"IHDR" or length != 13:
                raise DamagedPng("damaged: it does not begin with a PNG header")
            header = content[place + 8 : end - 4]
        if kind == b"IDAT":
            pixels.append(whole[place + 8 : end - 4])
        if kind == b"IEND":
            break
        place = end
    if not pixels:
        raise DamagedPng("damaged: it holds no pixels")
    width, height = struct.unpack(">II", header[:8])
    return Png(width, height, header[8:], pixels)


def decode_plain(png: Png) -> np.ndarray:
    """The pixels of a PNG of form `PLAIN_GRAY`, (H, W) uint8; its size must have been checked.

    Raises:
        DamagedPng: the pixels cannot be inflated, or are too few.
    """
    needed = png.height * (png.width + 1)  # each line has a byte for its filter
    inflate = isal_zlib.decompressobj()
    try:
        lines = inflate.decompress(b"".join(png.pixels), needed)
    except IsalError as error:  # type: ignore[misc]  # its stub calls it an instance
        raise DamagedPng(f"damaged: its pixels cannot be decompressed ({error})") from None
    if len(lines) < needed:
        raise DamagedPng(f"damaged: it has {len(lines)} of {needed} bytes of pixels")
    pixels = cv2.imdecode(np.frombuffer(_stored(png, lines), np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None or pixels.shape != (png.height, png.width):
        raise DamagedPng("damaged: its pixels cannot be decoded")
    return pixels


def _stored(png: Png, lines: bytes) -> bytes:
    """The PNG with its lines in blocks that are not compressed."""
    header = b"IHDR" + struct.pack(">II", png.width, png.height) + png.form
    body: list[bytes | memoryview] = [b"IDAT\x78\x01"]
    view = memoryview(lines)
    for start in range(0, len(lines), _LONGEST):
        block = view[start : start + _LONGEST]
        last = start + _LONGEST >= len(lines)
        body += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    body.append(struct.pack(">I", isal_zlib.adler32(lines)))
    idat = b"".join(body)
    parts = [SIGNATURE]
    for chunk in (header, idat):
        parts += [struct.pack(">I", len(chunk) - 4), chunk, struct.pack(">I", isal_zlib.crc32(chunk))]
    return b"".join([*parts, _END])
