"""Tables of DICOM files: attributes from headers, files by SOPInstanceUID, and what inspect says of them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.sources.table import read_table
from cxr.errors import CxrError
from tests.imaging.films import encoded, film

KEYS = ("PatientID", "PatientAge", "PatientSex", "ViewPosition", "StudyDate", "BodyPartExamined")
HEADERS = {
    "a.dcm": ("P1", "060Y", "F", "PA", "20200102", "CHEST"),
    "b.dcm": ("P1", "018M", "F", "LL", "20190102", ""),
    "deep/c": ("P2", "", "O", "AP", "20190102", "HAND"),
    "deep/1.2.3.4.5": ("P3", "000Y", "M", "", "20190102", "CHEST"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for number, (name, values) in enumerate(HEADERS.items()):
        pixels = np.random.default_rng(number).integers(0, 4096, (40, 40)).astype(np.uint16)
        dataset = film(pixels, SOPInstanceUID=f"1.2.276.{number}", **dict(zip(KEYS, values, strict=True)))
        (tmp_path / name).write_bytes(encoded(dataset))
    return tmp_path


def read(root: Path, text: str, **options: Any) -> Any:
    (root / "films.csv").write_text(text)
    return read_table(str(root), "films.csv", **options)


def test_headers_fill_what_a_table_lacks(root: Path, capsys: Any) -> None:
    catalog = read(root, "image,Mass\na.dcm,1\nb,0\nc,1\n1.2.3.4.5,0\n")
    table = catalog.table
    assert table["patient"].tolist() == ["P1", "P1", "P2", "P3"] and table["followup"].tolist() == [1, 0, 0, 0]
    assert table["age"].fillna(-1).tolist() == [60, 1.5, -1, 0] and table["sex"].tolist() == ["F", "F", "", "M"]
    assert table["view"].tolist() == ["PA", "LL", "AP", ""]
    said = capsys.readouterr().out
    assert "read for what the table lacks: 4 DICOM headers: patient 4, age 3, sex 4, view 3, study 4" in said
    assert f"1 DICOM header: lateral view (LL), such as that of {root / 'b.dcm'}" in said
    assert f"1 DICOM header: body part HAND, such as that of {root / 'deep/c'}" in said
    assert "studies of a patient are in the order of 'StudyDate'" in said


def test_other_modalities_and_headers_of_which_pydicom_warns_are_counted_and_nothing_else_is_printed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a.dcm", "b.dcm")):
        dataset = film(np.ones((9, 9), np.uint16), PatientID=f"P{number}", Modality="CT")
        dataset.SpecificCharacterSet = "ISO_IR 999"
        dataset.PatientName = "M\xfcller"
        (root / name).write_bytes(encoded(dataset))
    read(root, "image,Mass\na.dcm,1\nb.dcm,0\ndeep/c,0\n")
    said = capsys.readouterr().out
    assert f"2 DICOM headers: modality CT, such as that of {root / 'a.dcm'}" in said
    assert f"2 DICOM headers: form not as in the standard, such as that of {root / 'a.dcm'}" in said
    code = "import sys; from cxr.imaging.dicom_header import read_header; read_header(open(sys.argv[1], 'rb'))"
    alone = subprocess.run([sys.executable, "-c", code, root / "a.dcm"], capture_output=True, text=True, check=True)
    assert alone.stderr == ""


def test_cells_of_a_table_are_kept_and_only_its_blank_ones_filled(root: Path) -> None:
    table = read(root, "image,patient,age,sex,view,Mass\na.dcm,7,33,M,AP,1\nb.dcm,8,,,,0\n").table
    assert table["patient"].tolist() == ["7", "8"] and table["age"].tolist() == [33, 1.5]
    assert table["sex"].tolist() == ["M", "F"] and table["view"].tolist() == ["AP", "LL"]


def test_a_full_table_opens_no_header(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.data.sources.headers._header", pytest.fail)
    read(root, "image,patient,age,sex,view,study,Mass\na.dcm,7,33,M,AP,1,1\nb.dcm,8,34,F,PA,1,0\n")


@pytest.mark.parametrize("name", ["x.DCM", "1.2.3", "folder.png/x", "x"])
def test_headers_are_read_of_files_with_the_suffix_of_dicom_a_number_or_none(name: str, root: Path) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / "a.dcm").rename(root / name)
    assert read(root, f"image,Mass\n{name},1\nb.dcm,0\n").table["patient"].tolist() == ["P1", "P1"]


def test_files_are_found_by_their_instance(root: Path) -> None:
    table = read(root, "SOPInstanceUID,Mass\n1.2.276.2,1\n1.2.276.0,0\n1.2.276.99,0\n").table
    assert table["image"].tolist() == ["deep/c", "a.dcm", "1.2.276.99"]
    assert table["path"].tolist() == [str(root / "deep/c"), str(root / "a.dcm"), ""]


def test_instances_without_any_file_are_the_error_and_not_their_patients(root: Path) -> None:
    with pytest.raises(CxrError, match=r"none of the 2 images of .* is below .* SOPInstanceUID '1\.2\.276\.97'"):
        read(root, "SOPInstanceUID,Mass\n1.2.276.97,1\n1.2.276.99,0\n")


def test_two_files_of_one_instance_are_refused(root: Path) -> None:
    (root / "copy.dcm").write_bytes((root / "a.dcm").read_bytes())
    with pytest.raises(CxrError, match=r"two files have the SOPInstanceUID 1\.2\.276\.0: a\.dcm, copy\.dcm"):
        read(root, "SOPInstanceUID,Mass\n1.2.276.0,0\n")


def test_images_without_a_patient_in_table_or_header_are_refused(root: Path) -> None:
    (root / "d.dcm").write_bytes(encoded(film(np.ones((9, 9), np.uint16), PatientID="")))
    text = "image,Mass\na.dcm,1\nd.dcm,0\n"
    with pytest.raises(
        CxrError, match=r"for the patients.* and 1 of its images, such as [^ ]+, no DICOM header that names one"
    ):
        read(root, text)
    assert read(root, text, one_image_a_patient=True).table["patient"].tolist() == ["a.dcm", "d.dcm"]


def test_damaged_headers_are_left_to_the_cache_which_reports_what_headers_remark(root: Path) -> None:
    (root / "e.dcm").write_bytes((root / "a.dcm").read_bytes()[:200])
    catalog = read(root, "image,patient,Mass\nb.dcm,1,1\nc,2,0\ne.dcm,3,1\n")
    cache, kept = open_or_build(catalog, root, CacheSettings(16, on_error="skip", processes=1))
    report = (cache.folder / "report.csv").read_text().splitlines()
    assert len(kept) == 2 and kept.table["age"].fillna(-1).tolist() == [1.5, -1]
    assert report[1] == "b.dcm,lateral view (LL)" and report[2] == "c,body part HAND"
    assert report[3].startswith("e.dcm,") and "DICOM" in report[3]
