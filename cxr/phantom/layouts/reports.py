"""Layouts whose labels were read from reports, per study: CheXpert, MIMIC-CXR-JPG, BRAX and CXR-LT."""

from collections.abc import Sequence
from pathlib import Path

from cxr.findings import CHEXPERT, NO_FINDING
from cxr.phantom.layouts.drawn import Drawn, lateral, save, write_table

_UNCERTAIN, _BLANK = 0.1, 0.6  # of the findings that are present, and of those that are absent
_LESSER = {
    "Lung Opacity": ("Atelectasis", "Consolidation", "Edema", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    "Lung Lesion": ("Mass", "Nodule"), "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Pleural Effusion": ("Effusion",), "Pleural Other": ("Pleural_Thickening",),
    "Pleural Thickening": ("Pleural_Thickening",),
}  # fmt: skip
CXR_LT = (
    "Adenopathy", "Atelectasis", "Azygos Lobe", "Calcification of the Aorta", "Cardiomegaly", "Clavicle Fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged Cardiomediastinum", "Fibrosis", "Fissure", "Fracture", "Granuloma",
    "Hernia", "Hydropneumothorax", "Infarction", "Infiltration", "Kyphosis", "Lobar Atelectasis", "Lung Lesion",
    "Lung Opacity", "Mass", "Nodule", "Normal", "Pleural Effusion", "Pleural Other", "Pleural Thickening",
    "Pneumomediastinum", "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Pulmonary Embolism",
    "Pulmonary Hypertension", "Rib Fracture", "Round(ed) Atelectasis", "Subcutaneous Emphysema", "Support Devices",
    "Tortuous Aorta", "Tuberculosis",
)  # fmt: skip


def _present(name: str, drawn: Drawn) -> bool:
    if name == "Support Devices":
        return drawn.visit.portable
    return any(finding in drawn.visit.written for finding in _LESSER.get(name, (name,)))


def _cells(drawn: Drawn, certain: bool = False) -> dict[str, str]:
    """The fourteen columns of the labeller: 1.0, 0.0, -1.0 and blank; `certain` ones as readers give them."""
    cells, rng = {}, drawn.random(1)
    for name in CHEXPERT:
        chance = rng.random()
        if _present(name, drawn):
            cells[name] = "-1.0" if chance < _UNCERTAIN and not certain else "1.0"
        else:
            cells[name] = "" if chance < _BLANK and not certain else "0.0"
    seen = any(value in ("1.0", "-1.0") for name, value in cells.items() if name != "Support Devices")
    if not seen and not certain:  # the labeller then writes no more than the absent findings that the report names
        cells = {name: "" if value == "0.0" and name != "Pneumothorax" else value for name, value in cells.items()}
    return {NO_FINDING: ("0.0" if certain else "") if seen else "1.0", **cells}


def chexpert(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`train.csv`, `valid.csv`, `test_labels.csv` and JPEG files; every fourth study has a lateral view, too."""
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING, *CHEXPERT)
    rows: dict[str, list[Sequence[object]]] = {"train": [], "valid": [], "test": []}
    for each in drawn:
        visit, split = each.visit, {"val": "valid"}.get(each.split, each.split)
        study = f"{split}/patient{visit.patient:05d}/study{visit.followup + 1}"
        cells = list(_cells(each, certain=split != "train").values())
        views = [("view1_frontal.jpg", "Frontal", each.view, each.picture)]
        if (visit.patient + visit.followup) % 4 == 0:
            views.append(("view2_lateral.jpg", "Lateral", "", lateral(each.picture)))
        for name, side, view, picture in views:
            save(folder / study / name, picture)
            about = ("Female" if visit.woman else "Male", visit.age, side, view) if split != "test" else ()
            above = "CheXpert-v1.0" if split == "test" else "CheXpert-v1.0-small"
            rows[split].append((f"{above}/{study}/{name}", *about, *cells))
    write_table(folder / "train.csv", header, rows["train"])
    write_table(folder / "valid.csv", header, rows["valid"])
    write_table(folder / "test_labels.csv", ("Path", *header[5:]), rows["test"])


def _mimic_names(each: Drawn) -> tuple[str, str, str]:
    """dicom_id, subject_id and study_id; study ids are not in the order of time."""
    name = each.hexadecimal(40)
    dicom = "-".join(name[start : start + 8] for start in range(0, 40, 8))
    return dicom, str(10_000_000 + each.visit.patient), str(50_000_000 + int(name[:5], 16) * 9 + each.visit.followup)


def _mimic_path(each: Drawn, dicom: str) -> str:
    _, subject, study = _mimic_names(each)
    return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"


def mimic_cxr(folder: Path, drawn: Sequence[Drawn]) -> None:
    """Metadata, labels and split, MIMIC-IV's `patients.csv`, and JPEG files; every fourth study has a lateral view."""
    metadata, labels, split = [], [], []
    patients: dict[str, Sequence[object]] = {}
    names = sorted([*CHEXPERT, NO_FINDING])
    for each in drawn:
        dicom, subject, study = _mimic_names(each)
        cells = _cells(each)
        labels.append((subject, study, *(cells[name] for name in names)))
        views = [(dicom, each.view, each.picture)]
        if (each.visit.patient + each.visit.followup) % 4 == 0:
            views.append((dicom[::-1], "LATERAL", lateral(each.picture)))
        year = 2150 + each.visit.followup
        patients.setdefault(subject, (subject, each.sex, each.visit.age - each.visit.followup, 2150))
        for name, view, picture in views:
            path = folder / _mimic_path(each, name)
            save(path, picture)
            height, width = picture.shape
            metadata.append((name, subject, study, "CHEST (PA AND LAT)", view, height, width, f"{year}0310", "90650.5"))
            split.append((name, study, subject, {"val": "validate"}.get(each.split, each.split)))
    about = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows",
             "Columns", "StudyDate", "StudyTime")  # fmt: skip
    write_table(folder / "mimic-cxr-2.0.0-metadata.csv", about, metadata)
    write_table(folder / "mimic-cxr-2.0.0-chexpert.csv", ("subject_id", "study_id", *names), labels)
    write_table(folder / "mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "subject_id", "split"), split)
    write_table(folder / "patients.csv", ("subject_id", "gender", "anchor_age", "anchor_year"), list(patients.values()))


def cxr_lt(folder: Path, drawn: Sequence[Drawn]) -> None:
    """The labelled tables of CXR-LT 2024, task 1, and the images of MIMIC-CXR-JPG."""
    files = {"train": "train", "val": "development", "test": "test"}
    rows: dict[str, list[Sequence[object]]] = {split: [] for split in files}
    for each in drawn:
        dicom, subject, study = _mimic_names(each)
        path = _mimic_path(each, dicom)
        save(folder / path, each.picture)
        present = [int(_present(name, each)) for name in CXR_LT]
        present[CXR_LT.index("Normal")] = int(not any(present))
        rows[each.split].append((dicom, subject, f"s{study}", each.view, "postero-anterior", path, *present))
    about = ("dicom_id", "subject_id", "study_id", "ViewPosition", "ViewCodeSequence_CodeMeaning", "fpath")
    for split, name in files.items():
        task = "" if split == "train" else "_task1"
        write_table(folder / "cxr-lt-2024" / f"{name}_labeled{task}.csv", (*about, *CXR_LT), rows[split])


def brax(folder: Path, drawn: Sequence[Drawn]) -> None:
    """`master_spreadsheet_update.csv` and PNG files; every fourth study has a lateral view, too."""
    rows: list[Sequence[object]] = []
    for each in drawn:
        visit, study = each.visit, each.hexadecimal(12)
        age = "85 or more" if visit.age >= 85 else visit.age // 5 * 5
        views = [("1", each.view, each.picture)]
        if (visit.patient + visit.followup) % 4 == 0:
            views.append(("2", "LL", lateral(each.picture)))
        for number, view, picture in views:
            path = f"id_{visit.patient:08d}/Study_{study}/Series_{study}.{number}/image-{study}-{number}"
            save(folder / "images" / f"{path}.png", picture)
            about = (f"Anonymized_DICOMs/{path}.dcm", f"images/{path}.png", f"id_{visit.patient:08d}", each.sex, age)
            cells = _cells(each).values()
            rows.append((len(rows), *about, f"{visit.followup + 1:06d}", 20010101, *cells, view, *picture.shape, 1))
    about_header = ("DicomPath", "PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate")
    header = ("", *about_header, NO_FINDING, *CHEXPERT, "ViewPosition", "Rows", "Columns", "Manufacturer")
    write_table(folder / "master_spreadsheet_update.csv", header, rows)
