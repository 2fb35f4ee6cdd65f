"""What the cells of a table mean: labels, splits, sex, view, and the order of a patient's studies."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxr.data.catalog import some
from cxr.errors import CxrError

_T = TypeVar("_T")

UNCERTAIN = -1.0
LABELS: Mapping[str, float] = {
    **dict.fromkeys(("1", "yes", "y", "true", "t", "positive", "pos", "present"), 1.0),
    **dict.fromkeys(("0", "no", "n", "false", "f", "negative", "neg", "absent"), 0.0),
    **dict.fromkeys(("-1", "uncertain"), UNCERTAIN),
    **dict.fromkeys(("", "nan", "na", "n/a", "#n/a", "null", "none", "unknown"), math.nan),
}
SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "": "",
}
SEXES: Mapping[str, str] = {
    **dict.fromkeys(("f", "female", "woman", "w"), "F"),
    **dict.fromkeys(("m", "male", "man"), "M"),
    **dict.fromkeys(("", "u", "unknown", "o", "other", "nan", "na", "n/a"), ""),
}
VIEWS: Mapping[str, str] = {
    **dict.fromkeys(("posteroanterior", "posterior-anterior", "p.a."), "PA"),
    **dict.fromkeys(("anteroposterior", "anterior-posterior", "a.p."), "AP"),
    **dict.fromkeys(("nan", "unknown"), ""),
}
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?")
_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y")
_MOST_FOLLOWUPS = 1000
_CLOCK = r"[ T]\d{1,2}:\d{2}.*$"


def label_of(cell: str) -> float | None:
    """The label that a cell gives: 1, 0, `UNCERTAIN`, NaN for a blank, or a number between 0 and 1; else none."""
    word = cell.strip().casefold()
    if word in LABELS:
        return LABELS[word]
    value = number_of(word)
    return value if value is not None and (0 <= value <= 1 or value == UNCERTAIN) else None


def number_of(cell: str) -> float | None:
    """The number in a cell, with a decimal point or a decimal comma."""
    return float(cell.strip().replace(",", ".")) if _NUMBER.fullmatch(cell.strip().casefold()) else None


def each(cells: pd.Series | pa.ChunkedArray, read: Callable[[str], _T]) -> tuple[NDArray[np.intp], list[str], list[_T]]:
    """Reads every different cell once: position of each cell (N,), the different cells, and what they were read as."""
    if isinstance(cells, pa.ChunkedArray):  # of few different cells: Arrow is 3 times as fast
        encoded = pc.dictionary_encode(cells).combine_chunks()
        codes, texts = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    else:
        codes, distinct = pd.factorize(cells)
        texts = [str(text) for text in distinct]
    return codes, texts, [read(text) for text in texts]


def mapped(cells: pd.Series, read: Callable[[str], object]) -> pd.Series:
    """What `read` makes of each cell (N,); it is called once for each different cell."""
    codes, _, values = each(cells, read)
    return pd.Series(np.array(values, object)[codes], dtype=object)


def splits(cells: pd.Series, heading: str, origin: str, rows: NDArray[np.int64]) -> pd.Series:
    """`train`, `val`, `test` or empty for each cell (N,).

    Raises:
        CxrError: a cell is no word for a split; row, column and value are named.
    """
    codes, texts, read = each(cells, lambda cell: SPLITS.get(cell.casefold()))
    _refuse(codes, texts, read, heading, origin, rows, "a split is train, training, val, valid, validate, validation, "
            "dev, test, testing or blank")  # fmt: skip
    return pd.Series(np.array(read, object)[codes], dtype=object)


def labels(
    cells: pd.Series | pa.ChunkedArray, heading: str, origin: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Labels (N,) with `UNCERTAIN`, and soft targets (N,), NaN where there is none; a soft cell has no label.

    Raises:
        CxrError: a cell is no label; row, column and value are named.
    """
    codes, texts, read = each(cells, label_of)
    _refuse(
        codes, texts, read, heading, origin, rows,
        "a label is 1, 0, -1 (uncertain), yes, no, true, false, a number from 0 to 1 or blank; correct it, or list the "
        "columns of findings in data.roles=FILE",
    )  # fmt: skip
    values = np.array(read, np.float32)
    between = (values > 0) & (values < 1)
    nothing = np.float32(np.nan)
    return np.where(between, nothing, values)[codes], np.where(between, values, nothing)[codes]


def _refuse(
    codes: NDArray[np.intp], texts: list[str], read: Sequence[object], heading: str, origin: str,
    rows: NDArray[np.int64], rule: str,
) -> None:  # fmt: skip
    wrong = [position for position, value in enumerate(read) if value is None]
    if wrong:
        at = np.flatnonzero(np.isin(codes, wrong))
        values = some([repr(texts[position]) for position in wrong])
        raise CxrError(
            f"{origin} row{'s' * (len(at) > 1)} {some([str(rows[k]) for k in at])}, column {heading!r}: {values} "
            f"{'is' if len(wrong) == 1 else 'are'} not understood; {rule}"
        )


def study_numbers(cells: pd.Series, patients: pd.Series) -> tuple[pd.Series, str]:
    """The number of each image's study among those of its patient (N,), from 0, and what the order goes by.

    Follow-up numbers below 1,000 are taken as they are. Other numbers, such as dates of a spreadsheet, and dates are
    put in order; other names of studies count in the order of the table.
    """
    blank = (cells == "").to_numpy()
    codes, texts, read = each(cells, number_of)
    if all(value is not None for text, value in zip(texts, read, strict=True) if text):
        keys, order = np.array([np.nan if value is None else value for value in read], float)[codes], "number"
        known = keys[~blank]
        if len(known) and (known % 1 == 0).all() and 0 <= known.min() <= 1 and known.max() < _MOST_FOLLOWUPS:
            return pd.Series(np.where(blank, 0, keys - known.min()).astype(np.int64)), "follow-up number"
    else:
        dates, form = _dates(pd.Series(texts, dtype="str"))
        keys = dates[codes] if form else codes.astype(float)
        order = f"date ({form})" if form else "order in the table"
    sortable = pd.Series(np.where(blank, -np.inf, keys))
    numbers = sortable.groupby(pd.factorize(patients)[0]).rank(method="dense") - 1
    return numbers.astype(np.int64), order


def _dates(texts: pd.Series) -> tuple[NDArray[np.float64], str]:
    """Days of dates (N,) and the form in which all of them are written; an empty form where there is none."""
    filled = texts != ""
    days = texts.str.replace(_CLOCK, "", regex=True)
    for form in _DATES:
        found = pd.to_datetime(days.where(filled), format=form, errors="coerce")
        if filled.any() and found[filled].notna().all():
            clock = pd.to_datetime(texts.str.extract(r"(\d{1,2}:\d{2}(?::\d{2})?)")[0], format="mixed", errors="coerce")
            part = (clock - clock.dt.normalize()).dt.total_seconds().fillna(0) / 86400
            return (found - pd.Timestamp(0)).dt.total_seconds().to_numpy(float) / 86400 + part.to_numpy(float), form
    return np.zeros(len(texts)), ""
