"""Names out of files neither lead out of their folder nor break a table."""

import csv
import posixpath
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.data.catalog import Catalog, check
from cxr.errors import CxrError
from cxr.figures.tables import auroc_table, method_table
from cxr.run.predictions import read_predictions

UNPRINTABLE = ["a\nb", "a\rb", "a\tb", "a\x00b", "\x1b[2Ja", "a\u2028b", "a\u202eb"]
ASTRAY = ["../../x", "/etc/passwd", "a\\b", ".", "..", "=cmd|' /C calc'!A0", "+1+2", "-1", "@SUM(A1)"]
PATHS = ["/a.png", "a/", "a//b.png", "../a.png", "a/../b.png", "a/..", "./a.png", "a/./b.png", "a/ /b.png", "a/...",
         "a\\b/c.png", "-a/b.png", "=a/b.png"]  # fmt: skip
FINE = ["Mass", "Pleural_Thickening", "a.b", "é", "a b", "a=b", "a-b", "00000001_000.png", "胸水", "<i>"]


def table(image: str = "a.png", patient: str = "1", finding: str = "Mass") -> Catalog:
    values = {"image": [image], "path": [""], "patient": [patient], "followup": [0], "age": [50.0], "sex": [""]}
    return Catalog(pd.DataFrame({**values, "view": [""], finding: [1.0]}), (finding,), "my table")


@pytest.mark.parametrize("name", [*UNPRINTABLE, *ASTRAY])
@pytest.mark.parametrize("what", ["image", "finding"])
def test_catalog_refuses_names_that_no_path_or_table_bears(what: str, name: str) -> None:
    with pytest.raises(CxrError, match=f"^my table has the {what} {re.escape(repr(name))}"):
        check(table(**{what: name}))


@pytest.mark.parametrize("name", PATHS)
def test_catalog_refuses_images_that_could_lie_elsewhere_or_be_spelt_in_two_ways(name: str) -> None:
    with pytest.raises(CxrError, match=f"^my table has the image {re.escape(repr(name))} .*path below the root"):
        check(table(image=name))


@pytest.mark.parametrize("name", ["patient1/study1/view1.jpg", "a/b", "a/-b/=c", "é/b c.png", "a/.b/..c"])
def test_an_image_may_lie_in_folders_and_a_finding_may_not(name: str) -> None:
    assert check(table(image=name)).table["image"].tolist() == [name]
    with pytest.raises(CxrError, match=f"^my table has the finding {re.escape(repr(name))}.* without /"):
        check(table(finding=name))


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["a", "b.png", "..", ".", "", " ", "-", "c\\d"]), min_size=1, max_size=4).map("/".join))
def test_whatever_image_is_taken_lies_below_the_root_in_its_one_spelling(name: str) -> None:
    try:
        check(table(image=name))
    except CxrError:
        return
    assert posixpath.normpath(name) == name and not posixpath.isabs(name)
    assert posixpath.commonpath(["/root", posixpath.normpath(posixpath.join("/root", name))]) == "/root"
    assert name.split("/")[0] != ".."


@pytest.mark.parametrize("name", UNPRINTABLE)
def test_catalog_refuses_patients_that_would_break_a_line(name: str) -> None:
    with pytest.raises(CxrError, match=f"^my table has the patient {re.escape(repr(name))}"):
        check(table(patient=name))


@pytest.mark.parametrize("name", [*FINE, *ASTRAY])
def test_any_printable_patient_is_one(name: str) -> None:
    assert check(table(patient=name)).table["patient"].tolist() == [name]


@pytest.mark.parametrize("name", FINE)
def test_names_of_other_languages_and_signs_are_kept(name: str) -> None:
    assert check(table(image=name, finding=f"{name}!")).findings == (f"{name}!",)


@pytest.mark.parametrize("finding", ["=1+1", "../x", "a\nb"])
def test_predictions_refuse_findings_that_tables_would_not_bear(tmp_path: Path, finding: str) -> None:
    columns = {"image": ["a"], "patient": ["1"], f"score:{finding}": [0.5], f"target:{finding}": [1.0]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(CxrError, match=re.escape(repr(finding))):
        read_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize("column", ["image", "patient"])
@pytest.mark.parametrize("name", [None, "", "a\nb", "\x1b[2J"])
def test_predictions_refuse_rows_without_a_name(tmp_path: Path, column: str, name: str | None) -> None:
    columns = {"image": ["a"], "patient": ["1"], "score:M": [0.5], "target:M": [1.0]} | {column: [name]}
    texts = {key: pa.array(columns[key], pa.string()) for key in ("image", "patient")}
    pq.write_table(pa.table(columns | texts), tmp_path / "p.parquet")
    with pytest.raises(CxrError, match=column):
        read_predictions(tmp_path / "p.parquet")


texts = st.text(max_size=12)
ugly = st.one_of(
    texts, st.sampled_from(["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a|b", "a\nb", "[a](b)", "`"])
)


@settings(max_examples=40)
@given(st.lists(ugly, min_size=1, max_size=3, unique=True), st.lists(ugly, min_size=1, max_size=3, unique=True))
def test_tables_hold_their_shape_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, models: list[str], findings: list[str]
) -> None:
    areas = {name: np.full(len(findings), 0.5) for name in models}
    made = method_table(auroc_table(areas, findings), "title")
    lines = made.as_markdown().splitlines()[2:]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in lines if line]
    assert {len(row) for row in cells} == {len(models) + 1} and len(cells) == len(findings) + 3
    assert not re.search(r"<[a-z/!?]", made.as_markdown(), re.IGNORECASE)
    shown = made.as_text().split("\n")
    assert len(shown) == len(findings) + 3 and all(line.isprintable() for line in shown)
    stem = tmp_path_factory.mktemp("t") / "table"
    made.write(stem)
    with stem.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    assert {len(row) for row in read} == {len(models) + 1} and len(read) == len(findings) + 2
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in read for cell in row)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("Cost $5 {x$", "Cost &#36;5 {x&#36;"), ("_a_ b_c _", r"\_a\_ b_c \_"), ("~~a~~", r"\~\~a\~\~"),
        ("**a**", r"\*\*a\*\*"), ("&#36;", "&amp;#36;"), ("__a__", r"\_\_a\_\_"), ("é_é", "é_é"),
    ],
)  # fmt: skip
def test_no_name_is_taken_for_markup_or_a_formula_of_markdown(name: str, cell: str) -> None:
    assert (
        f"| {cell} | **0.5000** |"
        in method_table(auroc_table({"model": np.array([0.5])}, [name]), "AUROC").as_markdown()
    )


def test_usual_names_stand_in_tables_as_they_are(tmp_path: Path) -> None:
    made = auroc_table({"paper_vgg": np.array([0.75])}, ["Pleural_Thickening"])
    method_table(made, "AUROC").write(tmp_path / "table")
    assert (tmp_path / "table.csv").read_text().splitlines()[:2] == ["finding,paper_vgg", "Pleural_Thickening,0.75"]
    assert "| Pleural_Thickening | **0.7500** |" in (tmp_path / "table.md").read_text()
