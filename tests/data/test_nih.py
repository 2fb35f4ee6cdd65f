"""The NIH reader: editions of the table, layouts of the images, real files counted again with the csv module."""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr.data.catalog import Catalog, check_images_exist, choose_findings
from cxr.data.sources.nih import image_files, read_boxes, read_nih
from cxr.errors import CxrError
from cxr.findings import NIH14

Folder = Callable[..., Path]
SHORT = "{image},{labels},{followup},{patient},{age},{sex},{view},2500,2048,0.168,0.168"


def row(image: str = "00000001_000.png", labels: str = "Mass", patient: str = "1", **more: str) -> dict[str, str]:
    return {"image": image, "labels": labels, "patient": patient} | more


def positives(catalog: Catalog, image: str) -> set[str]:
    line = catalog.table.set_index("image").loc[image]
    return {name for name in catalog.findings if line[name] == 1}


def test_default_folder_is_read_whole(nih_folder: Folder) -> None:
    root = nih_folder()
    catalog = read_nih(str(root))
    assert catalog.findings == NIH14 and len(catalog) == 24
    assert catalog.origin == str(root / "Data_Entry_2017.csv")
    first = catalog.table.iloc[1]
    assert (first["image"], first["patient"], first["followup"]) == ("00000001_001.png", "1", 1)
    assert (first["age"], first["sex"], first["view"]) == (31, "F", "AP")
    assert first["path"] == str(root / "images" / "00000001_001.png")


def test_labels_are_sets_and_no_finding_is_the_empty_one(nih_folder: Folder) -> None:
    catalog = read_nih(str(nih_folder()))
    assert positives(catalog, "00000001_000.png") == {"Mass"}
    assert positives(catalog, "00000001_001.png") == set()
    assert positives(catalog, "00000002_000.png") == {"Effusion", "Mass"}
    assert "No Finding" not in catalog.table
    assert set(np.unique(catalog.table[list(NIH14)])) == {0.0, 1.0}


def test_spellings_of_the_box_file_are_understood(nih_folder: Folder) -> None:
    catalog = read_nih(str(nih_folder([row("a.png", "Infiltrate|Mass"), row("b.png", "Pleural Thickening")])))
    assert positives(catalog, "a.png") == {"Infiltration", "Mass"}
    assert positives(catalog, "b.png") == {"Pleural_Thickening"}


EDITIONS = {
    "2020": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        SHORT,
    ),
    "eleven named fields": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,"
        "OriginalImageWidth,OriginalImageHeight,OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y",
        SHORT,
    ),
    "quoted brackets": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        '"OriginalImage[Width,Height]","OriginalImagePixelSpacing[x,y]"',
        SHORT,
    ),
    "comma at the end of all lines": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        SHORT + ",",
    ),
    "comma at the end of the header": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        SHORT,
    ),
    "commas at the end of all lines": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],,",
        SHORT + ",,",
    ),
    "byte order mark": (
        "\ufeffImage Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        SHORT,
    ),
    "other order": (
        "Patient ID,Image Index,View Position,Finding Labels,Patient Age,Follow-up #,Patient Sex",
        "{patient},{image},{view},{labels},{age},{followup},{sex}",
    ),
    "Windows line ends": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\r",
        "{image},{labels},{followup},{patient},{age},{sex},{view}\r",
    ),
}


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_of_the_table_reads_the_same(nih_folder: Folder, edition: str) -> None:
    header, line = EDITIONS[edition]
    rows = [
        row("00000001_000.png", "Mass|Infiltration", "1", age="060Y", sex="M", view="AP", followup="7"),
        row("00000002_000.png", "No Finding", "2", age="414", sex="F", view="PA"),
        row("00000003_000.png", "Pleural_Thickening", "3", age="018M", sex="F", view="PA"),
    ]
    catalog = read_nih(str(nih_folder(rows, header=header, line=line, size=4)))
    table = catalog.table
    assert table["image"].tolist() == ["00000001_000.png", "00000002_000.png", "00000003_000.png"]
    assert table["patient"].tolist() == ["1", "2", "3"] and table["followup"].tolist() == [7, 0, 0]
    assert table["sex"].tolist() == ["M", "F", "F"] and table["view"].tolist() == ["AP", "PA", "PA"]
    assert table["age"][0] == 60 and math.isnan(table["age"][1]) and table["age"][2] == 1.5
    assert positives(catalog, "00000001_000.png") == {"Mass", "Infiltration"}
    assert positives(catalog, "00000002_000.png") == set()
    assert positives(catalog, "00000003_000.png") == {"Pleural_Thickening"}


