"""The reader of free tables: dialects, roles, cells, images, and the draw of a test split."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.data.catalog import Catalog, check
from cxr.data.draw import draw_test
from cxr.data.sources.roles import read_roles
from cxr.data.sources.table import open_table, read_table
from cxr.errors import CxrError

Read = Callable[..., Catalog]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a table from its text; the images `files` are empty files below the root."""

    def reader(text: str, files: tuple[str, ...] = (), roles: str = "", **options: Any) -> Catalog:
        (tmp_path / "films.csv").write_text(text, encoding="utf-8")
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        if roles:
            (tmp_path / "roles.yaml").write_text(roles, encoding="utf-8")
            options["roles"] = "roles.yaml"
        return read_table(str(tmp_path), "films.csv", **options)

    return reader


def column(catalog: Catalog, name: str) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), 4) for value in catalog.table[name]]


# ---------------------------------------------------------------- forms of files

TABLE = pd.DataFrame(
    {"Image": ["a.png", "b.png"], "Patient ID": ["007", "8"], "Sex": ["F", "Männlich"], "Mass": ["1", "0"]}
)
SPLIT_BY = {"comma": ",", "semicolon": ";", "tab": "\t"}


def write(form: str, path: Path) -> None:
    if form == "parquet":
        TABLE.to_parquet(path)
    else:
        separator, _, encoding = form.partition(" ")
        path.write_bytes(TABLE.to_csv(index=False, sep=SPLIT_BY[separator], lineterminator="\r\n").encode(encoding))


@pytest.mark.parametrize(
    "form",
    [
        "comma utf-8",
        "semicolon utf-8-sig",
        "semicolon latin-1",
        "tab utf-16",
        "comma utf-16",
        "comma cp1252",
        "parquet",
    ],
)
def test_one_table_is_read_alike_in_every_form(form: str, tmp_path: Path, capsys: Any) -> None:
    name = "films.parquet" if form == "parquet" else "films.txt"
    write(form, tmp_path / name)
    catalog = read_table(str(tmp_path), name)
    assert catalog.findings == ("Mass",) and column(catalog, "Mass") == [1, 0]
    assert catalog.table["image"].tolist() == ["a.png", "b.png"] and catalog.table["patient"].tolist() == ["007", "8"]
    assert catalog.table["sex"].tolist() == ["F", ""]
    said = "not understood and read as unknown: 1 cell of 'Sex', the first is 'Männlich' in row 3"
    assert said in capsys.readouterr().out


def test_numbers_truth_values_and_categories_of_parquet_are_cells_like_others(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"image": ["a", "b", "c"], "patient": [1, 2, 3], "Mass": [True, False, None], "Nodule": [1.0, 0.25, np.nan],
         "split": pd.Categorical(["train", "dev", "test"]), "readers": [[1], [2], [3]]}
    )  # fmt: skip
    table.to_parquet(tmp_path / "films.parquet")
    catalog = read_table(str(tmp_path), "films.parquet")
    assert column(catalog, "Mass") == [1, 0, None] and column(catalog, "Nodule") == [1, None, None]
    assert column(catalog, "soft:Nodule") == [None, 0.25, None]
    assert catalog.table["patient"].tolist() == ["1", "2", "3"]
    assert catalog.table["split"].tolist() == ["train", "val", "test"]


def test_rows_are_counted_as_in_a_spreadsheet_past_blank_rows_and_breaks_in_cells(read: Read) -> None:
    text = 'image,patient,note,Mass\n\na.png,1,"two\nlines",1\n,,,\nb.png,2,,often\nc.png,3,,0\n'
    with pytest.raises(CxrError, match=r"films\.csv row 5, column 'Mass': 'often' is not understood; a label is 1, 0"):
        read(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,patient,Mass\na,1,1\nb,2\n", r"row 3 has 2 cells, its headings are 3"),
        (b"image,patient,Mass\na,1,1,left\n", r"row 2 has 4 cells, its headings are 3; quote cells that contain .*','"),
        (b"image,patient,Mass,Mass\na,1,1,0\n", r"has the heading 'Mass' twice; rename one"),
        (b"image,patient,Mass\n", r"has no row below its headings"),
        (b"", r"films\.csv cannot be read as a table: Empty CSV file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"films\.csv is not a text file"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_bytes(content)
    with pytest.raises(CxrError, match=message):
        read_table(str(tmp_path), "films.csv")


def test_a_missing_file_and_other_kinds_of_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CxrError, match=r"data\.file is not set; pass data\.file=films\.csv"):
        read_table(str(tmp_path), None)
    with pytest.raises(CxrError, match=r"data\.file=nosuch\.csv does not exist"):
        read_table(str(tmp_path), "nosuch.csv")
    with pytest.raises(CxrError, match=r"not read as a \.xls file; save it as \.csv"):
        read_table(str(tmp_path), "films.xls")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(CxrError, match=r"bad\.parquet cannot be read as a table"):
        read_table(str(tmp_path), "bad.parquet")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "films.xlsx").touch()
    with pytest.raises(CxrError, match=r"films\.xlsx: Excel files need the extra `excel`; make setup EXTRAS=excel"):
        read_table(str(tmp_path), "films.xlsx")


