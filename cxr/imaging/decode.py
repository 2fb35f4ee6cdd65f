"""Decodes an image file to gray pixels, or states why it cannot. Imports little, since each worker imports it."""

import errno
import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr.errors import CxrError
from cxr.imaging.limits import MOST_BYTES, UnknownFormat, check_size
from cxr.imaging.limits import MOST_PIXELS as MOST_PIXELS
from cxr.imaging.limits import BadImage as BadImage

DECODER = 3  # version of the decoding and resizing below; a new number makes new caches
COLOUR = 4.0  # gray levels between the channels, on average, above which an image is in colour
BLANK = 1.0  # gray levels of standard deviation, below which an image is blank

# The formats that Pillow decodes itself. It would pass EPS to Ghostscript, whatever the file's extension.
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "WEBP")

NO_DICOM = "DICOM files need the extra `dicom`; pip install 'cxr[dicom]', or make setup EXTRAS=dicom"
_DICOM_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")  # little and big endian
_PNG = b"\x89PNG\r\n\x1a\n"
_GRAY = bytes((8, 0, 0, 0, 0))  # last bytes of a PNG header: bits, colour type, compression, filter, interlacing
_EIGHT_BIT_GRAY = ("L", "LA", "La")
_MACHINE_ERRORS = (
    errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN,
)  # fmt: skip
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, zlib.error, OverflowError, MemoryError, cv2.error)


@dataclass(frozen=True)
class Decoded:
    """A decoded image at the cache's size, and the properties of its file.

    Attributes:
        pixels: (size, size) uint8.
        source: SHA-256 of the file.
        width, height: of the file in pixels.
        remark: that it is in colour, or what a DICOM file has that a reader should know; see `cxr.imaging.dicom`.
    """

    pixels: np.ndarray
    source: str
    width: int
    height: int
    remark: str = ""


def read_gray(path: str | Path) -> np.ndarray:
    """Decodes one image file, see `gray`.

    Raises:
        OSError: it cannot be opened.
    """
    return gray(Path(path).read_bytes())


def gray(content: bytes) -> np.ndarray:
    """Decodes a file's content into (H, W) uint8, or uint16 (white is 65535) if it has more than eight bits per pixel.

    Colour is converted to luma, and an alpha channel is ignored. One percent of the published NIH files are RGBA with
    three equal channels.

    Raises:
        BadImage: the file is damaged, too large or of an unknown format.
        CxrError: it is a DICOM file, and the extra `dicom` is not installed.
    """
    return gray_with_remarks(content)[0]