@pytest.mark.parametrize("sex", ["", "X", "unknown"])
def test_sex_that_is_neither_is_empty(nih_folder: Folder, sex: str) -> None:
    assert read_nih(str(nih_folder([row(sex=sex)]))).table["sex"].tolist() == [""]


def test_table_without_the_optional_columns_is_read(nih_folder: Folder) -> None:
    root = nih_folder([row()], header="Image Index,Finding Labels,Patient ID", line="{image},{labels},{patient}")
    line = read_nih(str(root)).table.iloc[0]
    assert math.isnan(line["age"]) and (line["sex"], line["view"], line["followup"]) == ("", "", 0)


def test_images_in_numbered_folders_are_found(nih_folder: Folder) -> None:
    root = nih_folder([row("a.png"), row("b.png")], images=["a.png"], folder="images_001/images")
    (root / "images_012" / "images").mkdir(parents=True)
    (root / "images_001" / "images" / "a.png").rename(root / "images_012" / "images" / "a.png")
    (root / "images").mkdir()
    (root / "images" / "b.png").write_bytes(b"")
    table = read_nih(str(root)).table
    assert table["path"].tolist() == [str(root / "images_012/images/a.png"), str(root / "images/b.png")]


def test_only_image_folders_are_searched(tmp_path: Path) -> None:
    for folder in ("images", "images_002/images", "other/images", "images_003"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{folder.replace('/', '-')}.png").write_bytes(b"")
    assert set(image_files(tmp_path)) == {"images.png", "images_002-images.png"}


def test_images_that_are_absent_have_no_path(nih_folder: Folder) -> None:
    catalog = read_nih(str(nih_folder([row("a.png"), row("b.png", patient="2")], images=["b.png"])))
    assert catalog.table["path"][0] == "" and catalog.table["path"][1].endswith("b.png")
    with pytest.raises(CxrError, match=r"1 of 2 images .* not on disk: a.png"):
        check_images_exist(catalog, "fail")
    assert check_images_exist(catalog, "skip").table["image"].tolist() == ["b.png"]


def test_min_cases_counts_images_that_are_not_on_disk(nih_folder: Folder) -> None:
    rows = [row("a.png", "Hernia"), row("b.png", "Hernia|Mass"), row("c.png", "Hernia")]
    catalog = read_nih(str(nih_folder(rows, images=["b.png"])))
    chosen = check_images_exist(choose_findings(catalog, None, [], 3), "skip")
    assert chosen.findings == ("Hernia",) and len(chosen) == 1


@pytest.mark.parametrize("column", ["Image Index", "Finding Labels", "Patient ID"])
def test_missing_column_is_named_with_the_columns_there_are(nih_folder: Folder, column: str) -> None:
    header = "Image Index,Finding Labels,Patient ID".replace(column, "Something")
    with pytest.raises(CxrError, match=f"lacks the column '{column}'.*Something"):
        read_nih(str(nih_folder([row()], header=header, line="{image},{labels},{patient}")))


def test_table_of_a_header_alone_is_refused(nih_folder: Folder) -> None:
    with pytest.raises(CxrError, match="has no images"):
        read_nih(str(nih_folder([])))


def test_table_of_nothing_is_refused(nih_folder: Folder) -> None:
    root = nih_folder([row()])
    (root / "Data_Entry_2017.csv").write_text("")
    with pytest.raises(CxrError, match=re.escape(str(root / "Data_Entry_2017.csv"))):
        read_nih(str(root))


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", "Image Index\n".encode("utf-16")])
def test_table_that_is_no_text_is_refused(nih_folder: Folder, content: bytes) -> None:
    root = nih_folder([row()])
    (root / "Data_Entry_2017.csv").write_bytes(content)
    with pytest.raises(CxrError, match=re.escape(str(root / "Data_Entry_2017.csv"))):
        read_nih(str(root))


@pytest.mark.parametrize("labels", ["Mass|Cancer", "cancer", "", "Mass|"])
def test_unknown_finding_in_a_label_is_refused(nih_folder: Folder, labels: str) -> None:
    unknown = repr(labels.rpartition("|")[2])
    with pytest.raises(CxrError, match=re.escape(f"names unknown findings: {unknown}")) as caught:
        read_nih(str(nih_folder([row(labels="Mass"), row("b.png", labels)])))
    assert "Pleural_Thickening" in str(caught.value)


@pytest.mark.parametrize("labels", ["No Finding|Mass", "Mass|No Finding"])
def test_no_finding_beside_a_finding_is_refused(nih_folder: Folder, labels: str) -> None:
    with pytest.raises(CxrError, match=re.escape(f"{labels}; it must stand alone")):
        read_nih(str(nih_folder([row(labels=labels)])))


def test_duplicate_rows_are_refused(nih_folder: Folder) -> None:
    rows = [row("a.png"), row("b.png"), row("a.png", "Nodule")]
    with pytest.raises(CxrError, match=r"a.png more than once \(1 duplicate row\)"):
        read_nih(str(nih_folder(rows)))


@pytest.mark.parametrize("broken", [{"patient": ""}, {"image": " "}])
def test_row_without_image_or_patient_is_given_with_its_line(nih_folder: Folder, broken: dict[str, str]) -> None:
    rows = [row("a.png"), row("b.png", patient="2") | broken]
    with pytest.raises(CxrError, match=rf"without {next(iter(broken))} \(line 3\)"):
        read_nih(str(nih_folder(rows, images=[])))


def test_cut_row_is_refused(nih_folder: Folder) -> None:
    root = nih_folder([row("a.png"), row("b.png")])
    path = root / "Data_Entry_2017.csv"
    path.write_text(path.read_text()[: path.read_text().index("b.png") + 5])
    with pytest.raises(CxrError, match=re.escape(str(path))):
        read_nih(str(root))


def test_two_editions_in_one_folder_are_refused(nih_folder: Folder) -> None:
    root = nih_folder()
    (root / "Data_Entry_2017_v2020.csv").write_text("")
    with pytest.raises(CxrError, match=r"2 editions of the table \(Data_Entry_2017.csv, Data_Entry_2017_v2020.csv\)"):
        read_nih(str(root))


def test_folder_without_a_table_is_reported_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=re.escape(f"data.root={tmp_path} has no Data_Entry_2017*.csv; expected")):
        read_nih(str(tmp_path))


