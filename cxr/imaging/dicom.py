"""Decodes a DICOM radiograph to 16-bit gray pixels, or states why it cannot."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
)  # fmt: skip

from cxr.errors import CxrError
from cxr.imaging.dicom_header import as_bad_image, read_dataset, remarks_of, text_of, whole_of
from cxr.imaging.dicom_levels import levels_of, unsigned
from cxr.imaging.limits import BadImage, check_size

_SPARE = 1 << 16  # bytes
# Of several decoders for a compression: GDCM aborts the process at some damaged JPEG 2000 files, pyjpegls takes seconds
# for a cut file, and Pillow takes a fifth of the time of GDCM.
_PLUGINS = {
    JPEG2000: "pylibjpeg", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "gdcm", JPEGLSNearLossless: "gdcm",
    JPEGBaseline8Bit: "pillow",
}  # fmt: skip

# Markers of a JPEG header: frames (baseline, extended, progressive, lossless, JPEG-LS) with the bits they may have, and
# tables, restart intervals, parameters of JPEG-LS, comments and data of applications.
_FRAMES = {0xC0: (8,), 0xC1: (8, 12), 0xC2: (8, 12), 0xC3: range(2, 17), 0xF7: range(2, 17)}
_TABLES = (0xC4, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0))


def decode_dicom(content: bytes) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Decodes a DICOM file into gray pixels, white is 65535, and remarks on it.

    Stored values pass the modality LUT or rescale, then the VOI LUT or the first window, or else their whole range.
    MONOCHROME1 is inverted. The result is scaled by the range of that path, never by the extremes of the image.
    Padding is black. If a window or LUT shows nothing, the image is shown between its percentiles 1 and 99.

    Returns:
        (H, W) uint16, and a sentence for each of: a window that shows nothing, overlays (which are not drawn), burnt-in
        annotations, a lateral view, another part of the body, another modality.

    Raises:
        BadImage: the file is damaged, too large, has no pixels, colour, several frames or more than 16 bits.
        CxrError: the decoder of its compression is not installed.
    """
    try:
        dataset = read_dataset(BytesIO(content))
        _check_form(dataset)
        pixels = _pixels(dataset)
        levels, remarks = levels_of(dataset, pixels)
        table = np.rint(levels * 65535).astype(np.uint16)
        return np.take(table, unsigned(pixels)), (*remarks, *remarks_of(dataset))
    except Exception as error:  # of pydicom and the decoders, many kinds
        raise as_bad_image(error) from None


def _check_form(dataset: FileDataset) -> None:
    """Raises BadImage for anything but one gray frame of at most 16 bits whose compressed form has the same size."""
    if not len(dataset):  # pydicom reads no element of a file that ends inside one
        raise BadImage("damaged DICOM: it is cut short, or none of its elements can be read")
    if not dataset.get("PixelData"):
        raise BadImage(f"DICOM without pixel data ({text_of(dataset, 'Modality') or 'no modality'})")
    photometric = text_of(dataset, "PhotometricInterpretation")
    if whole_of(dataset, "SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadImage(f"colour DICOM ({photometric or 'unknown'}), radiographs are MONOCHROME1 or MONOCHROME2")
    frames = whole_of(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise BadImage(f"DICOM of {frames} frames, radiographs have one")
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    check_size(columns, rows)
    allocated, stored = whole_of(dataset, "BitsAllocated"), whole_of(dataset, "BitsStored")
    high = whole_of(dataset, "HighBit", stored - 1)
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high != stored - 1:
        raise BadImage(
            f"DICOM of {stored} bits in {allocated}, the highest {high}; read are up to 16 bits from the lowest"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax:
        raise BadImage(f"DICOM of the transfer syntax {syntax}, which is not read")
    if not syntax.is_encapsulated:
        return
    length = len(dataset.PixelData)
    if length > rows * columns * allocated // 8 * 5 // 4 + _SPARE:
        raise BadImage(f"damaged DICOM: {length} bytes of compressed pixels for {columns}x{rows} pixels")
    size = _coded_size(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    if size is not None and size != (columns, rows):
        raise BadImage(f"damaged DICOM: {columns}x{rows} pixels, its compressed image has {size[0]}x{size[1]}")


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a JPEG, JPEG-LS or JPEG 2000 image; none for other compressions."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 1024)  # JPEG 2000: SOC and SIZ; ISO 15444-1, A.5.1
    if start >= 0 and len(frame) >= start + 24:
        right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return right - left, bottom - top
    return _jpeg_size(frame) if frame.startswith(b"\xff\xd8") else None


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Width and height in the header of a gray JPEG or JPEG-LS image; ISO 10918-1, B.2.

    Raises:
        BadImage: another or a damaged header, at some of which GDCM ends the process.
    """
    start, size = 2, None
    while start + 10 <= len(frame) and frame[start] == 0xFF:
        marker, length = frame[start + 1], int.from_bytes(frame[start + 2 : start + 4], "big")
        if marker == 0xFF:  # filler
            start += 1
            continue
        if marker == 0xDA and size is not None:  # the data follow
            return size
        if marker in _FRAMES and size is None:
            bits, height, width, components = struct.unpack(">BHHB", frame[start + 4 : start + 10])
            if components != 1 or bits not in _FRAMES[marker]:
                break
            size = width, height
        elif marker not in _TABLES or (frame[start + 4 : start + 9] == b"JFIF\0" and frame[start + 9] != 1):
            break
        start += 2 + length
    raise BadImage("damaged DICOM: the header of its compressed image is not that of a gray JPEG")


def _pixels(dataset: FileDataset) -> NDArray[Any]:
    """The stored values (H, W) as uint8, int8, uint16 or int16."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        # GDCM goes by the header of the JPEG image and decodes twelve bits, but pydicom offers it only eight.
        syntax = dataset.file_meta.TransferSyntaxUID = JPEGLossless
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise BadImage(f"DICOM of the transfer syntax {syntax.name}, which is not read") from None
    if not decoder.is_available:
        raise CxrError(
            f"DICOM files of the transfer syntax {syntax.name} need a decoder of the extra `dicom`; pip install "
            "'cxr[dicom]', or make setup EXTRAS=dicom"
        )
    plugin = _PLUGINS.get(syntax, "")
    try:
        pixels, _ = decoder.as_array(dataset, decoding_plugin=plugin if plugin in decoder.available_plugins else "")
    except RuntimeError:  # names the plugins, and not what is wrong
        raise BadImage(f"damaged DICOM: its pixels cannot be decoded ({syntax.name})") from None
    if pixels.shape != (dataset.Rows, dataset.Columns) or pixels.dtype.kind not in "iu" or pixels.itemsize > 2:
        raise BadImage(f"damaged DICOM: decoded to {pixels.dtype} of shape {pixels.shape}")
    return pixels
