"""The header of a DICOM file: its values as text and numbers, and what it says of a radiograph."""

import logging
import re
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)  # fmt: skip

from cxr.errors import CxrError, first_line
from cxr.imaging.limits import MOST_BYTES, MOST_PIXELS, BadImage

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # real headers have many odd values
warnings.filterwarnings("ignore", module=r"pydicom\.")  # it logs them too, see `_Listener`

CHESTS = ("CHEST", "THORAX", "LUNG", "LUNGS", "RIB", "RIBS", "RIBCAGE", "HEART", "PORT CHEST", "CHEST PORT")
MODALITIES = ("CR", "DX", "DR", "RG", "RF", "PX", "MG", "XC", "SC", "OT")  # those of radiographs, and unspecific ones
LATERALS = ("LATERAL", "LL", "RL", "LLD", "RLD", "LAT")
_TAGS = ("SOPInstanceUID", "PatientID", "PatientAge", "PatientSex", "ViewPosition", "StudyDate")


class _Listener(logging.Handler):
    """Notes that pydicom has warned of the header that a thread reads."""

    heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.warned = True


logging.getLogger("pydicom").addHandler(_Listener(logging.WARNING))

_SPARE = 1 << 22  # bytes of a header
_LONGEST = 200  # characters of an error of pydicom
_BYTES = re.compile(r"\bb['\"].*")  # in such an error: part of the file, perhaps a name
_RATIO = 100  # of the lengths of an inflated and a deflated image


@dataclass(frozen=True)
class Header:
    """What a DICOM header says of a radiograph, each as text and empty where it says nothing.

    Attributes:
        instance: SOPInstanceUID.
        patient: PatientID.
        age: PatientAge, such as `060Y`.
        sex: PatientSex.
        view: ViewPosition.
        study: StudyDate.
        remarks: as `remarks_of`, and whether pydicom warned of its form.
    """

    instance: str
    patient: str
    age: str
    sex: str
    view: str
    study: str
    remarks: tuple[str, ...]


def read_header(file: BinaryIO) -> Header:
    """The header of an open DICOM file; pixels are not read.

    Raises:
        BadImage: it is damaged, or no DICOM file.
    """
    try:
        _Listener.heard.warned = False
        dataset = read_dataset(file, stop_before_pixels=True)
        instance, patient, age, sex, view, study = (text_of(dataset, name) for name in _TAGS)
        unusual = ("form not as in the standard",) if _Listener.heard.warned else ()
        return Header(instance, patient, age, sex, view, study, (*remarks_of(dataset), *unusual))
    except Exception as error:  # of pydicom, many kinds
        raise as_bad_image(error) from None


def as_bad_image(error: Exception) -> Exception:
    """What to raise for an exception of pydicom or a decoder, of which there are many kinds."""
    if isinstance(error, BadImage | CxrError):
        return error
    return BadImage(f"damaged DICOM: {_BYTES.sub('...', first_line(error))[:_LONGEST]}")


def read_dataset(file: BinaryIO, **options: Any) -> FileDataset:
    """Reads an open DICOM file, also without a preamble or transfer syntax, which is then that of its header.

    Args:
        file: at its start.
        options: of `pydicom.dcmread`.

    Raises:
        BadImage: it inflates to more than an image.
        Exception: it is damaged, see `as_bad_image`.
    """
    _check_inflation(file)
    dataset = pydicom.dcmread(file, force=True, **options)
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in meta:
        implicit, little = dataset.original_encoding
        meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        dataset.file_meta = meta
    return dataset


def _check_inflation(file: BinaryIO) -> None:
    """Raises BadImage if a deflated file (PS3.5, A.5) inflates to more than an image: pydicom would do it whole."""
    head = file.read(1 << 16)
    if DeflatedExplicitVRLittleEndian.encode() in head:
        file.seek(_end_of_meta(head))
        coded = file.read(MOST_BYTES)
        most = min(2 * MOST_PIXELS, _RATIO * len(coded)) + _SPARE  # zeros are read as millions of elements
        if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(coded, most)) == most:
            raise BadImage(f"too large: it inflates to more than {most} bytes")
    file.seek(0)


def _end_of_meta(head: bytes) -> int:
    """Where the elements of group 2 end, which follow the preamble and are never deflated; PS3.10, 7.1."""
    start = 132
    while head[start : start + 2] == b"\x02\x00":
        if head[start + 4 : start + 6] in (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"):
            start += 12 + int.from_bytes(head[start + 8 : start + 12], "little")
        else:
            start += 8 + int.from_bytes(head[start + 6 : start + 8], "little")
    return start


def remarks_of(dataset: FileDataset) -> tuple[str, ...]:
    """What one should know of the image: overlays, burnt-in text, a lateral view, another body part or modality."""
    view, part = text_of(dataset, "ViewPosition").upper(), text_of(dataset, "BodyPartExamined").upper()
    modality = text_of(dataset, "Modality").upper()
    overlays = any(tag.group in range(0x6000, 0x6020, 2) for tag in dataset.keys())  # noqa: SIM118 - elements
    found = {
        "overlays are not drawn": overlays,
        "burnt-in annotations": text_of(dataset, "BurnedInAnnotation").upper() == "YES",
        f"lateral view ({view})": view in LATERALS,
        f"body part {part}": bool(part) and part not in CHESTS,
        f"modality {modality}": bool(modality) and modality not in MODALITIES,
    }
    return tuple(remark for remark, holds in found.items() if holds)


def text_of(dataset: FileDataset, name: str) -> str:
    """A value of the header as printable text, of several the first; empty where it is missing."""
    value = dataset.get(name)
    if isinstance(value, pydicom.multival.MultiValue | list):
        value = value[0] if len(value) else ""
    text = "" if value is None else str(value)
    return "".join(sign for sign in text if sign.isprintable()).strip()[:128]


def number_of(dataset: FileDataset, name: str, default: Any) -> Any:
    """A value of the header as a number, of several the first; the default where it is missing.

    Raises:
        BadImage: it is no finite number.
    """
    text = text_of(dataset, name)
    if not text:
        return default
    number = float(text)
    if not np.isfinite(number):
        raise BadImage(f"damaged DICOM: {name} is {text}")
    return number


def whole_of(dataset: FileDataset, name: str, default: int | None = None) -> int:
    """As `number_of`, a whole number; BadImage where it is missing without a default."""
    number = number_of(dataset, name, default)
    if number is None or number != int(number):
        raise BadImage(f"damaged DICOM: {name} is {'missing' if number is None else number}")
    return int(number)
