"""NIH ChestX-ray14 as published: `Data_Entry_2017*.csv` in its editions, images in one folder or in twelve.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017;
https://nihcc.app.box.com/v/ChestXray-NIHCC.
"""

import csv
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.data.catalog import Catalog, check, parse_age, root_folder, some
from cxr.errors import CxrError, first_line
from cxr.findings import NIH14, NO_FINDING, canonical

LAYOUT = "Data_Entry_2017*.csv and images/ or images_001/images/ ..."
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"  # the official lists
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
    raw = _read_rows(entry)
    for column in (_IMAGE, _LABELS, _PATIENT):
        if column not in raw:
            raise CxrError(f"{entry} lacks the column {column!r}; its columns are {', '.join(raw.columns)}")
    if raw.empty:
        raise CxrError(f"{entry} holds no image; expected one row an image")
    table = pd.DataFrame({"image": raw[_IMAGE].str.strip(), "patient": raw[_PATIENT].str.strip()})
    for column, name in _OPTIONAL.items():
        table[name] = raw[column].str.strip() if column in raw else ""
    sex = next((raw[column].str.strip().str.upper() for column in _SEX if column in raw), None)
    table["sex"] = "" if sex is None else sex.where(sex.isin(["F", "M"]), "")
    table["age"] = parse_age(table["age"])
    table["followup"] = _counts(table["followup"])
    paths = image_files(folder)
    table["path"] = table["image"].map(paths).fillna("")
    table = pd.concat([table, _labels(raw[_LABELS], entry)], axis=1)
    return check(Catalog(table, NIH14, str(entry)))


def read_boxes(root: str | Path) -> pd.DataFrame:
    """The boxes of `BBox_List_2017.csv`: columns image, finding, x, y, width, height in pixels of 1024 x 1024.

    An empty table where the file is absent.

    Raises:
        CxrError: a row is not an image, a finding and four numbers, or the file is no text.
    """
    path = Path(root).expanduser() / "BBox_List_2017.csv"
    columns = ["image", "finding", "x", "y", "width", "height"]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if number > 1 and row:
                    rows.append(_box(row, f"{path} line {number}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CxrError(f"{path} cannot be read as a CSV table: {first_line(error)}") from None
    return pd.DataFrame(rows, columns=columns)


def image_files(root: Path) -> dict[str, str]:
    """Every file name in `images/` and `images_*/images/` below `root` with its path."""
    folders = [root / "images", *sorted(root.glob("images_*/images"))]
    return {
        file.name: file.path for folder in folders if folder.is_dir() for file in os.scandir(folder) if file.is_file()
    }


def _box(row: Sequence[str], place: str) -> list[str | float]:
    try:
        x, y, width, height = (float(value) for value in row[2:6])
        if not (all(math.isfinite(value) for value in (x, y)) and 0 < width < math.inf and 0 < height < math.inf):
            raise ValueError
        return [row[0], canonical(row[1]), x, y, width, height]
    except ValueError:
        raise CxrError(f"{place} is not image,finding,x,y,width,height: {','.join(row)!r}") from None


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


def _read_rows(path: Path) -> pd.DataFrame:
    """The table as strings. Its header holds unquoted `[Width,Height]`, so that rows are longer than a plain header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
            names = [name.strip() or f"column {number}" for number, name in enumerate(header, start=1)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pd.errors.ParserWarning)  # fields beyond the header are not read
                rows = pd.read_csv(file, header=None, names=names, index_col=False, dtype=str, keep_default_na=False)
            return rows.fillna("")  # rows that are shorter than the header
    except (OSError, ValueError, csv.Error) as error:  # pandas' own and of Unicode are ValueErrors
        raise CxrError(
            f"{path} cannot be read as a CSV table: {first_line(error)}; is it the published file?"
        ) from None


def _labels(labels: pd.Series, origin: Path) -> pd.DataFrame:
    """One float column a finding from pipe-separated names; `No Finding` is the empty vector."""
    codes, unique = pd.factorize(labels)
    sets = {text: {canonical(name.strip()) for name in text.split("|")} for text in unique}
    unknown = sorted({name for names in sets.values() for name in names} - {*NIH14, NO_FINDING})
    if unknown:
        raise CxrError(
            f"{origin} names unknown findings: {some([repr(n) for n in unknown])}; known are {', '.join(NIH14)}"
        )
    mixed = [text for text, names in sets.items() if NO_FINDING in names and len(names) > 1]
    if mixed:
        raise CxrError(f"{origin} has {NO_FINDING!r} beside a finding: {some(mixed)}; it must stand alone")
    present = np.array([[name in sets[text] for name in NIH14] for text in unique], np.float32)
    return pd.DataFrame(present[codes], columns=list(NIH14), index=labels.index)
