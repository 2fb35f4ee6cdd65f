"""Runs that are folds of a cross-validation, and their out-of-fold predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr.errors import CxrError
from cxr.run.predictions import Predictions

NOTE = "Out-of-fold predictions: each validation image is scored by the run that was not trained on it."


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


def out_of_fold(parts: Mapping[str, Predictions]) -> Predictions:
    """Validation predictions of all folds as one: each image has the score of the run that was not trained on it.

    Args:
        parts: predictions of the validation split, by run.

    Raises:
        CxrError: two folds differ in their findings, or validate on the same patient.
    """
    (first, one), *others = parts.items()
    owner = dict.fromkeys(one.patient.tolist(), first)
    scores, targets = [one.score], [one.target]
    for name, other in others:
        if set(other.findings) != set(one.findings):
            raise CxrError(f"{first} and {name} have different findings; give folds of one configuration")
        twice = next((patient for patient in other.patient.tolist() if patient in owner), None)
        if twice is not None:
            raise CxrError(f"patient {twice} is in validation of {owner[twice]} and {name}; give the folds of one draw")
        owner |= dict.fromkeys(other.patient.tolist(), name)
        columns = [other.findings.index(finding) for finding in one.findings]
        scores.append(other.score[:, columns])
        targets.append(other.target[:, columns])
    every = list(parts.values())
    known = [part.attributes for part in every if part.attributes is not None]
    return Predictions(
        np.concatenate([part.image for part in every]),
        np.concatenate([part.patient for part in every]),
        one.findings,
        np.concatenate(scores),
        np.concatenate(targets),
        "+".join(part.checkpoint_sha256 or "unknown" for part in every),
        "val",
        pd.concat(known, ignore_index=True) if len(known) == len(every) else None,
    )
