"""Layouts whose labels radiologists gave to DICOM files: VinDr-CXR, VinBigData, RSNA and SIIM-ACR."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr.files.writing import write_text
from cxr.findings import NIH_SIDE, VINBIGDATA, VINDR
from cxr.phantom.disease import Box
from cxr.phantom.layouts.drawn import Drawn, save_dicom, write_table

_COLUMNS = (*VINDR, "No finding")
_VINDR_NAMES = {
    "Effusion": "Pleural effusion", "Pleural_Thickening": "Pleural thickening", "Fibrosis": "Pulmonary fibrosis",
    "Mass": "Nodule/Mass", "Nodule": "Nodule/Mass", "Hernia": "Other diseases",
}  # fmt: skip
_MISSED = 0.2  # a reader overlooks a finding
_OPACITIES = ("Consolidation", "Infiltration", "Pneumonia")
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def _readers(each: Drawn) -> Iterator[tuple[str, dict[str, list[Box]]]]:
    """Three readers with the findings that each saw and their boxes."""
    rng = each.random(2)
    for number in sorted(rng.choice(17, 3, replace=False)):
        seen: dict[str, list[Box]] = {}
        for finding in each.visit.written:
            if rng.random() >= _MISSED:
                seen.setdefault(_VINDR_NAMES.get(finding, finding), []).extend(each.boxes.get(finding, ()))
        yield f"R{number + 1}", seen


def _corners(box: Box, side: int) -> list[float]:
    """x_min, y_min, x_max and y_max in pixels."""
    x, y, width, height = (round(value * side, 3) for value in box)
    return [x, y, round(x + width, 3), round(y + height, 3)]


def _save(folder: Path, each: Drawn, split: str) -> None:
    path = folder / split / f"{each.hexadecimal(32)}.dicom"
    save_dicom(path, each, bits=12, inverted=each.visit.patient % 4 == 0)


def vindr(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`annotations` with labels and boxes, and DICOM files of 12 bits, some of them MONOCHROME1."""
    labels: dict[bool, list[Sequence[object]]] = {False: [], True: []}
    boxes: dict[bool, list[Sequence[object]]] = {False: [], True: []}
    for each in drawn:
        test, name = each.visit.test, each.hexadecimal(32)
        _save(folder, each, "test" if test else "train")
        side = len(each.picture)
        for reader, seen in _readers(each):
            if test:  # one row, the consensus
                seen = {
                    _VINDR_NAMES.get(finding, finding): list(each.boxes.get(finding, ()))
                    for finding in each.visit.written
                }
            who = () if test else (reader,)
            cells = [int(column in seen or (column == "No finding" and not seen)) for column in _COLUMNS]
            labels[test].append((name, *who, *cells))
            for finding, found in seen.items():
                if finding in VINBIGDATA:
                    boxes[test] += [(name, *who, finding, *_corners(box, side)) for box in found]
            if test:
                break
    for test, split in ((False, "train"), (True, "test")):
        who = () if test else ("rad_id",)
        write_table(folder / "annotations" / f"image_labels_{split}.csv", ("image_id", *who, *_COLUMNS), labels[test])
        header = ("image_id", *who, "class_name", "x_min", "y_min", "x_max", "y_max")
        write_table(folder / "annotations" / f"annotations_{split}.csv", header, boxes[test])


def vinbigdata(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`train.csv` with a row per box, and DICOM files of 12 bits; the files of `test` have no labels."""
    rows: list[Sequence[object]] = []
    for each in drawn:
        test, name = each.visit.test, each.hexadecimal(32)
        _save(folder, each, "test" if test else "train")
        side = len(each.picture)
        for reader, seen in _readers(each) if not test else ():
            found = [
                (name, finding, VINBIGDATA.index(finding), reader, *_corners(box, side))
                for finding, boxes in seen.items()
                if finding in VINBIGDATA
                for box in boxes or [(0.3, 0.3, 0.4, 0.4)]
            ]
            rows += found or [(name, "No finding", 14, reader, "", "", "", "")]
    header = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
    write_table(folder / "train.csv", header, rows)


def _mapping(folder: Path, drawn: Sequence[Drawn], images: Sequence[str]) -> None:
    entries = [
        {
            "subset_img_id": image,
            "img_id": each.visit.image,
            "StudyInstanceUID": each.uid(2),
            "SOPInstanceUID": each.uid(1),
            "orig_labels": list(each.visit.written),
        }
        for each, image in zip(drawn, images, strict=True)
    ]
    write_text(folder / MAPPING, json.dumps(entries, indent=1))


def rsna(folder: Path, drawn: Sequence[Drawn]) -> None:
    """Labels with a row per box, classes, the mapping to NIH's images, and DICOM files."""
    rows: list[Sequence[object]] = []
    classes: list[Sequence[object]] = []
    names = []
    for each in drawn:
        name = "-".join(
            each.hexadecimal(32)[start:end] for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
        )
        names.append(name)
        save_dicom(folder / "stage_2_train_images" / f"{name}.dcm", each)
        boxes = [box for finding in _OPACITIES if finding in each.visit.written for box in each.boxes.get(finding, ())]
        rows += [(name, *(round(NIH_SIDE * side, 1) for side in box), 1) for box in boxes] or [
            (name, "", "", "", "", 0)
        ]
        normal = "No Lung Opacity / Not Normal" if each.visit.written else "Normal"
        classes += [(name, "Lung Opacity" if boxes else normal)] * max(1, len(boxes))
    write_table(folder / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), rows)
    write_table(folder / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
    _mapping(folder, drawn, names)


def siim(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`train-rle.csv` with a row per mask (of the whole box), a mapping to NIH's images, and DICOM files."""
    rows: list[Sequence[object]] = []
    for number, each in enumerate(drawn):
        save_dicom(folder / "dicom-images-train" / each.uid(2) / each.uid(3) / f"{each.uid(1)}.dcm", each)
        boxes = each.boxes.get("Pneumothorax", ()) if "Pneumothorax" in each.visit.written else ()
        rows += [(each.uid(1), f" {_run_lengths(box)}") for box in boxes] or [(each.uid(1), (" -1", "-1")[number % 2])]
    write_table(folder / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
    _mapping(folder, drawn, [each.uid(1) for each in drawn])


def _run_lengths(box: Box) -> str:
    """A box as the published masks are: column by column of 1024 pixels, each start counted from the last end."""
    x, y, width, height = (max(1, min(NIH_SIDE - 1, int(NIH_SIDE * value))) for value in box)
    height = min(height, NIH_SIDE - y)
    columns = min(width, NIH_SIDE - x)
    return " ".join([f"{x * NIH_SIDE + y} {height}", *[f"{NIH_SIDE - height} {height}"] * (columns - 1)])
