"""Layouts that resemble no other: PadChest, OpenI and ChestMNIST."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np

from cxr.files.writing import replacing
from cxr.findings import CHESTMNIST
from cxr.phantom.layouts.drawn import Drawn, lateral, save, write_table

_PADCHEST = {"Edema": "pulmonary edema", "Effusion": "pleural effusion", "Fibrosis": "pulmonary fibrosis",
             "Hernia": "hiatal hernia", "Infiltration": "infiltrates",
             "Pleural_Thickening": "apical pleural thickening"}  # fmt: skip
_OPENI = {
    "Atelectasis": "Pulmonary Atelectasis/base/left", "Edema": "Pulmonary Edema/mild",
    "Effusion": "Pleural Effusion/right/small", "Emphysema": "Pulmonary Emphysema/severe",
    "Fibrosis": "Pulmonary Fibrosis", "Hernia": "Hernia, Hiatal/large", "Infiltration": "Infiltrate/lung/base",
    "Pleural_Thickening": "Thickening/pleura/apex/right",
}  # fmt: skip
_SIDE = 28


def padchest(folder: Path, drawn: Sequence[Drawn]) -> None:
    """The table and 16-bit PNG files in numbered folders; every fourth study has a lateral view, too."""
    rows: list[Sequence[object]] = []
    for number, each in enumerate(drawn):
        visit, study = each.visit, f"{216840111366964012 + number}"
        names = [_PADCHEST.get(finding, finding.lower()) for finding in visit.written] or ["normal"]
        names = [*names[:-1], f" {names[-1]}", ""] if number % 7 == 0 else names  # spaces and empty names are published
        labels = "" if number % 50 == 49 else "['unchanged']" if number % 50 == 48 else str(names)
        views = [(each.view if number % 3 or each.view == "PA" else "AP_horizontal", each.picture)]
        if (visit.patient + visit.followup) % 4 == 0:
            views.append(("L", lateral(each.picture)))
        for view, picture in views:
            image = f"{study}_00-{view.lower()}.png"
            save(folder / str(number % 3) / image, picture.astype(np.uint16) * 257)
            date = f"{2008 + visit.followup}0315"
            patient = f"{10**35 + visit.patient}"
            born = f"{2008 + visit.followup - visit.age}.0"
            rows.append((len(rows), image, number % 3, date, study, patient, born, each.sex, view, "Physician", labels))
    header = ("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
              "Projection", "MethodLabel", "Labels")  # fmt: skip
    write_table(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, rows)


def openi(folder: Path, drawn: Sequence[Drawn]) -> None:
    """Reports as XML, PNG files, and Kaggle's table of projections; each visit is a patient with two views."""
    rows: list[Sequence[object]] = []
    for number, each in enumerate(drawn, start=1):
        terms = [_OPENI.get(finding, f"{finding}/mild") for finding in each.visit.written] or ["normal"]
        terms = ["no indexing"] if number % 40 == 0 else terms
        views = [(f"CXR{number}_1_IM-{number:04d}-3001", "Frontal", each.picture)]
        views.append((f"CXR{number}_1_IM-{number:04d}-4001", "Lateral", lateral(each.picture)))
        for image, projection, picture in views:
            save(folder / f"{image}.png", picture)
            rows.append((number, f"{image.partition('_')[2]}.dcm.png", projection))
        mesh = "".join(f"<major>{escape(term)}</major>" for term in terms)
        images = "".join(f'<parentImage id="{image}"/>' for image, *_ in views)
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{number}"/><MeSH>{mesh}</MeSH>{images}'
        (folder / "ecgen-radiology").mkdir(exist_ok=True)
        (folder / "ecgen-radiology" / f"{number}.xml").write_text(f"{text}</eCitation>\n", encoding="utf-8")
    write_table(folder / "indiana_projections.csv", ("uid", "filename", "projection"), rows)


def chestmnist(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`chestmnist.npz` with images of 28 pixels."""
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        chosen = [each for each in drawn if each.split == split]
        images = [cv2.resize(each.picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for each in chosen]
        labels = [[finding in each.visit.written for finding in CHESTMNIST] for each in chosen]
        arrays[f"{split}_images"] = np.array(images, np.uint8).reshape(-1, _SIDE, _SIDE)
        arrays[f"{split}_labels"] = np.array(labels, np.int64).reshape(-1, len(CHESTMNIST))
    with replacing(folder / "chestmnist.npz") as path:
        np.savez(path, **arrays)
