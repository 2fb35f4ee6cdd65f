"""Spoilt tables and lists: each gives a right answer or a sentence, never another exception."""

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_boxes, read_nih
from cxr.data.split import read_list, split_catalog, split_fingerprint
from cxr.errors import CxrError
from cxr.findings import NIH14, NO_FINDING
from tests.conftest import HEADER, default_rows
from tests.trust.spoiling import FEW, ODD, bytes_of, fuzz, odd, rows_of

LINE = "{image},{labels},{followup},{patient},{age},{sex},{view},2500,2048,0.168,0.168"
TABLE = [HEADER.split(","), *(LINE.format(**row).split(",") for row in default_rows())]
NAMES = [row["image"] for row in default_rows()]


def as_csv(rows: list[list[str]], quoted: bool = True) -> bytes:
    if not quoted:
        return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


tables = st.one_of(
    bytes_of(as_csv(TABLE)),
    st.builds(as_csv, rows_of(TABLE), st.booleans()),
    st.builds(lambda rows, code: as_csv(rows).decode("utf-8", "replace").encode(code, "replace"), rows_of(TABLE),
              st.sampled_from(["utf-16", "latin-1", "utf-8-sig"])),
)  # fmt: skip


def hold_catalog(catalog: Catalog) -> None:
    """What every catalog that was read is."""
    table = catalog.table
    assert catalog.findings == NIH14 and len(table) > 0
    assert table["image"].is_unique and (table["image"].str.strip() != "").all()
    assert (table["patient"].str.strip() != "").all()
    assert np.isin(table[list(NIH14)].to_numpy(), [0.0, 1.0]).all()
    assert not table["image"].str.contains(r"[\\\n\r\x00-\x1f]|^[=+@/-]|\.\./", regex=True).any()
    assert table["patient"].map(str.isprintable).all()
    age = table["age"].dropna()
    assert ((age >= 0) & (age <= 100)).all() and table["followup"].dtype.kind == "i"
    assert set(table["sex"]) <= {"", "F", "M"}
    assert len(catalog.labels_sha256) == 64


@FEW
def test_spoilt_table_is_read_rightly_or_refused(tmp_path: Path, examples: int) -> None:
    def check(content: bytes) -> None:
        (tmp_path / "Data_Entry_2017.csv").write_bytes(content)
        with contextlib.suppress(CxrError):
            hold_catalog(read_nih(str(tmp_path)))

    fuzz(tables, check, examples)


@FEW
def test_any_cells_in_any_columns_are_read_rightly_or_refused(tmp_path: Path, examples: int) -> None:
    """Labels of rows that are read are those of a plain reading of the same cells."""
    cells = st.tuples(
        st.one_of(st.sampled_from(NAMES), odd),
        st.lists(st.sampled_from([*NIH14, NO_FINDING, "Infiltrate", " Mass ", "Masses", ""]), max_size=3).map("|".join),
        odd, st.one_of(st.sampled_from(["1", "2"]), odd), odd, odd, odd,
    )  # fmt: skip
    header = HEADER.split(",")[:7]

    def check(rows: list[tuple[str, ...]]) -> None:
        (tmp_path / "Data_Entry_2017.csv").write_bytes(as_csv([header, *map(list, rows)]))
        try:
            catalog = read_nih(str(tmp_path))
        except CxrError:
            return
        hold_catalog(catalog)
        assert catalog.table["image"].tolist() == [row[0].strip() for row in rows]
        for row, (_, labels, *_others) in zip(catalog.table[list(NIH14)].to_numpy(), rows, strict=True):
            said = {name.strip().replace("Infiltrate", "Infiltration") for name in labels.split("|")} - {NO_FINDING}
            assert {name for name, value in zip(NIH14, row, strict=True) if value} == said

    fuzz(st.lists(cells, min_size=1, max_size=4), check, examples)


