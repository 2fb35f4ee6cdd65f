"""The label files of NIH-CXR-LT and MIMIC-CXR-LT: one finding per image, a file per split.

Holste et al., "Long-Tailed Classification of Thorax Diseases on Chest X-Ray", 2022; label files in
https://github.com/VITA-Group/LongTailCXR.
"""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.data.catalog import some
from cxr.errors import CxrError, counted, first_line
from cxr.files.reading import read_text

_SPLITS = {"train": "train", "val": "balanced-val", "test": "test"}
BALANCED = "balanced_test"


def read_splits(
    folder: Path, data_set: str, findings: Sequence[str], columns: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Reads the files `<data_set>_single-label_{train,balanced-val,test,balanced-test}.csv`.

    Args:
        folder: of the files.
        data_set: `nih-cxr-lt` or `mimic-cxr-lt`.
        findings: L names, columns of the files, of which each row has exactly one.
        columns: further columns, kept as text; the first one names the image.

    Returns:
        The rows of the first three files, with `columns`, the findings (float32) and `split`, and the images of the
        balanced test split, which are test images.

    Raises:
        CxrError: a file is missing or is not as published, or the balanced test images are not among the test images.
    """
    paths = {split: folder / f"{data_set}_single-label_{name}.csv" for split, name in _SPLITS.items()}
    tables = {split: _read(path, findings, columns).assign(split=split) for split, path in paths.items()}
    path = folder / f"{data_set}_single-label_balanced-test.csv"
    balanced = _read(path, findings, columns)[columns[0]]
    check_inside(balanced, tables["test"][columns[0]], path, str(paths["test"]))
    return pd.concat(tables.values(), ignore_index=True), tuple(balanced)


def check_inside(images: pd.Series, known: pd.Series, origin: Path, other: str) -> None:
    """Raises CxrError if `images` has names that are not in `known`."""
    absent = images[~images.isin(known)].tolist()
    if absent:
        raise CxrError(f"{origin} names {counted(len(absent), 'image')} that {other} lacks: {some(absent)}")


def _read(path: Path, findings: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(StringIO(read_text(path)), dtype=dict.fromkeys(columns, str))
    except FileNotFoundError:
        raise CxrError(
            f"{path} is missing; pass data.labels=DIR, the folder with the published label files (see docs/data.md)"
        ) from None
    except ValueError as error:
        raise CxrError(
            f"{path} cannot be read as a CSV table: {first_line(error)}; is it the published file?"
        ) from None
    lacks = [column for column in (*columns, *findings) if column not in table]
    if lacks:
        raise CxrError(f"{path} lacks the column {', '.join(lacks)}; is it the published file?")
    values = table[list(findings)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    wrong = ~(np.isin(values, (0, 1)).all(axis=1) & (values.sum(axis=1) == 1))
    wrong |= table[list(columns)].isna().any(axis=1).to_numpy()
    if wrong.any():
        raise CxrError(
            f"{path} line {int(wrong.argmax()) + 2}: expected {' and '.join(columns)}, and exactly one 1 among "
            f"{len(findings)} findings"
        )
    named = {column: table[column].str.strip() for column in columns}
    return pd.DataFrame(values, columns=list(findings)).assign(**named)