def test_excel_keeps_zeros_and_dates(tmp_path: Path) -> None:
    import datetime

    import openpyxl

    book = openpyxl.Workbook()
    for row in (
        ["Image", "Patient", "Study date", "Mass", "Nodule"],
        ["a.png", "007", datetime.datetime(2020, 5, 1), 1, 0.5],
        ["b.png", "007", datetime.datetime(2019, 5, 1), None, True],
    ):
        book.active.append(row)
    book.save(tmp_path / "films.xlsx")
    catalog = read_table(str(tmp_path), "films.xlsx")
    assert catalog.table["patient"].tolist() == ["007", "007"] and catalog.table["followup"].tolist() == [1, 0]
    assert column(catalog, "Mass") == [1, None] and column(catalog, "Nodule") == [None, 1]


# ---------------------------------------------------------------- roles


def test_roles_are_found_in_any_case_and_shown(read: Read, tmp_path: Path, capsys: Any) -> None:
    catalog = read(
        "FILE NAME,subject_id,Patient Gender,Age (years),ViewPosition,Follow-up #,SET,mm,Comment,Mass,Cavity (lung)\n"
        'a,1,female,060Y,pa,0,Training,0.143,clear,yes,No\nb,1,F,"61,5",AP,1,training,0.168,,FALSE,n/a\n'
    )
    assert catalog.findings == ("Mass", "Cavity (lung)")
    table = catalog.table
    assert table["age"].tolist() == [60, 61.5] and table["view"].tolist() == ["PA", "AP"]
    assert table["sex"].tolist() == ["F", "F"] and table["followup"].tolist() == [0, 1]
    assert table["split"].tolist() == ["train", "train"]
    assert column(catalog, "Cavity (lung)") == [0, None]
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert shown["image"] == "FILE NAME" and shown["patient"] == "subject_id" and shown["no_finding"] == "-"
    assert shown["no"] == "role     mm, Comment"


def test_a_roles_file_names_columns_and_findings_and_the_rest_is_found(read: Read) -> None:
    text = "scan,person id,File#,Cavity (lung),Mass,smoker\na,7,x1,1,0,1\nb,8,x2,0,0,1\n"
    roles = 'image: "File#"\nage: null\nfindings:\n  Cavity: Cavity (lung)\n'
    catalog = read(text, roles=roles)
    assert catalog.findings == ("Cavity",) and catalog.table["image"].tolist() == ["x1", "x2"]
    assert catalog.table["patient"].tolist() == ["7", "8"] and "smoker" not in catalog.table
    assert read(text, roles='image: "File#"\nfindings: [Mass]\n').findings == ("Mass",)


def test_found_roles_written_as_yaml_give_the_same_roles(read: Read, tmp_path: Path) -> None:
    read("file,patient,Path,Mass,No Finding\nx,1,a,1,0\ny,2,b,,1\n")
    _, found = open_table(str(tmp_path), "films.csv")
    (tmp_path / "roles.yaml").write_text(found.as_yaml())
    _, given = open_table(str(tmp_path), "films.csv", "roles.yaml")
    assert (given.columns, given.findings, given.labels) == (found.columns, found.findings, found.labels)
    assert found.columns["image"] == "Path" and found.others["image"] == ("file",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient: MRM\n", r"data\.roles names the column 'MRM'; the columns of .*films\.csv are image, patient, Mass"),
        ("patient: image\nimage: image\n", r"data\.roles names the column 'image' twice"),
        ("pateint: patient\n", r"has the key 'pateint'; roles are image, patient"),
        ("patient: [1]\n", r"patient is \[1\]; write the heading of a column in quotes, or null"),
        ("findings: Mass\n", r"findings must be a list of headings, or `name: heading` lines"),
        ("findings: [Mass]\nlabels: Mass\n", r"has both findings and labels"),
        ("- image\n", r"must hold `role: heading` lines"),
        ("image: [\n", r"is not a YAML file"),
    ],
)
def test_a_wrong_roles_file_is_refused(content: str, message: str, read: Read) -> None:
    with pytest.raises(CxrError, match=message):
        read("image,patient,Mass\na,1,1\n", roles=content)


