"""Trees of findings as columns: parents before their children, and scores that respect them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError


def downwards(parents: Sequence[int]) -> list[int]:
    """The columns that have a parent, each behind its parent.

    Args:
        parents: (L,) the column of each finding's parent; -1 for a root.

    Raises:
        CxrError: a parent is no column, or a column is below itself.
    """
    found: list[int] = []
    left = [column for column, parent in enumerate(parents) if parent >= 0]
    while left:
        free = [column for column in left if parents[column] < len(parents) and parents[column] not in left]
        if not free:
            raise CxrError(f"the findings' parents {list(parents)} are not those of a hierarchy")
        found += free
        left = [column for column in left if column not in free]
    return found


def at_most_parents(score: NDArray[Any], parents: Sequence[int]) -> NDArray[Any]:
    """Scores (N, L) of which none is above that of its parent: the smallest along the path from the root.

    Calibration by finding and weights by finding can raise a finding above its parent.

    Args:
        score: (N, L).
        parents: (L,), see `downwards`.
    """
    found = score.copy()
    for child in downwards(parents):
        found[:, child] = np.minimum(found[:, child], found[:, parents[child]])
    return found
