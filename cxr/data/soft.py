"""Soft training targets: columns `soft:<finding>` of a catalog's table, in [0, 1], NaN where there is none.

They replace the labels of a finding in the training loss only. Metrics, sampling, counts, validation and test use the
labels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.findings import check_known

SOFT = "soft:"


def soft_targets(rows: pd.DataFrame, findings: Sequence[str]) -> NDArray[np.float32]:
    """Soft targets of the rows of a catalog's table: (N, L) float32, NaN where there is none."""
    soft = np.full((len(rows), len(findings)), np.nan, np.float32)
    for position, name in enumerate(findings):
        if f"{SOFT}{name}" in rows:
            soft[:, position] = pd.to_numeric(rows[f"{SOFT}{name}"], errors="coerce").to_numpy(
                np.float32, na_value=np.nan
            )
    return soft


def check_soft(
    table: pd.DataFrame, findings: Sequence[str], origin: str, place: Callable[[pd.Series, str], str]
) -> None:
    """Checks that the soft columns of a catalog's table are in their range.

    Args:
        table: with `image`.
        findings: the findings that the table labels.
        origin: the name of the table in errors.
        place: given a mask of rows (N,) and a column, where they are in the file.

    Raises:
        CxrError: a column is of an unknown finding, or a value is no number in [0, 1].
    """
    columns = [str(name) for name in table if str(name).startswith(SOFT)]
    of = [column.removeprefix(SOFT) for column in columns]
    check_known(of, findings, f"a column {SOFT}<finding> of {origin}")
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(float, na_value=np.nan)
        outside = table[column].notna() & ~((values >= 0) & (values <= 1))
        if outside.any():
            image, value = table["image"][outside].iloc[0], table[column][outside].iloc[0]
            raise CxrError(
                f"{origin} gives {image} {column}={value}; soft targets lie in [0, 1], and are empty where there is "
                f"none {place(outside, column)}"
            )