def test_a_missing_roles_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"does not exist; python -m cxr inspect writes one with roles=r\.yaml"):
        read_roles(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "scan,patient,Mass\na,1,1\n",
            r"no column for the images, such as image, filename or path; its columns are scan",
        ),
        ("image,Mass\na,1\n", r"no DICOM header names the patients.*data\.one_image_a_patient=true"),
        ("image,patient,note\na,1,free\n", r"no column of findings: none of note holds labels"),
        ("image,patient,Mass\na,1,1\nb,,0\n", r"1 row without patient \(line 3\), column 'patient'"),
        ("image,patient,Mass\na,1,1\nb,2,0\na,1,1\n", r"lists a more than once .* on lines 2, 4, column 'image'"),
    ],
)
def test_a_table_that_lacks_something_is_refused(text: str, message: str, read: Read) -> None:
    with pytest.raises(CxrError, match=message):
        read(text)


def test_a_table_without_patients_is_read_if_no_patient_has_two_images(read: Read) -> None:
    catalog = read("image,Mass\na,1\nb,0\n", one_image_a_patient=True)
    assert catalog.table["patient"].nunique() == 2
    with pytest.raises(
        CxrError, match=r"data\.one_image_a_patient=true, but .* has patients in 'patient'; leave it out"
    ):
        read("image,patient,Mass\na,1,1\n", one_image_a_patient=True)


# ---------------------------------------------------------------- cells

CELLS = ["1", "1.0", "yes", "TRUE", "0", "0,0", "No", "f", "-1", "-1.0", "", "NaN", "n/a", "0.3", "0,7"]
IGNORED = [1, 1, 1, 1, 0, 0, 0, 0, None, None, None, None, None, None, None]


@pytest.mark.parametrize(
    ("options", "uncertain", "blank"),
    [
        ({}, None, None),
        ({"uncertain": "ones"}, 1, None),
        ({"uncertain": "zeros", "blank": "unknown"}, 0, None),
        ({"uncertain": "ignore", "blank": "zeros"}, None, 0),
    ],
)
def test_cells_are_labels(options: dict[str, str], uncertain: float, blank: float, read: Read) -> None:
    rows = "".join(f"{k};{k};{cell}\n" for k, cell in enumerate(CELLS))
    catalog = read(f"image;patient;Mass\n{rows}", **options)
    assert column(catalog, "Mass") == [*IGNORED[:8], uncertain, uncertain, blank, blank, blank, None, None]
    assert column(catalog, "soft:Mass") == [None] * 13 + [0.3, 0.7]


@pytest.mark.parametrize("options", [{"uncertain": "maybe"}, {"blank": "ones"}])
def test_an_unknown_policy_is_refused(options: dict[str, str], read: Read) -> None:
    with pytest.raises(CxrError, match=r"data\.(uncertain|blank)=\w+ must be one of"):
        read("image,patient,Mass\na,1,1\n", **options)


@pytest.mark.parametrize("value", ["maybe", "1.5", "-0.2", "2"])
def test_an_unknown_label_is_named_with_row_column_and_value(value: str, read: Read) -> None:
    with pytest.raises(CxrError, match=rf"row 4, column 'Mass': '{value}' is not understood"):
        read(f"image,patient,Mass\na,1,1\nb,2,0\nc,3,{value}\n")


def test_splits_have_several_names_and_an_unknown_one_is_named(read: Read) -> None:
    words = ["train", "Training", "val", "VALID", "validate", "dev", "test", ""]
    rows = "".join(f"{k},{k},{word},1\n" for k, word in enumerate(words))
    catalog = read(f"image,patient,split,Mass\n{rows}")
    assert catalog.table["split"].tolist() == ["train", "train", "val", "val", "val", "val", "test", ""]
    with pytest.raises(CxrError, match=r"row 10, column 'split': 'holdout' is not understood; a split is train"):
        read(f"image,patient,split,Mass\n{rows}z,z,holdout,1\n")


