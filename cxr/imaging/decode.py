"""One image file into gray pixels, or the reason why not. Imports little: each decoding process loads it."""

import errno
import io
import os
import stat
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr.imaging.png import PLAIN_GRAY, SIGNATURE, DamagedPng, decode_plain, read_chunks

DECODER = 2  # edition of the decoding and resizing below; another number makes other caches
MOST_PIXELS = 128_000_000  # of a file; the largest radiographs have 30 million, a decompression bomb has more
MOST_BYTES = 1 << 30
BLANK = 1.0  # gray levels of standard deviation: under it an image shows nothing

# Of what Pillow reads, formats that it decodes itself: EPS would be handed to Ghostscript, whatever the file is called.
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "WEBP")

_EIGHT_BIT_GRAY = ("L", "LA", "La")
_OF_THE_MACHINE = (
    errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN,
)  # fmt: skip
_REFUSED = (OSError, SyntaxError, ValueError, EOFError, zlib.error, UnidentifiedImageError, OverflowError, MemoryError)


class BadImage(Exception):
    """A file that is no radiograph; its text is the reason."""


@dataclass(frozen=True)
class Decoded:
    """An image file at the cache's size, and what it was made from.

    Attributes:
        pixels: (size, size) uint8.
        source: SHA-256 of the file.
        width: of the file in pixels.
        height: of the file in pixels.
    """

    pixels: np.ndarray
    source: str
    width: int
    height: int


def read_gray(path: str | Path) -> np.ndarray:
    """Decodes one image file into (H, W) uint8.

    Sixteen-bit values are scaled to eight bits (65535 becomes 255); colour is turned into luma; an alpha channel is
    passed over. One percent of the published NIH files are RGBA with three equal channels.

    Raises:
        BadImage: the file is not a whole image; the text says why.
        OSError: it cannot be opened.
    """
    return gray(Path(path).read_bytes())


def gray(content: bytes) -> np.ndarray:
    """The same of a file's content: plain gray PNG by `cxr.imaging.png`, the rest by Pillow, all PNG checked.

    Raises:
        BadImage: the content is not a whole image of at most `MOST_PIXELS`.
    """
    if not content:
        raise BadImage("the file is empty")
    if content.startswith(SIGNATURE):
        try:
            png = read_chunks(content)
            _check_size(png.width, png.height)
            if png.form == PLAIN_GRAY:
                return decode_plain(png)
        except DamagedPng as error:
            raise BadImage(str(error)) from None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(*image.size)
            image.load()
            return _to_gray(image)
    except UnidentifiedImageError:
        raise BadImage(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: {error}") from None
    except _REFUSED as error:
        text = str(error) or type(error).__name__
        raise BadImage(f"{'truncated' if 'truncated' in text else 'damaged'}: {text}") from None


def decode(content: bytes, size: int) -> Decoded:
    """Decodes and resizes a file's content.

    Raises:
        BadImage: it is no whole image, or it is blank.
    """
    pixels = gray(content)
    small = resize(pixels, size)
    spread = float(cv2.meanStdDev(pixels if pixels.size <= small.size else small)[1].item())
    if spread < BLANK:
        raise BadImage(f"blank: all its pixels are near {round(float(small.mean()))}")
    height, width = pixels.shape
    return Decoded(small, sha256(content).hexdigest(), width, height)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 to (size, size) uint8: by area when it shrinks, bilinear when it grows."""
    if image.shape == (size, size):
        return image
    method = cv2.INTER_AREA if min(image.shape) >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def read_file(path: str) -> bytes:
    """The content of an image file.

    Raises:
        BadImage: it is missing, no regular file, not readable for this user or on its disk, or too long.
        OSError: the machine or the server of its files fails, whatever the file.
    """
    try:
        file = os.stat(path)
        if not stat.S_ISREG(file.st_mode) and not stat.S_ISDIR(file.st_mode):  # a pipe would be waited for
            raise BadImage("cannot be opened: is no regular file")
        if file.st_size > MOST_BYTES:
            raise BadImage(f"too large: the file has {file.st_size / 1e9:.1f} GB")
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        raise BadImage(f"cannot be opened: {str(error.strerror).lower()}") from None


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"damaged: it has {width}x{height} pixels")
    if width * height > MOST_PIXELS:
        raise BadImage(f"too large: {width}x{height} pixels, at most {MOST_PIXELS} are decoded")


def _to_gray(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise BadImage("damaged: a pixel is not a number")
        return np.clip(np.rint(values / 257), 0, 255).astype(np.uint8)
    if image.mode in _EIGHT_BIT_GRAY:
        return np.asarray(image.getchannel(0))
    colour = np.asarray(image.convert("RGB"))
    if (colour[..., 0] == colour[..., 1]).all() and (colour[..., 1] == colour[..., 2]).all():
        return np.ascontiguousarray(colour[..., 0])
    return np.asarray(Image.fromarray(colour).convert("L"))
