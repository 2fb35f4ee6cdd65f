"""NIH ChestX-ray14 as published: `Data_Entry_2017*.csv` in its editions, images in one folder or in twelve.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017;
https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from cxr.data.archives import is_archive, members_of
from cxr.data.boxes import BOX, BOX_COLUMNS
from cxr.data.catalog import Catalog, check, parse_age, root_folder, some
from cxr.errors import CxrError, counted, first_line
from cxr.files.reading import open_regular
from cxr.findings import NIH14, NIH_SIDE, NO_FINDING, canonical, check_known

LAYOUT = "Data_Entry_2017*.csv and images/, images_001/images/ ... or images_001.tar.gz ..."
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"  # the official lists
_BOXES = "BBox_List_2017.csv"
MOST_ROWS = 2_000_000  # of a table; the largest public sets have half a million images
_IMAGE, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
_OPTIONAL = {"Follow-up #": "followup", "Patient Age": "age", "View Position": "view"}
_SEX = ("Patient Gender", "Patient Sex")  # the heading differs between editions


def read_nih(root: str | None) -> Catalog:
    """Reads the published layout below `root` into a catalog of fourteen findings.

    Raises:
        CxrError: the folder, the table, one of its columns, or a label is not what the layout says.
    """
    folder = root_folder(root, LAYOUT)
    entry = _entry_table(folder)
    raw, lines = _read_rows(entry)
    if raw.empty:
        raise CxrError(f"{entry} has no images; expected one row per image")
    table = pd.DataFrame({"image": raw[_IMAGE].str.strip(), "patient": raw[_PATIENT].str.strip()})
    for column, name in _OPTIONAL.items():
        table[name] = raw[column].str.strip() if column in raw else ""
    sex = next((raw[column].str.strip().str.upper() for column in _SEX if column in raw), None)
    table["sex"] = "" if sex is None else sex.where(sex.isin(["F", "M"]), "")
    table["age"] = parse_age(table["age"])
    table["followup"] = _counts(table["followup"])
    paths = image_files(folder)
    if not paths.keys() >= set(table["image"]):
        paths = {**_archived_images(folder), **paths}
    table["path"] = table["image"].map(paths).fillna("")
    table = pd.concat([table, _labels(raw[_LABELS], entry, lines)], axis=1)
    boxes = read_boxes(folder)
    boxes = boxes[boxes["image"].isin(table["image"])].reset_index(drop=True)  # the published list, for a part of it
    catalog = Catalog(table, NIH14, str(entry), boxes=boxes)
    return check(catalog, lines, {"image": _IMAGE, "patient": _PATIENT})


def read_boxes(root: str | Path) -> pd.DataFrame:
    """The boxes of `BBox_List_2017.csv` as `cxr.data.boxes` has them, in pixels of 1024 x 1024.

    An empty table where the file is absent.

    Raises:
        CxrError: a row is not an image, one of the fourteen findings and four numbers, or the file is no text.
    """
    path = Path(root).expanduser() / _BOXES
    rows: list[list[str | float]] = []
    if path.is_file():
        rows = [_box(row, f"{path} line {line}") for line, row in _csv_rows(path) if line > 1 and row]
    return pd.DataFrame(rows, columns=list(BOX_COLUMNS))


def image_files(root: Path) -> dict[str, str]:
    """Every file name in `images/` and `images_*/images/` below `root` with its path."""
    folders = [root / "images", *sorted(root.glob("images_*/images"))]
    return {
        file.name: file.path for folder in folders if folder.is_dir() for file in os.scandir(folder) if file.is_file()
    }


def _archived_images(root: Path) -> dict[str, str]:
    """Every file name in the archives in `root` and its `images/` with its path through the archive."""
    archives = sorted(path for path in (*root.glob("*"), *root.glob("images/*")) if is_archive(path.name))
    listed = members_of([path for path in archives if path.is_file()])
    return {PurePath(name).name: f"{archive}/{name}" for archive, names in listed.items() for name in names}


def _box(row: Sequence[str], place: str) -> list[str | float]:
    if len(row) < 6:
        raise CxrError(f"{place} is not image,finding,x,y,width,height: {','.join(row)!r}")
    numbers: list[float] = []
    for name, text in zip(BOX, row[2:6], strict=True):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (name in ("width", "height") and number <= 0):
            raise CxrError(
                f"{place}, column {name}: {text!r} is no {'length' if name in ('width', 'height') else 'number'} in "
                "pixels; a row is image,finding,x,y,width,height"
            )
        numbers.append(number)
    finding = canonical(row[1].strip())
    check_known([finding], NIH14, place)
    return [row[0].strip(), finding, *numbers, NIH_SIDE, NIH_SIDE]


def _counts(text: pd.Series) -> pd.Series:
    """Whole numbers from text; what is none, or beyond any count, is 0."""
    numbers = pd.to_numeric(text, errors="coerce")
    return numbers.where(numbers.abs() < 2**31, 0).astype(int)


def _entry_table(folder: Path) -> Path:
    found = sorted(path for path in folder.glob("Data_Entry_2017*.csv") if path.is_file())
    if not found:
        raise CxrError(f"data.root={folder} has no Data_Entry_2017*.csv; expected {LAYOUT} (see docs/data.md)")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CxrError(f"data.root={folder} has {len(found)} editions of the table ({names}); keep the one to be used")
    return found[0]


def _read_rows(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """The columns that are read, as strings, and the line of each row.

    The header holds unquoted `[Width,Height]`, so that rows are longer than a plain header; other rows may be shorter.
    """
    rows = _csv_rows(path)
    _, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    wanted = [name for name in (_IMAGE, _LABELS, _PATIENT, *_OPTIONAL, *_SEX) if name in names]
    for column in (_IMAGE, _LABELS, _PATIENT):
        if column not in wanted:
            raise CxrError(f"{path} lacks the column {column!r}; its columns are {', '.join(names)}")
    twice = next((name for name in wanted if names.count(name) > 1), None)
    if twice is not None:
        raise CxrError(f"{path} line 1 has the column {twice!r} twice; keep one")
    places: list[tuple[int, list[str]]] = [(names.index(name), []) for name in wanted]
    needed = max(names.index(name) for name in (_IMAGE, _LABELS, _PATIENT))
    lines: list[int] = []
    for line, row in rows:
        if "".join(row).strip() or len(row) > 1:  # not a blank line
            if len(row) <= needed:
                raise CxrError(
                    f"{path} line {line} has {counted(len(row), 'cell')} and ends before the column {names[needed]!r}; "
                    "restore the line"
                )
            lines.append(line)
            for place, values in places:
                values.append(row[place] if place < len(row) else "")
    return pd.DataFrame({name: pd.Series(v, dtype=str) for name, (_, v) in zip(wanted, places, strict=True)}), lines


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, blank ones too, each with the line that it begins on.

    Raises:
        CxrError: it cannot be read, or is no text or no CSV.
    """
    last = 0
    try:
        with open_regular(path) as content, TextIOWrapper(content, "utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for number, row in enumerate(reader):
                if number > MOST_ROWS:
                    raise CxrError(f"{path} line {last + 1}: at most {MOST_ROWS} rows are read; remove the rest")
                yield last + 1, row
                last = reader.line_num
    except (OSError, ValueError, csv.Error) as error:  # of Unicode are ValueErrors
        line = _first_line_that_is_no_text(path) if isinstance(error, UnicodeDecodeError) else last + 1
        raise CxrError(
            f"{path} line {line} cannot be read as a CSV table: {first_line(error)}; is it the published file?"
        ) from None


def _first_line_that_is_no_text(path: Path) -> int:
    """Text is decoded in blocks, so that the line is not known where decoding fails."""
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError:
                return number
    return 1


def _labels(labels: pd.Series, origin: Path, lines: Sequence[int]) -> pd.DataFrame:
    """One float column a finding from pipe-separated names; `No Finding` is the empty vector."""
    codes, unique = pd.factorize(labels)
    sets = {text: {canonical(name.strip()) for name in text.split("|")} for text in unique}

    def place(wrong: Sequence[str]) -> str:
        rows = np.flatnonzero(labels.isin(list(wrong)))
        return f"(line {some([str(lines[int(row)]) for row in rows])}, column {_LABELS!r})"

    strange = [text for text, names in sets.items() if names - {*NIH14, NO_FINDING}]
    if strange:
        unknown = sorted(set().union(*(sets[text] for text in strange)) - {*NIH14, NO_FINDING})
        raise CxrError(
            f"{origin} names unknown findings: {some([repr(n) for n in unknown])} {place(strange)}; known are "
            f"{', '.join(NIH14)}, and {NO_FINDING} for none of them"
        )
    mixed = [text for text, names in sets.items() if NO_FINDING in names and len(names) > 1]
    if mixed:
        raise CxrError(
            f"{origin} has {NO_FINDING!r} beside a finding: {some(mixed)}; it must stand alone {place(mixed)}"
        )
    present = np.array([[name in sets[text] for name in NIH14] for text in unique], np.float32)
    return pd.DataFrame(present[codes], columns=list(NIH14), index=labels.index)