BOXES = [
    ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"],
    *([name, "Mass", "10.5", "20", "100.25", "50"] for name in NAMES[:4]),
]


@FEW
def test_spoilt_boxes_are_read_rightly_or_refused(tmp_path: Path, examples: int) -> None:
    def check(content: bytes) -> None:
        (tmp_path / "BBox_List_2017.csv").write_bytes(content)
        with contextlib.suppress(CxrError):
            boxes = read_boxes(tmp_path)
            numbers = boxes[["x", "y", "width", "height"]].to_numpy(float)
            assert np.isfinite(numbers).all() and (numbers[:, 2:] > 0).all()

    fuzz(st.one_of(bytes_of(as_csv(BOXES)), st.builds(as_csv, rows_of(BOXES), st.booleans())), check, examples)


def catalog() -> Catalog:
    rows = pd.DataFrame(default_rows()).rename(columns={"labels": "path"})
    mass = rows.index % 3 == 0
    return Catalog(rows.assign(Mass=mass.astype(np.float32)), ("Mass",), "table")


@FEW
def test_spoilt_lists_split_without_a_leak_or_are_refused(tmp_path: Path, examples: int) -> None:
    whole = catalog()
    lists = {"train_val_list.txt": NAMES[:18], "test_list.txt": NAMES[18:], "val.txt": NAMES[:6]}
    good = {name: "\n".join(images).encode() for name, images in lists.items()}
    spoilt = st.tuples(
        *(
            st.one_of(
                st.just(text), bytes_of(text),
                st.lists(st.sampled_from([*NAMES, *NAMES, *ODD]), max_size=24).map(
                    lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
                ),
                st.permutations(NAMES).map(lambda names: "\n".join(names[:8]).encode()),
            )
            for text in good.values()
        ),
        st.booleans(),
    )  # fmt: skip

    def check(content: tuple[bytes, bytes, bytes, bool]) -> None:
        for name, text in zip(good, content[:3], strict=True):
            (tmp_path / name).write_bytes(text)
        val, further = ("val.txt", {}) if content[3] else (None, {"other": "val.txt"})
        try:
            result = split_catalog(
                whole, tmp_path, "train_val_list.txt", val, "test_list.txt", 0.2, 0, test_lists=further
            )
        except CxrError:
            return
        table = result.table
        for name in further:
            learnt = table["patient"][table["split"].isin(["train", "val"])]
            assert set(result.rows(name)["image"]) == set(read_list(tmp_path, "val.txt"))
            assert not set(result.rows(name)["patient"]) & set(learnt)
        assert table["image"].tolist() == NAMES
        for name in ("train", "val", "test"):
            assert (table["split"] == name).any()
        assert (table[table["split"] != ""].groupby("patient")["split"].nunique() == 1).all()
        assert set(table["image"][table["split"] == "test"]) == set(read_list(tmp_path, "test_list.txt"))
        assert len(split_fingerprint(Catalog(table, ("Mass",), "table"))) == 64

    fuzz(spoilt, check, examples)


def test_follow_up_beyond_any_number_is_unknown(tmp_path: Path) -> None:
    rows = [["a.png", "Mass", "1e400", "1"], ["b.png", "Mass", "inf", "1"], ["c.png", "Mass", "3", "1"]]
    (tmp_path / "Data_Entry_2017.csv").write_bytes(as_csv([HEADER.split(",")[:4], *rows]))
    assert read_nih(str(tmp_path)).table["followup"].tolist() == [0, 0, 3]


def test_boxes_that_are_no_text_or_not_finite_are_refused(tmp_path: Path) -> None:
    for content in (b"\x80", b"head\na.png,Mass,1,2,nan,4\n", b"head\na.png,Mass,inf,2,3,4\n", b"head\na.png\n"):
        (tmp_path / "BBox_List_2017.csv").write_bytes(content)
        with pytest.raises(CxrError, match=r"BBox_List_2017\.csv"):
            read_boxes(tmp_path)
