"""A drawn radiograph, and how it and its tables are saved."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.files.writing import write_text
from cxr.phantom.disease import Box
from cxr.phantom.population import Visit


@dataclass(frozen=True)
class Drawn:
    """A radiograph of the phantoms.

    Attributes:
        visit: its patient and labels.
        boxes: of each finding, in image sides.
        file: the picture, a PNG.
    """

    visit: Visit
    boxes: Mapping[str, Sequence[Box]]
    file: Path

    @property
    def picture(self) -> NDArray[np.uint8]:
        """(size, size) gray values."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)

    @property
    def split(self) -> str:
        """`train`, `val` or `test`, the same for all images of a patient."""
        return "test" if self.visit.test else "val" if self.visit.patient % 5 == 0 else "train"

    @property
    def view(self) -> str:
        """PA or AP."""
        return "AP" if self.visit.portable else "PA"

    @property
    def sex(self) -> str:
        """F or M."""
        return "F" if self.visit.woman else "M"

    def random(self, stream: int) -> np.random.Generator:
        """Random numbers of this radiograph for a purpose."""
        return np.random.default_rng([self.visit.patient, self.visit.followup, stream])

    def hexadecimal(self, digits: int) -> str:
        """A name of this radiograph without a meaning, as many data sets have it."""
        return hashlib.sha256(self.visit.image.encode()).hexdigest()[:digits]

    def uid(self, kind: int) -> str:
        """A DICOM identifier of this radiograph."""
        return f"1.2.826.0.1.3680043.10.9999.{kind}.{self.visit.patient}.{self.visit.followup}"


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def save(path: Path, picture: NDArray[np.generic]) -> None:
    """Saves gray values in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


def lateral(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A stand-in for a lateral view, which phantoms do not have: the frontal one at half its width."""
    height, width = picture.shape
    return np.asarray(cv2.resize(picture, (width // 2, height), interpolation=cv2.INTER_AREA), np.uint8)


def save_dicom(path: Path, drawn: Drawn, bits: int = 8, inverted: bool = False) -> None:
    """Saves a radiograph as a DICOM file without compression, or as `.png` beside it where pydicom is not installed.

    Args:
        bits: 8, or 9 to 16 in two bytes, then with a window.
        inverted: stored as MONOCHROME1.
    """
    picture = drawn.picture
    try:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
    except ImportError:
        save(path.with_suffix(".png"), picture)
        return
    top = 2**bits - 1
    pixels = np.rint(picture * (top / 255)).astype(np.uint8 if bits == 8 else np.uint16)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, drawn.uid(1)
    data.StudyInstanceUID, data.SeriesInstanceUID = drawn.uid(2), drawn.uid(3)
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", drawn.view
    data.PatientID, data.PatientSex, data.PatientAge = path.stem, drawn.sex, f"{drawn.visit.age:03d}Y"
    data.Rows, data.Columns = picture.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    if bits > 8:
        data.WindowCenter, data.WindowWidth = (top + 1) // 2, top + 1
    data.PixelData = (top - pixels if inverted else pixels).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
