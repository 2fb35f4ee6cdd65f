"""DICOM files made for tests."""

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid


def film(pixels: np.ndarray, bits: int = 12, photometric: str = "MONOCHROME2", **elements: Any) -> Dataset:
    """An uncompressed DICOM radiograph of stored values (H, W)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientID, dataset.PatientAge, dataset.PatientSex, dataset.StudyDate = "P1", "060Y", "F", "20200131"
    dataset.set_pixel_data(pixels, photometric, bits)
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def table(first: int, bits: int, entries: np.ndarray) -> Dataset:
    """An item of ModalityLUTSequence or VOILUTSequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def encoded(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