def gray_with_remarks(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pixels as `gray` returns them, and what a reader of the file should know, with the same errors.

    OpenCV decodes gray PNG, pydicom DICOM, and Pillow everything else: OpenCV prints a warning for each RGBA file of
    NIH. Both ignore checksums of PNG chunks, which are checked here first.
    """
    if not content:
        raise BadImage("the file is empty")
    if is_dicom(content):
        return _from_dicom(content)
    try:
        if content.startswith(_PNG) and _check_png(content) == _GRAY:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is None:
                raise BadImage("damaged: its pixels cannot be decoded")
            return pixels, ()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(*image.size)
            image.load()
            return _to_gray(image)
    except UnidentifiedImageError:
        raise UnknownFormat(f"not an image of a known format (DICOM, {', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: {error}") from None
    except _DAMAGED as error:
        text = str(error) or type(error).__name__
        raise BadImage(f"{'truncated' if 'truncated' in text else 'damaged'}: {text}") from None


def is_dicom(start: bytes) -> bool:
    """Whether a file begins as DICOM: with a preamble of 128 bytes, or without it at group 2 or 8 of its header."""
    return (start[128:132] == b"DICM" and not start.startswith(_PNG)) or start[:2] in _DICOM_GROUPS


def _from_dicom(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        from cxr.imaging.dicom import decode_dicom  # other images do not wait for pydicom
    except ImportError:
        raise CxrError(NO_DICOM) from None
    return decode_dicom(content)


def decode(content: bytes, size: int) -> Decoded:
    """Decodes and resizes a file's content.

    Raises:
        BadImage: as `gray`, or the image is blank.
        CxrError: as `gray`.
    """
    pixels, remarks = gray_with_remarks(content)
    height, width = pixels.shape
    return Decoded(reduced(pixels, size), sha256(content).hexdigest(), width, height, "; ".join(remarks))


def reduced(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes a radiograph (H, W) uint8 or uint16 to (size, size) as `resize` does.

    Raises:
        BadImage: the image is blank.
    """
    small = resize(pixels, size)
    source = pixels if pixels.size <= small.size else small
    spread = float(cv2.meanStdDev(source)[1].item()) / (257 if source.dtype == np.uint16 else 1)
    if spread < BLANK:
        raise BadImage(f"blank: all its pixels are near {round(float(small.mean()))}")
    return small


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes (H, W) to (size, size) uint8: by area if it shrinks, bilinearly if it grows.

    uint16 is scaled to eight bits (65535 becomes 255) in floating point, and rounded once.
    """
    if image.dtype == np.uint16:
        return np.rint(_resized(image.astype(np.float32), size) / 257).astype(np.uint8)
    return _resized(image, size)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape == (size, size):
        return image
    method = cv2.INTER_AREA if min(image.shape) >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def read_file(path: str) -> bytes:
    """Reads an image file.

    Raises:
        BadImage: the file is missing, not regular, not readable, or longer than `MOST_BYTES`.
        OSError: the machine or the file server failed, so that other files would fail too.
    """
    try:
        file = os.stat(path)
        if not stat.S_ISREG(file.st_mode) and not stat.S_ISDIR(file.st_mode):  # reading a pipe would block
            raise BadImage("cannot be opened: not a regular file")
        if file.st_size > MOST_BYTES:
            raise BadImage(f"too large: the file has {file.st_size / 1e9:.1f} GB")
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in _MACHINE_ERRORS:
            raise
        raise BadImage(f"cannot be opened: {str(error.strerror).lower()}") from None
    except ValueError as error:  # a null byte in its name
        raise BadImage(f"cannot be opened: {error}") from None


def _check_png(content: bytes) -> bytes:
    """Checks the chunks of a PNG (specification, section 5); returns bits, colour type, ... of its header."""
    view, start, header, compressed = memoryview(content), len(_PNG), b"", 0
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(view[start : start + 4], "big")
        end = start + 12 + length
        if end > len(content):
            raise BadImage("truncated: the file ends inside a chunk or before its last chunk")
        kind = content[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise BadImage(f"damaged: the checksum of a chunk ({kind.decode('latin-1')!r}) is wrong")
        if not header:
            if kind != b"IHDR" or length != 13:
                raise BadImage("damaged: it does not begin with a PNG header")
            header = content[start + 8 : end - 4]
        compressed += length * (kind == b"IDAT")
        start = end
    width, height = struct.unpack(">II", header[:8])
    check_size(width, height)
    if not compressed:
        raise BadImage("damaged: it has no pixels")
    if compressed > 2 * height * (8 * width + 1) + 1024:  # would take long to inflate; 8 bytes is the largest pixel
        raise BadImage(f"damaged: {compressed} bytes of compressed pixels for {width}x{height} pixels")
    return header[8:]


def _equal_channels(colour: np.ndarray) -> bool:
    return bool((colour[..., 0] == colour[..., 1]).all() and (colour[..., 1] == colour[..., 2]).all())


def _to_gray(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadImage("damaged: a pixel is not a number")
        whole = np.rint(values) if values.dtype.kind == "f" else values
        shown, low, high = np.clip(whole, 0, 65535).astype(np.uint16), float(values.min()), float(values.max())
        if low < high and cv2.meanStdDev(shown)[1].item() < 257 * BLANK:  # such as floating-point pixels from 0 to 1
            raise BadImage(
                f"blank: its pixels range from {low:g} to {high:g}, where black is 0 and white 65535; scale them, or "
                "save it with 8 bits"
            )
        return shown, ()
    if image.mode in _EIGHT_BIT_GRAY:
        return np.asarray(image.getchannel(0)), ()
    colour = np.asarray(image.convert("RGB"))
    if _equal_channels(colour):
        return np.ascontiguousarray(colour[..., 0]), ()
    strength = (colour.max(axis=2) - colour.min(axis=2)).mean()
    return np.asarray(Image.fromarray(colour).convert("L")), ("in colour",) * bool(strength > COLOUR)
