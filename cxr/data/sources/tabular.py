"""Tables as people keep them, every cell as text: CSV in its dialects, TSV, Parquet and Excel."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from cxr.errors import CxrError, counted, first_line
from cxr.files.reading import open_regular

MOST_ROWS = 2_000_000  # the largest public sets have half a million images
MOST_BYTES = 1 << 30
MOST_EXCEL_BYTES = 1 << 26  # an .xlsx file is compressed
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Sheet:
    """A table whose cells are text.

    Attributes:
        path: the file.
        columns: string columns by heading, without missing cells.
        rows: (N,) int64, the row of each in the file, counted as a spreadsheet does: the headings are row 1.
        form: how the file was read, for people.
    """

    path: Path
    columns: pa.Table
    rows: NDArray[np.int64]
    form: str

    @property
    def headings(self) -> list[str]:
        """All headings, in the order of the file."""
        return list(self.columns.column_names)

    def text(self, heading: str) -> pd.Series:
        """A column (N,) as text without surrounding space, of Python's strings, which are read fastest."""
        return pd.Series(self.trimmed(heading).to_numpy(), dtype=object)

    def trimmed(self, heading: str) -> pa.ChunkedArray:
        """A column (N,) as Arrow's text without surrounding space."""
        return pc.utf8_trim_whitespace(self.columns[heading])


def read_sheet(path: Path) -> Sheet:
    """Reads a table; the suffix of its name decides how: `.parquet`, `.xlsx`, and all else as delimited text.

    Raises:
        CxrError: the file is missing, damaged or too long, a heading occurs twice, a row has too few or too many
            cells, or there is no row; or `openpyxl` is needed and not installed.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    reader = {".parquet": _parquet, ".pq": _parquet, ".xlsx": _excel, ".xlsm": _excel}.get(suffix, _delimited)
    if suffix in (".xls", ".ods", ".zip") or (reader is not _delimited and path.suffix.lower() == ".gz"):
        raise CxrError(f"{path} is not read as a {suffix} file; save it as .csv, .tsv, .xlsx or .parquet")
    try:
        table, rows, form = reader(path)
    except FileNotFoundError:
        raise CxrError(f"data.file={path} does not exist; give a .csv, .tsv, .xlsx or .parquet file") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise CxrError(f"{path} cannot be read as a table: {first_line(error)}") from None
    if len(table) > MOST_ROWS:
        raise CxrError(f"{path} has {len(table):,} rows; at most {MOST_ROWS:,} are read")
    names = [" ".join(name.split()) or f"(column {number})" for number, name in enumerate(table.column_names, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CxrError(f"{path} has the heading {twice!r} twice; rename one of the columns")
    table = table.rename_columns(names)
    empty = np.ones(len(table), bool)  # such as the rows that a spreadsheet keeps below its last one
    for column in table.columns:
        empty &= pc.equal(column, "").to_numpy()
        if not empty.any():
            break
    table, rows = (table.filter(pa.array(~empty)), rows[~empty]) if empty.any() else (table, rows)
    if not len(table):
        raise CxrError(f"{path} has no row below its headings; expected one row per image")
    return Sheet(path, table, rows, f"{counted(len(table), 'row')}, {form}")


def _delimited(path: Path) -> tuple[pa.Table, NDArray[np.int64], str]:
    """Text with the separator that splits the first line into most cells, in UTF-8, UTF-16 or Windows-1252."""
    with open_regular(path, MOST_BYTES) as file:
        content = file.read()
    if content.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
            content = unpacked.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise CxrError(f"{path} unpacks to more than {MOST_BYTES:,} bytes; is it the right file?")
    text_form = "UTF-8"
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        if marked == "utf-16":
            content, text_form = content.decode("utf-16").encode(), "UTF-16"
        else:
            content = content.removeprefix(b"\xef\xbb\xbf")
            if not content.isascii():
                content.decode("utf-8")
    except UnicodeDecodeError:
        content, text_form = content.decode("cp1252", errors="replace").encode(), "Windows-1252 (Latin-1)"
    head = content[: 1 << 20].decode("utf-8", errors="replace")
    if "\x00" in head:
        raise CxrError(f"{path} is not a text file; give a .csv, .tsv, .xlsx or .parquet file")
    first = {sign: next(csv.reader(io.StringIO(head, newline=""), delimiter=sign), []) for sign in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda sign: len(first[sign]))
    table, ragged = _parse(content, separator, first[separator], use_threads=True)
    if ragged:  # only one thread knows the numbers of rows
        table, ragged = _parse(content, separator, first[separator], use_threads=False)
    blank = [row for row in ragged if not row.text.strip(separator + " \r\n")]
    wrong = next((row for row in ragged if row not in blank), None)
    if wrong is not None:
        raise CxrError(
            f"{path} row {wrong.number} has {counted(wrong.actual_columns, 'cell')}, its headings are "
            f"{wrong.expected_columns}; quote cells that contain the separator {separator!r}, or restore the row"
        )
    rows = np.delete(np.arange(len(table) + len(blank)), [row.number - 2 for row in blank]) + 2
    return table, rows, f"separated by {_SEPARATORS[separator]}, {text_form}"


def _parse(
    content: bytes, separator: str, names: list[str], use_threads: bool
) -> tuple[pa.Table, list[pa.csv.InvalidRow]]:
    """The table of a text, and its rows with another number of cells than the headings, which it lacks."""
    ragged: list[pa.csv.InvalidRow] = []

    def leave_out(row: pa.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    table = pa.csv.read_csv(
        pa.BufferReader(content),
        pa.csv.ReadOptions(use_threads=use_threads),
        pa.csv.ParseOptions(
            delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=leave_out
        ),
        pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    return table, ragged


def _parquet(path: Path) -> tuple[pa.Table, NDArray[np.int64], str]:
    with open_regular(path, MOST_BYTES) as file:
        table = pa.parquet.read_table(pa.PythonFile(file, mode="r"))
    return _as_text(table), np.arange(2, len(table) + 2), "Parquet"


def _as_text(table: pa.Table) -> pa.Table:
    """All columns as text; those that have no text form, such as lists, are left out."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            columns[name] = pc.fill_null(column.cast(pa.string()), "")
        except pa.ArrowException:
            continue
    return pa.table(columns)


def _excel(path: Path) -> tuple[pa.Table, NDArray[np.int64], str]:
    """The first sheet of a workbook; a date is written as `2026-01-31`, a whole number without a decimal point."""
    read: Callable[..., pd.DataFrame] = pd.read_excel
    with open_regular(path, MOST_EXCEL_BYTES) as file:
        try:
            cells = read(file, header=None, dtype=object, engine="openpyxl", keep_default_na=False)
        except ImportError:
            raise CxrError(
                f"{path}: Excel files need the extra `excel`; make setup EXTRAS=excel, or save it as .csv"
            ) from None
        except Exception as error:  # of zipfile, XML and openpyxl, many kinds
            raise CxrError(f"{path} cannot be read as an Excel workbook: {first_line(error)}") from None
    if cells.empty:
        raise CxrError(f"{path} has no row below its headings; expected one row per image")
    texts = [[_cell(value) for value in cells[column]] for column in cells]
    columns = [pa.array(column[1:], pa.string()) for column in texts]
    table = pa.Table.from_arrays(columns, [column[0] for column in texts])
    return table, np.arange(2, len(table) + 2), "the first sheet of an Excel workbook"


def _cell(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).removesuffix(" 00:00:00")
