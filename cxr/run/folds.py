"""Runs that are folds of a cross-validation."""

from collections.abc import Mapping
from typing import Any

from cxr.errors import CxrError


def fold_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """`data.fold` and `data.folds` of a run's configuration; None for a run that is no fold."""
    data = config.get("data")
    fold, folds = (data.get("fold"), data.get("folds")) if isinstance(data, Mapping) else (None, None)
    return (fold, folds) if isinstance(fold, int) and isinstance(folds, int) else None


def check_complete(runs: Mapping[str, tuple[int, int]]) -> None:
    """Raises CxrError unless the runs, by name, are each fold of one cross-validation, once."""
    (first, (_, folds)), *others = runs.items()
    for name, (_, other) in others:
        if other != folds:
            raise CxrError(f"{first} is one of {folds} folds and {name} one of {other}; give the folds of one draw")
    by_fold: dict[int, str] = {}
    for name, (fold, _) in runs.items():
        if fold in by_fold:
            raise CxrError(f"{by_fold[fold]} and {name} are both fold {fold}; give each fold once")
        by_fold[fold] = name
    missing = [fold for fold in range(folds) if fold not in by_fold]
    if missing:
        raise CxrError(
            f"fold {', '.join(map(str, missing))} of {folds} is missing; train it with data.fold={missing[0]}"
        )