def test_no_finding_makes_blank_cells_negative_but_not_those_of_devices(read: Read) -> None:
    head = "image,patient,No Finding,Mass,Support Devices\n"
    catalog = read(f"{head}a,1,1,,\nb,2,,1,1\nc,3,,,\nd,4,1,0,1\n")
    assert catalog.findings == ("Mass", "Support Devices")
    assert column(catalog, "Mass") == [0, 1, None, 0] and column(catalog, "Support Devices") == [None, 1, None, 1]
    for present in ("1", "0.9"):
        with pytest.raises(CxrError, match=r"row 2: 'No Finding' is 1 and 'Mass' has a finding; correct the row"):
            read(f"{head}a,1,1,{present},\nb,2,0,0,\nc,3,0,1,\n")


def test_no_finding_counts_beside_joined_names_too(read: Read) -> None:
    head = "image,patient,No Finding,Finding Labels\n"
    catalog = read(f"{head}a,1,1,\nb,2,0,Mass|Support Devices\nc,3,,\nd,4,1,Support Devices\n")
    assert column(catalog, "Mass") == [0, 1, None, 0] and column(catalog, "Support Devices") == [None, 1, None, 1]
    with pytest.raises(CxrError, match=r"row 3: 'No Finding' is 1 and 'Finding Labels' has a finding; correct the row"):
        read(f"{head}a,1,0,Mass\nb,2,1,Mass\n")


@pytest.mark.parametrize("sign", ["|", ";", ","])
def test_names_joined_in_one_column_are_findings(sign: str, read: Read, capsys: Any) -> None:
    cells = ["Mass|Lung scar", "No Finding", "", "mass", "Mass"]
    rows = "".join(f'{k}\t{k}\t"{cell.replace("|", sign)}"\n' for k, cell in enumerate(cells))
    catalog = read(f"image\tpatient\tFinding Labels\n{rows}")
    assert catalog.findings == ("Lung scar", "Mass")
    assert column(catalog, "Mass") == [1, 0, None, 1, 1] and column(catalog, "Lung scar") == [1, 0, None, 0, 0]
    assert "'mass' of the column 'Finding Labels' counts as 'Mass'" in capsys.readouterr().out
    assert column(read(f"image\tpatient\tFinding Labels\n{rows}", blank="zeros"), "Mass") == [1, 0, 0, 1, 1]


@pytest.mark.parametrize("cell", ["No Finding|Mass", "mass|NORMAL", "['Mass'|'none']"])
def test_joined_names_of_a_finding_and_of_none_contradict_each_other(cell: str, read: Read) -> None:
    rows = f"a,1,Mass\nb,2,{cell}\nc,3,No Finding\nd,4,{cell}\n"
    with pytest.raises(CxrError, match=r"films\.csv rows 3, 5, column 'labels': .*names a finding and none; correct"):
        read(f"image,patient,labels\n{rows}")
    devices = read("image,patient,labels\na,1,No Finding|Support Devices\nb,2,Mass\n")
    assert column(devices, "Support Devices") == [1, 0] and column(devices, "Mass") == [0, 1]


def test_fractions_are_soft_labels_below_the_heading_of_a_finding_and_named_below_others(
    read: Read, capsys: Any
) -> None:
    rows = "".join(f"f{k},{k},{k % 2},{k / 1500},{0.4 + k / 9999},{k / 9}\n" for k in range(1500))
    text = f"image,patient,Edema,pleural effusion,scar,size\n{rows}"
    catalog = read(text)
    assert catalog.findings == ("Edema", "pleural effusion")
    soft = column(catalog, "soft:pleural effusion")
    assert soft[0] is None and soft[750] == 0.5 and column(catalog, "pleural effusion")[:2] == [0, None]
    said = capsys.readouterr().out
    assert (
        "no role     scar, size" in said and "note: scar of no role: only numbers from 0 to 1; for soft labels" in said
    )
    read("image,patient,Edema\na,1,0.3\nb,2,1\n")
    assert "has no 0" not in capsys.readouterr().out  # no cell is blank
    named = read(text, roles="findings:\n  Scar: scar\n")
    assert named.findings == ("Scar",) and "only numbers from 0 to 1" not in capsys.readouterr().out


