"""The summary of a cross-validation: metrics of each fold, their mean and spread, and out-of-fold metrics."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.evaluation.rows import configuration, row_names
from cxr.figures.tables import MACRO, Table
from cxr.metrics.auroc import auroc
from cxr.metrics.bootstrap import bootstrap_auroc
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import named, number, single
from cxr.run.directory import Run
from cxr.run.folds import check_complete, fold_of
from cxr.run.predictions import Predictions, read_predictions

NOTE = "Out-of-fold predictions: each validation image is scored by the run that was not trained on it."


def out_of_fold(parts: Mapping[str, Predictions]) -> Predictions:
    """Validation predictions of all folds as one: each image has the score of the run that was not trained on it.

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


def pooled(runs: Sequence[Run]) -> list[tuple[tuple[Run, ...], Predictions]]:
    """The runs of each cross-validation among finished runs, in the order of their folds, and their predictions.

    Folds of one configuration and one seed are one cross-validation; runs that are no fold are ignored.

    Raises:
        CxrError: a fold is missing or occurs twice, or predictions cannot be read.
    """
    groups: dict[tuple[str, object], list[tuple[int, int, Run]]] = defaultdict(list)
    for run in runs:
        config = run.config() if run.config_path.is_file() else {}
        of = fold_of(config)
        if of:
            groups[configuration(run), config.get("seed")].append((*of, run))
    found = []
    for members in groups.values():
        members.sort(key=lambda member: member[0])
        check_complete({str(run.path): (fold, folds) for fold, folds, run in members})
        parts = {str(run.path): read_predictions(run.predictions("val")) for *_, run in members}
        found.append((tuple(run for *_, run in members), out_of_fold(parts)))
    return found


def summarise_folds(folder: Path, runs: Sequence[Run]) -> None:
    """Prints and writes the table of the cross-validations among the runs of a sweep.

    Writes `folds.csv`, `.md` and `.tex`, and `out_of_fold/<configuration>.parquet` with the predictions.
    """
    groups, plan = pooled(runs), Resampling()
    names = row_names([members for members, _ in groups])
    tables = [_table(name, members, p, plan) for name, (members, p) in zip(names, groups, strict=True)]
    for position, (table, (_, p)) in enumerate(zip(tables, groups, strict=True)):
        stem = "folds" if len(tables) == 1 else f"folds-{position}"
        table.write(folder / stem)
        p.write(folder / "out_of_fold" / f"{stem}.parquet")
        print(f"\n{table.as_text()}")
    print(f"tables are {folder / 'folds'}*.csv, .md and .tex; predictions are in {folder / 'out_of_fold'}", flush=True)


def _table(name: str, runs: Sequence[Run], p: Predictions, plan: Resampling) -> Table:
    """AUROC by finding: mean and standard deviation over folds, and of all out-of-fold predictions."""
    each = []
    for run in runs:
        fold = read_predictions(run.predictions("val"))
        columns = [fold.findings.index(finding) for finding in p.findings]
        each.append(auroc(fold.target[:, columns], fold.score[:, columns]))
    by_fold = np.array(each)  # (folds, L)
    whole = bootstrap_auroc(p.target, p.score, p.patient, plan)
    pooled_cells = named(p.findings, whole.findings)
    rows = [[finding, *_mean_and_spread(by_fold[:, k]), pooled_cells[finding]] for k, finding in enumerate(p.findings)]
    defined = ~np.isnan(by_fold).all(axis=0)
    macros = np.nanmean(by_fold[:, defined], axis=1)
    rows.append([MACRO, *_mean_and_spread(macros), single(whole.macro)])
    return Table(
        f"{name}: validation AUROC over {len(runs)} folds",
        ["finding", "mean", "sd", "out_of_fold"],
        rows,
        [NOTE, "Scores of different folds are pooled as they are, so that out-of-fold AUROC also depends on how alike "
         "the folds are calibrated. Test was not scored."],
        ["out_of_fold"],
    )  # fmt: skip


def _mean_and_spread(values: NDArray[np.float64]) -> list[object]:
    known = values[~np.isnan(values)]
    return [number(float(known.mean())) if len(known) else None, float(known.std(ddof=1)) if len(known) > 1 else None]
