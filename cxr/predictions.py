"""Predictions of one split: what a run leaves behind, and all that ensembles and reports read. A Parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr.errors import CxrError, first_line
from cxr.files import replacing

_CHECKPOINT = b"cxr.checkpoint_sha256"


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
    """

    image: NDArray[np.object_]
    patient: NDArray[np.object_]
    findings: tuple[str, ...]
    score: NDArray[np.float32]
    target: NDArray[np.float32]
    checkpoint_sha256: str = ""

    def __len__(self) -> int:
        return len(self.image)

    def write(self, path: Path) -> None:
        """Writes columns `image`, `patient`, and for each finding `score:<finding>` and `target:<finding>`."""
        columns: dict[str, object] = {
            "image": pa.array(self.image, pa.string()),
            "patient": pa.array(self.patient, pa.string()),
        }
        for position, finding in enumerate(self.findings):
            columns[f"score:{finding}"] = np.ascontiguousarray(self.score[:, position])
            columns[f"target:{finding}"] = np.ascontiguousarray(self.target[:, position])
        table = pa.table(columns).replace_schema_metadata({_CHECKPOINT: self.checkpoint_sha256.encode()})
        with replacing(path) as temporary:
            pq.write_table(table, temporary)

    def ordered(self, images: Sequence[str]) -> "Predictions":
        """The same rows in the order of `images`, which must be the same set."""
        where = pd.Series(np.arange(len(self)), index=self.image).loc[list(images)].to_numpy()
        return Predictions(
            self.image[where], self.patient[where], self.findings, self.score[where], self.target[where],
            self.checkpoint_sha256,
        )  # fmt: skip


def read_predictions(path: Path) -> Predictions:
    """Reads a file that `Predictions.write` or another program wrote.

    Raises:
        CxrError: no Parquet file, a column is missing, an image stands in it twice, a score is no
            probability, or a target no label.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise CxrError(f"{path} cannot be read as predictions: {reason}") from None
    names = table.column_names
    findings = tuple(name.removeprefix("score:") for name in names if name.startswith("score:"))
    absent = [name for name in ("image", "patient", *(f"target:{f}" for f in findings)) if name not in names]
    if absent or not findings:
        raise CxrError(f"{path} is not a predictions file: it lacks {', '.join(absent or ['score:<finding>'])}")
    frame = table.to_pandas()
    try:
        score = frame[[f"score:{finding}" for finding in findings]].to_numpy(np.float32)
        target = frame[[f"target:{finding}" for finding in findings]].to_numpy(np.float32)
    except (TypeError, ValueError) as error:
        raise CxrError(f"{path} has scores or targets that are not numbers: {first_line(error)}") from None
    if frame["image"].duplicated().any():
        raise CxrError(
            f"{path} scores {frame['image'][frame['image'].duplicated()].iloc[0]} twice; keep one row an image"
        )
    if not ((score >= 0) & (score <= 1)).all():
        raise CxrError(f"{path} has scores that are not probabilities in [0, 1]; apply a sigmoid before writing")
    if not (np.isnan(target) | (target == 0) | (target == 1)).all():
        raise CxrError(f"{path} has targets that are not 1, 0 or empty for unknown")
    image, patient = (frame[column].astype(str).to_numpy(object) for column in ("image", "patient"))
    checkpoint = (table.schema.metadata or {}).get(_CHECKPOINT, b"").decode()
    return Predictions(image, patient, findings, score, target, checkpoint)