def test_root_that_is_unset_is_reported_with_the_layout() -> None:
    with pytest.raises(CxrError, match=r"data.root is not set.*Data_Entry_2017"):
        read_nih(None)


def test_boxes_are_read_with_the_tables_spelling(tmp_path: Path) -> None:
    text = "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Infiltrate,1.5,2,30,40.25,,\n\nb.png,Mass,0,0,1,1\n"
    (tmp_path / "BBox_List_2017.csv").write_text(text)
    assert read_boxes(tmp_path).to_numpy().tolist() == [
        ["a.png", "Infiltration", 1.5, 2, 30, 40.25, 1024, 1024],
        ["b.png", "Mass", 0, 0, 1, 1, 1024, 1024],
    ]


@pytest.mark.parametrize("line", ["a.png,Mass,1,2,3", "a.png,Mass,1,2,3,x", "a.png", "a.png,Mass,1,,3,4"])
def test_broken_box_is_given_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(f"header\na.png,Mass,1,2,3,4\n{line}\n")
    with pytest.raises(CxrError, match="line 3"):
        read_boxes(tmp_path)


def test_folder_without_boxes_has_an_empty_table(tmp_path: Path) -> None:
    boxes = read_boxes(tmp_path)
    assert boxes.empty
    assert list(boxes) == ["image", "finding", "x", "y", "width", "height", "image_width", "image_height"]