def test_a_separator_can_be_given_and_free_text_is_refused(read: Read) -> None:
    text = "image,patient,diagnosis\na,1,Mass/Nodule\nb,2,Nodule\n"
    assert read(text, roles="separator: /\n").findings == ("Mass", "Nodule")
    rows = "".join(f"{k},{k},report {k}\n" for k in range(300))
    with pytest.raises(CxrError, match=r"'diagnosis' has 300 different names of findings.*is it free text\?"):
        read(f"image,patient,diagnosis\n{rows}")


def test_a_patient_with_two_sexes_has_none(read: Read, capsys: Any) -> None:
    catalog = read("image,patient,sex,age,Mass\na,1,F,85 or more,1\nb,1,M,70,0\nc,2,M,x,0\n")
    assert catalog.table["sex"].tolist() == ["", "", "M"] and catalog.table["age"].isna().tolist() == [
        True,
        False,
        True,
    ]
    shown = capsys.readouterr().out
    assert "the sex of patients with two sexes is unknown: 1" in shown
    assert "not understood and read as unknown: 2 cells of 'age', the first is '85 or more' in row 2" in shown


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["2020-02-01", "2019-12-31 08:30", "2019-12-31 07:00", ""], [3, 2, 1, 0]),
        (["01.02.2020", "31.12.2019", "1.2.2020", "02.02.2020"], [1, 0, 1, 2]),
        (["02/13/2020", "01/31/2021", "02/13/2020", "12/01/2019"], [1, 2, 1, 0]),
        (["43862", "43830", "43862", "43831"], [2, 0, 2, 1]),
        (["3", "0", "5", "1"], [3, 0, 5, 1]),
        (["s9", "s1", "s9", "s4"], [0, 1, 0, 2]),
    ],
)
def test_studies_of_a_patient_are_numbered_in_time(cells: list[str], numbers: list[int], read: Read) -> None:
    rows = "".join(f"{k};p;{cell};1\n" for k, cell in enumerate(cells))
    catalog = read(f"image;patient;study date;Mass\n{rows}x;q;{cells[0]};0\n")
    assert catalog.table["followup"].tolist()[:4] == numbers


def test_a_finding_that_is_never_negative_is_pointed_out(read: Read, capsys: Any) -> None:
    read("image,patient,Mass\na,1,1\nb,2,\n")
    assert "Mass has no 0; if a blank cell means that it is absent, pass data.blank=zeros" in capsys.readouterr().out


# ---------------------------------------------------------------- images

FILES = (
    "a.png",
    "p1/s1/b.jpg",
    "p2/c.png",
    "p2/deep/d.PNG",
    "p3/same.png",
    "p4/same.png",
    "p2/c.txt",
    "cxr-cache/e.png",
)


@pytest.mark.parametrize(
    ("name", "id_", "file"),
    [
        ("a.png", "a.png", "a.png"),
        ("a", "a", "a.png"),
        ("./p1/s1/b.jpg", "p1/s1/b.jpg", "p1/s1/b.jpg"),
        ("p1\\s1\\b.jpg", "p1/s1/b.jpg", "p1/s1/b.jpg"),
        ("p2/c", "p2/c", "p2/c.png"),
        ("b.jpg", "b.jpg", "p1/s1/b.jpg"),
        ("d", "d", "p2/deep/d.PNG"),
        ("{root}/p2/c.png", "p2/c.png", "p2/c.png"),
        ("/mnt/old/films/p1/s1/b.jpg", "p1/s1/b.jpg", "p1/s1/b.jpg"),
        ("C:\\films\\p2\\deep\\d", "p2/deep/d.PNG", "p2/deep/d.PNG"),
        ("e.png", "e.png", ""),
        ("nosuch/f.png", "nosuch/f.png", ""),
    ],
)
def test_images_are_found_by_any_name(name: str, id_: str, file: str, read: Read, tmp_path: Path) -> None:
    catalog = read(f"image,patient,Mass\n{name.format(root=tmp_path)},1,1\np3/same.png,2,0\n", FILES)
    row = catalog.table.iloc[0]
    assert row["image"] == id_ and row["path"] == (str(tmp_path / file) if file else "")


