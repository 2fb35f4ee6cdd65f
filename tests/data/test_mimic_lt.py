"""MIMIC-CXR-LT: 19 findings, one an image, in four files, over images named by their path."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.data.sources.mimic_lt import MIMIC_CXR_LT, read_mimic_lt
from cxr.data.split import split_catalog
from cxr.errors import CxrError

PARTS = {
    "train": [("10", "a", "Support Devices"), ("10", "b", "No Finding"), ("11", "c", "Pneumomediastinum")],
    "balanced-val": [("12", "d", "Tortuous Aorta")],
    "test": [("13", "e", "Edema"), ("13", "f", "Fracture"), ("14", "g", "Edema")],
    "balanced-test": [("13", "f", "Fracture"), ("14", "g", "Edema")],
}
HEADER = ["subject_id", "study_id", "dicom_id", "path", *sorted(MIMIC_CXR_LT)]


def path(subject: str, image: str) -> str:
    return f"files/p{subject}/p{subject}000/s5/{image}.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Label files, and each image but one."""
    for name, rows in PARTS.items():
        lines = [",".join(HEADER)]
        for subject, image, finding in rows:
            marks = ["1" if each == finding else "0" for each in HEADER[4:]]
            lines.append(",".join([subject, "5", image, path(subject, image), *marks]))
            file = tmp_path / path(subject, image)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
        (tmp_path / f"mimic-cxr-lt_single-label_{name}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / path("10", "b")).unlink()
    return tmp_path


def test_the_label_files_say_split_finding_patient_and_path(folder: Path) -> None:
    catalog = split_catalog(read_mimic_lt(str(folder)), folder, None, None, None, 0.1, 0)
    assert catalog.findings == MIMIC_CXR_LT and len(MIMIC_CXR_LT) == 19
    for split, name in {
        "train": "train",
        "val": "balanced-val",
        "test": "test",
        "balanced_test": "balanced-test",
    }.items():
        called = [MIMIC_CXR_LT[k] for k in catalog.targets(split).argmax(axis=1)]
        found = sorted(zip(catalog.rows(split)["patient"], catalog.rows(split)["image"], called, strict=True))
        assert found == sorted((subject, path(subject, image), finding) for subject, image, finding in PARTS[name])
    files = catalog.table.set_index("image")["path"]
    assert files[path("11", "c")] == str(folder / path("11", "c")) and files[path("10", "b")] == ""


def test_images_and_labels_may_lie_in_two_folders(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    with pytest.raises(CxrError, match=r"mimic-cxr-lt_single-label_train\.csv is missing; pass data\.labels=DIR"):
        read_mimic_lt(str(folder), str(labels))
    for file in folder.glob("mimic*.csv"):
        file.rename(labels / file.name)
    assert len(read_mimic_lt(str(folder), str(labels))) == 7
    with pytest.raises(CxrError, match=r"data\.root is not set"):
        read_mimic_lt(None, str(labels))


def test_a_row_without_patient_or_with_two_findings_is_refused(folder: Path) -> None:
    file = folder / "mimic-cxr-lt_single-label_test.csv"
    text = file.read_text()
    changes: tuple[Callable[[str], str], ...] = (
        lambda row: row.replace("13,", ",", 1),
        lambda row: ",".join([*row.split(",")[:4], *["1"] * 19]),
    )
    for change in changes:
        rows = text.splitlines()
        rows[2] = change(rows[2])
        file.write_text("\n".join(rows) + "\n")
        with pytest.raises(
            CxrError, match=r"test\.csv line 3: expected path and subject_id, and exactly one 1 among 19"
        ):
            read_mimic_lt(str(folder))


def test_lists_of_another_split_are_refused(folder: Path) -> None:
    """The balanced test images would be trained on."""
    (folder / "train.txt").write_text("\n".join(path(*row[:2]) for row in PARTS["test"]))
    (folder / "test.txt").write_text("\n".join(path(*row[:2]) for row in PARTS["train"]))
    with pytest.raises(CxrError, match="balanced_test"):
        split_catalog(read_mimic_lt(str(folder)), folder, "train.txt", None, "test.txt", 0.5, 0)
