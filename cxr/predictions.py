"""Predictions of one split: what a run leaves behind, and all that ensembles and reports read. A Parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr.errors import CxrError, first_line
from cxr.files import replacing
from cxr.findings import check_names, check_printable

MOST_IMAGES = 10_000_000  # of one split; the largest public sets have half a million
NUMBERS, NAMES = ("age", "followup"), ("sex", "view")  # what may be known of an image besides
_CHECKPOINT, _SPLIT = b"cxr.checkpoint_sha256", b"cxr.split"


@dataclass(frozen=True)
class Predictions:
    """Scores and targets of one split, a row an image.

    Attributes:
        image: (N,) file names.
        patient: (N,) ids.
        findings: L names.
        score: (N, L) float32 probabilities.
        target: (N, L) float32; 1, 0, or NaN for unknown.
        checkpoint_sha256: of the weights that made the scores; empty where nobody knows.
        split: `val` or `test`; empty where nobody knows.
        attributes: N rows with some of the columns age (years), followup (0 is the first), sex and view; unknown is
            NaN or an empty text.
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
    """Reads a file that `Predictions.write` or another program wrote; what it says of pandas is passed over.

    Raises:
        CxrError: no Parquet file, a column is missing or of another kind, an image stands in it twice or has no name,
            a score is no probability, or a target no label.
    """
    table = _read_table(path)
    names = table.column_names
    findings = tuple(name.removeprefix("score:") for name in names if name.startswith("score:"))
    absent = [name for name in ("image", "patient", *(f"target:{f}" for f in findings)) if name not in names]
    if absent or not findings:
        raise CxrError(f"{path} is not a predictions file: it lacks {', '.join(absent or ['score:<finding>'])}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CxrError(f"{path} has the column {twice!r} twice; keep one")
    check_names(findings, "finding", str(path))
    if not table.num_rows:
        raise CxrError(f"{path} scores no image; expected one row an image")
    score = np.stack([_numbers(table, f"score:{finding}", path) for finding in findings], axis=1)
    target = np.stack([_numbers(table, f"target:{finding}", path) for finding in findings], axis=1)
    image, patient = (_texts(table, column, path) for column in ("image", "patient"))
    again = pd.Series(image).duplicated()
    if again.any():
        raise CxrError(f"{path} scores {image[again][0]} twice; keep one row an image")
    if not ((score >= 0) & (score <= 1)).all():
        raise CxrError(f"{path} has scores that are not probabilities in [0, 1]; apply a sigmoid before writing")
    if not (np.isnan(target) | (target == 0) | (target == 1)).all():
        raise CxrError(f"{path} has targets that are not 1, 0 or empty for unknown")
    about = table.schema.metadata or {}
    checkpoint, split = (about.get(key, b"").decode("ascii", "replace") for key in (_CHECKPOINT, _SPLIT))
    return Predictions(image, patient, findings, score, target, checkpoint, split, _attributes(table, path))


def _attributes(table: pa.Table, path: Path) -> pd.DataFrame | None:
    numbers = {name: _numbers(table, name, path) for name in NUMBERS if name in table.column_names}
    names = {name: _texts(table, name, path, empty=True) for name in NAMES if name in table.column_names}
    return pd.DataFrame({**numbers, **names}) if numbers or names else None


def _read_table(path: Path) -> pa.Table:
    try:
        if not path.is_file():  # a folder would be read as a data set of many files
            raise CxrError(f"{path} cannot be read as predictions: it is missing, or no file")
        with pq.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            if rows > MOST_IMAGES:  # a few bytes can claim any number of equal rows
                raise CxrError(f"{path} cannot be read as predictions: it claims {rows} rows, at most {MOST_IMAGES}")
            return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CxrError(f"{path} cannot be read as predictions: {first_line(error)}") from None


def _numbers(table: pa.Table, name: str, path: Path) -> NDArray[np.float32]:
    """A column as (N,) float32, empty cells as NaN."""
    column = table.column(name)
    kind = column.type
    known = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    if not any(holds(kind) for holds in known):
        raise CxrError(f"{path} has in {name!r} no numbers but {kind}; write them as numbers")
    return column.cast(pa.float32(), safe=False).to_numpy().astype(np.float32)


def _texts(table: pa.Table, name: str, path: Path, empty: bool = False) -> NDArray[np.object_]:
    """A column of names, given as text or whole numbers, as (N,) strings; `empty` ones may be allowed."""
    column = table.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    known = [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer]
    known += [pa.types.is_null] * empty
    if not any(holds(kind) for holds in known):
        raise CxrError(f"{path} has in {name!r} no names but {kind}; write them as text")
    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CxrError(f"{path} has in {name!r} what is no text: {first_line(error)}") from None
    if empty:
        values = [value or "" for value in values]
    elif not all(values):
        raise CxrError(f"{path} has rows without {name}; fill or remove them")
    check_printable(values, name, str(path))
    return np.array(values, object)
