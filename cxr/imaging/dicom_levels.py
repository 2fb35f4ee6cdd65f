"""From stored values of a DICOM file to brightness: modality LUT, VOI LUT or window, inversion, padding.

A radiograph has at most 16 bits per pixel. All of this is therefore computed once for each stored value, and applied to
the pixels as one table. See DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality LUT) and C.11.2 (VOI LUT and window).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian

from cxr.imaging.dicom_header import number_of, text_of, whole_of
from cxr.imaging.limits import BadImage

_PERCENTILES = (1, 99)  # of the pixels, between which an image is shown if its own window shows nothing
_FLAT = 1 / 255  # standard deviation of shown pixels, in [0, 1], below which a window shows nothing

Levels = NDArray[np.float64]


def unsigned(pixels: NDArray[Any]) -> NDArray[Any]:
    """The same bytes as unsigned integers, which are indices into a table of all stored values."""
    return pixels.view(f"u{pixels.itemsize}")


def levels_of(dataset: FileDataset, pixels: NDArray[Any]) -> tuple[Levels, list[str]]:
    """The brightness in [0, 1] of each stored value, indexed by its unsigned form, and remarks.

    Args:
        dataset: the header.
        pixels: (H, W) stored values, 8 or 16 bits; a window that shows none of them is replaced by their percentiles.

    Raises:
        BadImage: a lookup table or a number of the header is damaged.
    """
    stored = np.arange(256**pixels.itemsize).astype(f"u{pixels.itemsize}").view(pixels.dtype)
    values, low, high = _modality(dataset, stored, whole_of(dataset, "BitsStored"))
    padding = _padding(dataset, stored)
    levels, path = _interest(dataset, values, low, high)
    remarks = []
    if path and (levels is None or _flat(levels, padding, pixels)):
        shown = values[unsigned(pixels)][~padding[unsigned(pixels)]]
        low, high = np.percentile(shown, _PERCENTILES) if shown.size else (0.0, 0.0)
        levels = (values - low) / (high - low) if high > low else np.zeros(len(values))
        remarks = [f"its {path} shows nothing, percentiles {_PERCENTILES[0]} and {_PERCENTILES[1]} are used"]
    assert levels is not None
    levels = np.clip(levels, 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 1 - levels
    levels[padding] = 0
    return levels, remarks


def _flat(levels: Levels, padding: NDArray[np.bool_], pixels: NDArray[Any]) -> bool:
    for part in (pixels[::4, ::4], pixels):  # a part tells of nearly all images
        shown = unsigned(np.ascontiguousarray(part)).ravel()
        if np.clip(levels, 0, 1)[shown][~padding[shown]].std() >= _FLAT:
            return False
    return True


def _modality(dataset: FileDataset, stored: NDArray[Any], bits: int) -> tuple[Levels, float, float]:
    """What each stored value means, and the lowest and highest that it can mean."""
    if dataset.get("ModalityLUTSequence"):
        table, highest = _lut(dataset, dataset.ModalityLUTSequence[0], stored.astype(float), stored.max())
        needed = 2 ** int(table.max()).bit_length() - 1  # real tables claim 16 bits and use 10
        return table, 0, min(highest, needed)
    slope, intercept = number_of(dataset, "RescaleSlope", 1), number_of(dataset, "RescaleIntercept", 0)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if stored.dtype.kind == "i" else (0, 2**bits - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return stored * slope + intercept, ends[0], ends[1]


def _interest(dataset: FileDataset, values: Levels, low: float, high: float) -> tuple[Levels | None, str]:
    """Brightness of each value by the VOI LUT or the first window, none if that is not valid, and what it is called."""
    if dataset.get("VOILUTSequence"):
        table, highest = _lut(dataset, dataset.VOILUTSequence[0], values, high)
        return table / highest, "VOI LUT"
    center, width = number_of(dataset, "WindowCenter", None), number_of(dataset, "WindowWidth", None)
    if center is None or width is None:
        return (values - low) / ((high - low) or 1), ""
    window = f"window {center:g}/{width:g}"
    function = text_of(dataset, "VOILUTFunction")
    if width <= 0 or (width < 1 and function not in ("LINEAR_EXACT", "SIGMOID")):
        return None, window
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))), window
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5, window
    if width == 1:
        return (values > center - 0.5).astype(float), window
    return (values - (center - 0.5)) / (width - 1) + 0.5, window


def _lut(dataset: FileDataset, item: Any, values: Levels, highest: float) -> tuple[Levels, float]:
    """Looks values up in a table of PS3.3, C.11.1.1; returns what it has for them, and the most that its bits hold.

    Args:
        dataset: for its byte order.
        item: with LUTDescriptor and LUTData.
        values: to look up.
        highest: of the values that can occur; a first value above it is a negative number that was read as unsigned.
    """
    if not {"LUTDescriptor", "LUTData"} <= set(item.dir("LUT")):
        raise BadImage("damaged DICOM: a lookup table without its description or its data")
    length, first, bits = (int(number) for number in item.LUTDescriptor)
    length = length or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        big = dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        kind = "u1" if len(data) < 2 * length else ">u2" if big else "<u2"
        data = np.frombuffer(data[: len(data) // 2 * 2] if kind != "u1" else data, kind)
    table = np.atleast_1d(np.asarray(data, float))[:length]
    if len(table) < length or not 1 <= bits <= 16:
        raise BadImage(f"damaged DICOM: a lookup table of {length} entries of {bits} bits has {len(table)}")
    first -= (1 << 16) * (first > highest and first >= 1 << 15)
    return table[np.clip(np.rint(values - first), 0, length - 1).astype(int)], float(2**bits - 1)


def _padding(dataset: FileDataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Which stored values are no part of the image; PS3.3, C.7.5.1.1.2."""
    value = number_of(dataset, "PixelPaddingValue", None)
    if value is None:
        return np.zeros(len(stored), np.bool_)
    ends = sorted((value, number_of(dataset, "PixelPaddingRangeLimit", value)))
    return (stored >= ends[0]) & (stored <= ends[1])