def test_a_finding_of_a_box_that_no_table_names_is_given_with_its_line(nih_folder: Folder) -> None:
    root = nih_folder()
    text = "header\n00000001_000.png,Infiltrate,1,2,3,4\n00000001_000.png,Masses,1,2,3,4\n"
    (root / "BBox_List_2017.csv").write_text(text)
    for read in (read_boxes, lambda folder: read_nih(str(folder))):
        with pytest.raises(
            CxrError, match=r"BBox_List_2017\.csv line 3 names an unknown finding 'Masses'; did you mean"
        ):
            read(root)


def test_the_catalog_has_the_boxes_of_its_images(nih_folder: Folder) -> None:
    root = nih_folder()
    text = "header\n00000002_000.png, Infiltrate ,1,2,3,4\nabsent.png,Mass,1,2,3,4\n 00000001_000.png,Mass,5,6,7,8\n"
    (root / "BBox_List_2017.csv").write_text(text)
    assert read_nih(str(root)).boxes.to_numpy().tolist() == [
        ["00000002_000.png", "Infiltration", 1, 2, 3, 4, 1024, 1024],
        ["00000001_000.png", "Mass", 5, 6, 7, 8, 1024, 1024],
    ]
    assert choose_findings(read_nih(str(root)), None, ["Mass"], 0).boxes["image"].tolist() == ["00000002_000.png"]


