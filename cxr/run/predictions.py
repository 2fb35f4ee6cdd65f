"""Predictions of one split, a Parquet file that a run writes and that ensembles and evaluation read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr.errors import CxrError, first_line
from cxr.files.reading import open_regular
from cxr.files.writing import replacing
from cxr.findings import check_names, check_printable

MOST_IMAGES = 2_000_000  # of one split; the largest public sets have half a million
MOST_NUMBERS = 50_000_000  # scores and targets of a file: 500,000 images of 50 findings
MOST_TEXT = 1 << 28  # bytes of a column of names
NUMBERS, NAMES = ("age", "followup"), ("sex", "view", "source")  # optional attributes
_TEXTS = ("image", "patient", *NAMES)
_CHECKPOINT, _SPLIT = b"cxr.checkpoint_sha256", b"cxr.split"


@dataclass(frozen=True)
class Predictions:
    """Scores and targets of one split, one row per image.

    Attributes:
        image: (N,) file names.
        patient: (N,) ids.
        findings: L names.
        score: (N, L) float32 probabilities.
        target: (N, L) float32; 1, 0, or NaN for unknown.
        checkpoint_sha256: of the weights that computed the scores; empty if unknown.
        split: `val` or `test`; empty if unknown.
        attributes: N rows with some of the columns age (years), followup (0 is the first), sex and view; unknown
            values are NaN or empty text; of merged sets also source, the name of the set.
    """

    image: NDArray[np.object_]
    patient: NDArray[np.object_]
    findings: tuple[str, ...]
    score: NDArray[np.float32]
    target: NDArray[np.float32]
    checkpoint_sha256: str = ""
    split: str = ""
    attributes: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.image)

    def write(self, path: Path) -> None:
        """Writes columns `image`, `patient`, the attributes, and `score:` and `target:<finding>` for each finding."""
        columns: dict[str, object] = {
            "image": pa.array(self.image, pa.string()),
            "patient": pa.array(self.patient, pa.string()),
        }
        if self.attributes is not None:
            for name in self.attributes:
                kind = pa.float32() if name in NUMBERS else pa.string()
                columns[str(name)] = pa.array(self.attributes[name].tolist(), kind)
        for position, finding in enumerate(self.findings):
            columns[f"score:{finding}"] = np.ascontiguousarray(self.score[:, position])
            columns[f"target:{finding}"] = np.ascontiguousarray(self.target[:, position])
        table = pa.table(columns).replace_schema_metadata(
            {_CHECKPOINT: self.checkpoint_sha256.encode(), _SPLIT: self.split.encode()}
        )
        with replacing(path) as temporary:
            pq.write_table(table, temporary)

    def ordered(self, images: Sequence[str]) -> "Predictions":
        """The same rows in the order of `images`, which must be the same set."""
        where = pd.Series(np.arange(len(self)), index=self.image).loc[list(images)].to_numpy()
        attributes = None if self.attributes is None else self.attributes.iloc[where].reset_index(drop=True)
        return replace(
            self, image=self.image[where], patient=self.patient[where], score=self.score[where],
            target=self.target[where], attributes=attributes,
        )  # fmt: skip


def read_predictions(path: Path) -> Predictions:
    """Reads a file that `Predictions.write` or another program wrote; pandas metadata is ignored.

    Reads one column at a time and only the needed ones, because a few bytes of Parquet can declare any number of equal
    rows.

    Raises:
        CxrError: it is not a Parquet file; it has more than `MOST_IMAGES` rows or `MOST_NUMBERS` scores and targets; a
            column is missing or has another type; an image has two rows or no name; a score is not a probability or a
            target not a label. The message names row (from 1), image and column.
    """
    try:
        with open_regular(path, None) as source, pq.ParquetFile(source) as file:
            text = [name for name in _TEXTS if name in file.schema_arrow.names and not _is_nested(file, name)]
            with pq.ParquetFile(source, metadata=file.metadata, read_dictionary=text) as read:
                return _read(_Columns(path, read))
    except FileNotFoundError:
        raise CxrError(f"{path} cannot be read as predictions: it is missing") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise CxrError(f"{path} cannot be read as predictions: {first_line(error)}") from None


def _is_nested(file: pq.ParquetFile, name: str) -> bool:
    return bool(pa.types.is_nested(file.schema_arrow.field(name).type))


def _read(columns: "_Columns") -> Predictions:
    path, names, rows = columns.path, columns.names, columns.rows
    findings = tuple(name.removeprefix("score:") for name in names if name.startswith("score:"))
    absent = [name for name in ("image", "patient", *(f"target:{f}" for f in findings)) if name not in names]
    if absent or not findings:
        raise CxrError(f"{path} is not a predictions file: it lacks {', '.join(absent or ['score:<finding>'])}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CxrError(f"{path} has the column {twice!r} twice; keep one")
    check_names(findings, "finding", str(path))
    if not rows:
        raise CxrError(f"{path} has no rows; expected one row per image")
    if rows > MOST_IMAGES or 2 * rows * len(findings) > MOST_NUMBERS:
        raise CxrError(
            f"{path} cannot be read as predictions: it has {rows} rows of {len(findings)} findings, at most "
            f"{MOST_IMAGES} rows and {MOST_NUMBERS} scores and targets are read; split it by images or findings"
        )
    image, patient = columns.texts("image"), columns.texts("patient")
    again = pd.Series(image).duplicated().to_numpy()
    if again.any():
        raise CxrError(f"{path} row {again.argmax() + 1} repeats the image {image[again][0]}; keep one row per image")
    score, target = np.empty((2, rows, len(findings)), np.float32)
    for position, finding in enumerate(findings):
        for into, name in ((score, f"score:{finding}"), (target, f"target:{finding}")):
            into[:, position] = columns.numbers(name)
        values = score[:, position]
        columns.expect(
            (values >= 0) & (values <= 1), values, f"score:{finding}", image,
            "scores that are not probabilities in [0, 1]; apply a sigmoid before writing",
        )  # fmt: skip
        values = target[:, position]
        columns.expect(
            np.isnan(values) | (values == 0) | (values == 1), values, f"target:{finding}", image,
            "targets that are not 1, 0 or empty for unknown",
        )  # fmt: skip
    checkpoint, split = (columns.about.get(key, b"").decode("ascii", "replace") for key in (_CHECKPOINT, _SPLIT))
    known: dict[str, NDArray[Any]] = {name: columns.numbers(name) for name in NUMBERS if name in names}
    known |= {name: columns.texts(name, empty=True) for name in NAMES if name in names}
    attributes = pd.DataFrame(known) if known else None
    return Predictions(image, patient, findings, score, target, checkpoint, split, attributes)


class _Columns:
    """The columns of a Parquet file, each read and checked on demand."""

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self.path, self._file, about = path, file, file.metadata
        self.names: list[str] = file.schema_arrow.names
        self.rows = max(about.num_rows, sum(about.row_group(k).num_rows for k in range(about.num_row_groups)))
        self.about: dict[bytes, bytes] = file.schema_arrow.metadata or {}

    def numbers(self, name: str) -> NDArray[np.float32]:
        """A column as (N,) float32, empty cells as NaN."""
        kind = self._kind(name)
        known = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
        if not any(matches(kind) for matches in known):
            raise CxrError(f"{self.path} column {name!r} has {kind} instead of numbers; write numbers")
        return self._column(name).cast(pa.float32(), safe=False).to_numpy().astype(np.float32)

    def texts(self, name: str, empty: bool = False) -> NDArray[np.object_]:
        """A column of text or whole numbers as (N,) strings; `empty` allows empty ones."""
        kind = self._kind(name)
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        known = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer]
        known += [pa.types.is_null] * empty
        if not any(matches(kind) for matches in known):
            raise CxrError(f"{self.path} column {name!r} has {kind} instead of text; write text")
        column = self._column(name)
        if _bytes_of(column) > MOST_TEXT:
            raise CxrError(f"{self.path} column {name!r} has more than {MOST_TEXT} bytes of text; write shorter names")
        try:
            values = column.cast(pa.string()).to_pylist()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise CxrError(f"{self.path} column {name!r} is not valid text: {first_line(error)}") from None
        if empty:
            values = [value or "" for value in values]
        elif not all(values):
            row = next(row for row, value in enumerate(values, start=1) if not value)
            raise CxrError(f"{self.path} has rows without {name}, such as row {row}; fill or remove them")
        check_printable(values, name, str(self.path), lambda position: f" (row {position + 1})")
        return np.array(values, object)

    def expect(
        self, valid: NDArray[np.bool_], values: NDArray[np.float32], name: str, image: NDArray[np.object_], what: str
    ) -> None:
        """Raises CxrError with the first invalid row, if there is one."""
        if not valid.all():
            row = int(valid.argmin())
            place = f"row {row + 1} ({image[row]}), column {name!r}: {values[row]}"
            raise CxrError(f"{self.path} has {what} ({place})")

    def _kind(self, name: str) -> pa.DataType:
        return self._file.schema_arrow.field(name).type

    def _column(self, name: str) -> pa.ChunkedArray:
        column = self._file.read(columns=[name], use_threads=False).column(name)
        if len(column) != self.rows:
            raise CxrError(f"{self.path} cannot be read as predictions: {name!r} does not have {self.rows} rows")
        return column


def _bytes_of(column: pa.ChunkedArray) -> int:
    """The size of a column's text with each row written out, since dictionary-encoded rows share their texts."""
    if not pa.types.is_dictionary(column.type):
        return 0  # whole numbers or nulls
    lengths = [pc.take(pc.binary_length(c.dictionary), c.indices) for c in column.chunks if len(c.dictionary)]
    return sum(pc.sum(pc.cast(length, pa.int64())).as_py() or 0 for length in lengths)