def test_images_outside_the_root_keep_their_folders(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path.parent / f"{tmp_path.name}-home"
    for name in ("one/a.png", "two/a.png"):
        (home / name).parent.mkdir(parents=True)
        (home / name).touch()
    monkeypatch.setenv("HOME", str(home))
    catalog = read(f"image,patient,Mass\n~/one/a.png,1,1\n{home}/two/a.png,2,0\n")
    assert catalog.table["image"].tolist() == ["one/a.png", "two/a.png"]
    assert catalog.table["path"].tolist() == [str(home / "one/a.png"), str(home / "two/a.png")]


def test_a_name_of_two_files_and_two_names_of_a_file_are_refused(read: Read) -> None:
    with pytest.raises(
        CxrError, match=r"image 'same', and 2 files .* p3/same\.png, p4/same\.png; write it with its folder"
    ):
        read("image,patient,Mass\nsame,1,1\n", FILES)
    with pytest.raises(CxrError, match=r"names the file .*a\.png as a, a\.png \(rows 2, 4\); keep one row per image"):
        read("image,patient,Mass\na,1,1\nb,2,0\na.png,1,1\n")


def test_files_whose_names_are_no_text_are_passed_over(read: Read, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png")).touch()  # Latin-1
    table = read("image,patient,Mass\na.png,1,1\nb.png,2,0\n", ("a.png",)).table
    assert table["path"].tolist() == [str(tmp_path / "a.png"), ""]


def test_a_link_to_a_folder_above_is_followed_once(read: Read, tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "above").symlink_to(tmp_path)
    catalog = read("image,patient,Mass\nx,1,1\n", ("p1/x.png",))
    assert catalog.table["path"].tolist() == [str(tmp_path / "p1" / "x.png")]


# ---------------------------------------------------------------- the test split


def population(seed: int, split: bool = False) -> Catalog:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"image": [f"{k}.png" for k in range(600)], "patient": rng.integers(0, 200, 600).astype(str)})
    table = table.assign(path="x", followup=0, age=50.0, sex="", view="", Mass=(rng.random(600) < 0.2).astype(float))
    return check(Catalog(table.assign(split="train") if split else table, ("Mass",), "films.csv"))


def test_a_drawn_test_split_shares_no_patient_and_is_the_same_for_any_order_of_rows() -> None:
    catalog = population(0)
    drawn = draw_test(catalog, 0.25, 0).table
    test, train = (drawn[drawn["split"] == name] for name in ("test", "train"))
    assert len(test) + len(train) == 600 and not set(test["patient"]) & set(train["patient"])
    assert abs(len(test) - 150) < 15 and abs(test["Mass"].sum() - drawn["Mass"].sum() / 4) < 5
    shuffled = Catalog(catalog.table.sample(frac=1, random_state=1).reset_index(drop=True), ("Mass",), "films.csv")
    again = draw_test(shuffled, 0.25, 0).table
    assert set(again["image"][again["split"] == "test"]) == set(test["image"])
    other = draw_test(catalog, 0.25, 1).table
    assert set(other["image"][other["split"] == "test"]) != set(test["image"])


def test_a_test_split_of_the_table_is_kept_and_one_without_is_cut_from_training() -> None:
    catalog = population(0, split=True)
    catalog.table.loc[catalog.table["patient"] == "5", "split"] = "val"
    cut = draw_test(catalog, 0.25, 0).table
    assert set(cut["patient"][cut["split"] == "val"]) == {"5"} and (cut["split"] == "test").any()
    catalog.table.loc[catalog.table["patient"] == "7", "split"] = "test"
    assert draw_test(catalog, 0.25, 0) is catalog


@pytest.mark.parametrize("share", [0, 1, -0.1, True, "half", None])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(CxrError, match=rf"data\.test_share={share} must be above 0 and below 1"):
        draw_test(population(0), share, 0)


def test_a_single_patient_cannot_be_cut() -> None:
    catalog = population(0)
    catalog.table["patient"] = "1"
    with pytest.raises(
        CxrError, match=r"the 1 patients of films\.csv cannot be split with data\.test_share=0\.2; give data"
    ):
        draw_test(catalog, 0.2, 0)


def test_a_circular_link_below_the_root_does_not_stop_the_search(read: Read, tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    catalog = read("image,patient,Mass\na,1,1\nb,2,0\n", ("deep/a.png", "deep/b.png"))
    assert catalog.table["path"].tolist() == [f"{tmp_path}/deep/{name}.png" for name in "ab"]
