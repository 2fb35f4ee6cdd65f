"""Soft training targets: columns `soft:<finding>` of a catalog's table, in [0, 1], NaN without one.

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
    """Soft targets of rows of a catalog's table, (N, L) float32, NaN without one."""
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
    """Checks the soft targets of a catalog's table.

    Args:
        table: with `image`.
        findings: of the catalog.
        origin: name of the table in errors.
        place: from a mask of rows (N,) and a column to their place in the file, for errors.

    Raises:
        CxrError: a column has an unknown finding, or a value is not a number in [0, 1].
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
                f"{origin} gives {image} {column}={value}; soft targets are numbers in [0, 1] or empty "
                f"{place(outside, column)}"
            )