def count(path: Path) -> tuple[list[list[str]], Counter[str]]:
    """The rows of a published table and the images of every label, by the csv module alone."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return rows, Counter(name for line in rows for name in line[1].split("|"))


def test_real_mini_folder_is_what_the_csv_module_counts(shared: Path) -> None:
    root = shared / "nih_mini"
    catalog = check_images_exist(read_nih(str(root)), "fail")
    rows, counts = count(root / "Data_Entry_2017.csv")
    assert len(catalog) == len(rows) == 2352
    assert {name: int(catalog.table[name].sum()) for name in NIH14} == {name: counts[name] for name in NIH14}
    assert int((catalog.table[list(NIH14)].sum(axis=1) == 0).sum()) == counts["No Finding"]
    for line, (image, labels, followup, patient, age, sex, view, *_) in zip(
        catalog.table.itertuples(), rows, strict=True
    ):
        assert (line.image, line.patient, line.sex, line.view) == (image, patient, sex, view)
        assert line.followup == int(followup) and line.age == int(age)
        assert {name for name in NIH14 if getattr(line, name)} == set(labels.split("|")) - {"No Finding"}
        assert line.path == str(root / "images" / image)


def test_real_boxes_are_those_of_274_test_images(shared: Path) -> None:
    boxes = read_boxes(shared / "nih_mini")
    listed = set((shared / "nih_mini" / "test_list.txt").read_text().split())
    assert boxes["image"].nunique() == 274 and set(boxes["image"]) <= listed
    assert "Infiltrate" not in set(boxes["finding"])
    assert (boxes[["width", "height"]] > 0).all().all() and (boxes[["x", "y"]] >= 0).all().all()
    assert (boxes["x"] + boxes["width"]).max() <= 1024 and (boxes["y"] + boxes["height"]).max() <= 1024


def test_full_table_is_what_the_csv_module_counts(published: Catalog, shared: Path) -> None:
    rows, counts = count(shared / "nih_metadata" / "Data_Entry_2017_v2020.csv")
    assert len(published) == len(rows) == 112_120
    assert published.table["patient"].nunique() == len({line[3] for line in rows}) == 30_805
    ours = {name: int(published.table[name].sum()) for name in NIH14}
    assert ours == {name: counts[name] for name in NIH14} and ours["Hernia"] == 227
    over = sum(int(line[4]) > 100 for line in rows)
    assert int(published.table["age"].isna().sum()) == over
    assert Counter(published.table["sex"]) == Counter(line[5] for line in rows)


def test_228_cases_leave_the_papers_thirteen_findings(published: Catalog) -> None:
    kept = choose_findings(published, None, [], 228).findings
    assert kept == tuple(name for name in NIH14 if name != "Hernia") and len(kept) == 13
    assert choose_findings(published, None, [], 227).findings == NIH14


def test_full_table_without_images_is_not_mistaken_for_data(published: Catalog) -> None:
    with pytest.raises(CxrError, match="none of the 112120 images"):
        check_images_exist(published, "skip")


def numbered(*rows: str) -> str:
    """The table with a blank line and a cell of two lines, so that lines are not rows: the first row is on line 5."""
    return "\n".join(["Image Index,Finding Labels,Patient ID,Notes", "", 'z.png,Mass,99,"two', 'lines"', *rows]) + "\n"


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        (["a.png,Mass,1", "b.png,,1"], "line 6, column 'Finding Labels'"),
        (["a.png,Mass,1", "", "b.png,Cancer|Mass,1", "c.png,Cancer,2"], "line 7, 8, column 'Finding Labels'"),
        (["a.png,No Finding|Mass,1"], "line 5, column 'Finding Labels'"),
        (["a.png,Mass,1", "b.png,Mass,"], r"\(line 6\), column 'Patient ID'"),
        (["a.png,Mass,1", ",Mass,1"], r"\(line 6\), column 'Image Index'"),
        (["a.png,Mass,1", "b.png,Mass,2", "a.png,Mass,1"], "lines 5, 7, column 'Image Index'"),
        (["a.png,Mass,1", "../b.png,Mass,1"], "line 6, column 'Image Index'"),
        (["a.png,Mass,1", "b.png,Mass,a\x07"], "line 6, column 'Patient ID'"),
        (["a.png,Mass,1", 'b.png,"Mass,1'], "line 6 cannot be read as a CSV table"),
    ],
)
def test_wrong_cell_of_the_table_is_given_with_file_line_and_column(
    tmp_path: Path, rows: list[str], place: str
) -> None:
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(numbered(*rows))
    with pytest.raises(CxrError, match=rf"Data_Entry_2017_v2020\.csv.*{place}"):
        read_nih(str(tmp_path))


def test_one_bad_row_among_all_the_published_ones_is_found(shared: Path, tmp_path: Path) -> None:
    text = next((shared / "nih_metadata").glob("Data_Entry_2017*.csv")).read_text(encoding="utf-8-sig").splitlines()
    cells = text[70_000].split(",")
    text[70_000] = ",".join([cells[0], "", *cells[2:]])
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join(text))
    with pytest.raises(CxrError, match=r"unknown findings: '' \(line 70001, column 'Finding Labels'\)"):
        read_nih(str(tmp_path))


def test_table_of_more_rows_than_any_data_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.data.sources.nih.MOST_ROWS", 2)
    (tmp_path / "Data_Entry_2017.csv").write_text(numbered("a.png,Mass,1", "b.png,Mass,1", "c.png,Mass,1"))
    with pytest.raises(CxrError, match="line 5: at most 2 rows are read"):
        read_nih(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "column"),
    [("a.png,Mass,1,2,x,4", "width: 'x'"), ("a.png,Mass,nan,2,3,4", "x: 'nan'"), ("a.png,Mass,1,2,3,0", "height: '0'")],
)
def test_wrong_cell_of_a_box_is_given_with_line_and_column(tmp_path: Path, line: str, column: str) -> None:
    (tmp_path / "BBox_List_2017.csv").write_text(f'header\n"a\n.png",Mass,1,2,3,4\n\n{line}\n')
    with pytest.raises(CxrError, match=rf"BBox_List_2017\.csv line 5, column {column}"):
        read_boxes(tmp_path)
