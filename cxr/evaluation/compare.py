"""Ranks runs on the same images and tests whether their differences are noise: `python -m cxr compare`."""

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxr.errors import CxrError
from cxr.evaluation.folds import NOTE, pooled
from cxr.evaluation.rows import configuration, row_names
from cxr.evaluation.tables import few_patients, notes_of, split_note
from cxr.figures.tables import MACRO, Cell, Table
from cxr.metrics.bootstrap import bootstrap_auroc, bootstrap_average_precision
from cxr.metrics.comparison import compare, holm
from cxr.metrics.interval import Interval, Resampling
from cxr.metrics.patients import FEWEST, too_few
from cxr.metrics.plain import named, number, single
from cxr.metrics.seeds import Seeds, difference_over_seeds, mean_over_seeds
from cxr.metrics.single import bootstrap_single
from cxr.run.ancestry import unknown_note, unknown_of
from cxr.run.directory import Run, runs_of
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions, read_predictions

_BALANCED = "balanced_accuracy"
_ONE_SEED = (
    "Where a configuration has one run, the verdict ignores seeds: with another seed the difference may vanish. Train "
    "several seeds before you conclude that it is real."
)


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        name: that of its run, or what its runs have in common.
        runs: one, or one per seed.
        macro: macro average of each run, over the findings with enough patients for an interval, if there are any;
            balanced accuracy is over all findings.
    """

    name: str
    runs: tuple[Run, ...]
    macro: Seeds


def compare_runs(config: Mapping[str, Any]) -> float:
    """Ranks runs, prints and writes the tables, and returns the best macro average; see `conf/compare.yaml`.

    Raises:
        CxrError: fewer than two configurations on the same images.
    """
    split, metric, plan = config["split"], config["metric"], Resampling(config["resamples"], config["seed"])
    runs = _runs(config["runs"], split)
    whole = pooled([run for run, _ in runs]) if split == "val" else []
    folds = {members[0].path: members for members, _ in whole}
    parts = {run.path for members in folds.values() for run in members}
    runs = [*((members[0], p) for members, p in whole), *(run for run in runs if run[0].path not in parts)]
    kept, left_out = _on_the_same_images(runs, split)
    rows = _rows(kept, folds, metric, plan)
    if len(rows) < 2:
        others = f" ({', '.join(left_out)} differ)" if left_out else ""
        raise CxrError(
            f"runs has {len(rows)} configuration to compare; give two or more with the same {split} images, patients, "
            f"findings and labels{others}"
        )
    rows.sort(key=lambda row: -row.macro.mean)
    notes = _notes(kept, folds, split, metric, left_out)
    table = _ranking(rows, metric, split, plan, notes)
    first = kept[0][0].path
    stem = Path(config["out"]) if config["out"] else first.parent / f"comparison-{split}"
    table.write(stem)
    print(table.as_text())
    if len(rows) == 2 and metric != _BALANCED and all(len(row.runs) == 1 for row in rows):
        predictions = {run.path: p for run, p in kept}
        two = _by_finding(rows, [predictions[row.runs[0].path] for row in rows], metric, plan, [_ONE_SEED, *notes])
        two.write(stem.with_name(f"{stem.name}-findings"))
        print(f"\n{two.as_text()}")
    print(f"tables are {stem}*.csv, .md and .tex", flush=True)
    return rows[0].macro.mean


def _runs(patterns: str | Sequence[str], split: str) -> list[tuple[Run, Predictions]]:
    """Runs by resolved path with their predictions; of a glob, runs without predictions and smoke runs are left out."""
    found: dict[Path, Run] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        runs = runs_of(pattern)
        scored = [run for run in runs if run.predictions(split).is_file()]
        unscored = [run for run in runs if run not in scored and run.best.exists()]
        remedy = f"; python -m cxr evaluate run={unscored[0].path} computes them" if unscored else ""
        if not scored:
            which = "matches no run that has" if glob.has_magic(pattern) else "has no"
            raise CxrError(f"runs={pattern} {which} predictions/{split}.parquet{remedy}")
        if unscored:
            names = ", ".join(str(run.path) for run in unscored)
            print(f"left out, without predictions/{split}.parquet: {names}{remedy}", flush=True)
        found |= {run.path.resolve(): run for run in scored}
    return [(run, read_predictions(run.predictions(split))) for run in found.values()]


def _on_the_same_images(
    runs: Sequence[tuple[Run, Predictions]], split: str
) -> tuple[list[tuple[Run, Predictions]], list[str]]:
    """The largest group of runs with the same images, patients, findings and labels, sorted; and the other names."""
    groups = defaultdict(list)
    for run, p in runs:
        order = sorted(p.findings)
        columns = [p.findings.index(name) for name in order]
        rows = p.ordered(sorted(p.image))
        target = rows.target[:, columns]
        key = (tuple(rows.image), tuple(rows.patient), tuple(order), target.tobytes())
        same = Predictions(rows.image, rows.patient, tuple(order), rows.score[:, columns], target, split=p.split)
        groups[key].append((run, same))
    largest = max(groups.values(), key=len)
    names = {run.path for run, _ in largest}
    return largest, [str(run.path) for run, _ in runs if run.path not in names]


def _rows(
    runs: Sequence[tuple[Run, Predictions]], folds: Mapping[Path, tuple[Run, ...]], metric: str, plan: Resampling
) -> list[Row]:
    """A row for each configuration.

    Args:
        runs: with their predictions; of a cross-validation, its first fold with the out-of-fold predictions.
        folds: all folds of a cross-validation, by the path of its first.
    """
    by_configuration = defaultdict(list)
    for run, p in runs:
        macro = _macro(run, p, metric, replace(plan, keep=True))
        if not np.isnan(macro.value):
            by_configuration[configuration(run)].append((run, macro))
    groups = by_configuration.values()
    names = row_names([[one for run, _ in members for one in folds.get(run.path, (run,))] for members in groups])
    rows = []
    for name, members in zip(names, groups, strict=True):
        values = np.array([float(macro.value) for _, macro in members])
        resamples = np.array([macro.resamples for _, macro in members], np.float64)
        rows.append(Row(name, tuple(run for run, _ in members), Seeds(values, resamples)))
    return rows


def _macro(run: Run, p: Predictions, metric: str, plan: Resampling) -> Interval:
    if metric == _BALANCED:
        if not ((p.target == 1).sum(axis=1) == 1).all():
            raise CxrError(f"metric={metric} needs runs of task=single_label; {run.path} has others, so use auroc")
        return bootstrap_single(p.target, p.score, p.patient, plan)[_BALANCED]
    bootstrap = bootstrap_auroc if metric == "auroc" else bootstrap_average_precision
    found = bootstrap(p.target, p.score, p.patient, plan)
    if np.isnan(found.supported.value):  # no finding has enough patients: runs are ranked without interval and verdict
        return replace(found.macro, resamples=np.full(plan.resamples, np.nan))
    return found.supported


def _ranking(rows: Sequence[Row], metric: str, split: str, plan: Resampling, notes: Sequence[str]) -> Table:
    best = rows[0]
    differences = [difference_over_seeds(row.macro, best.macro, plan) for row in rows[1:]]
    corrected = holm([p for _, p in differences])
    cells: list[list[Cell]] = []
    for rank, row in enumerate(rows):
        values = row.macro.values
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        line: list[Cell] = [f"{rank + 1}. {row.name}", len(values), single(mean_over_seeds(row.macro, plan)), spread]
        if rank == 0:
            cells.append([*line, None, None, "best", None])
            continue
        p = float(corrected[rank - 1])
        verdict = "undetermined" if np.isnan(p) else "beyond noise" if p < 1 - plan.level else "within noise"
        several = sum(len(one.runs) > 1 for one in (row, best))
        noise = ("patients", "patients, seeds of one side", "patients and seeds")[several]
        cells.append([*line, single(differences[rank - 1][0]), number(p), verdict, noise])
    macro = metric if metric == _BALANCED else f"macro_{metric}"
    columns = ["configuration", "runs", macro, "sd_over_seeds", "difference_to_best", "p_holm", "verdict", "noise"]
    lost = max(int(np.isnan(row.macro.resamples).any(axis=0).sum()) for row in rows) % plan.resamples
    texts = [f"Resamples without a value, left out of {plan.resamples}: {lost}."] if lost else []
    if any(len(row.runs) == 1 for row in rows):
        texts.append(_ONE_SEED)
    title = f"{split}: {macro.replace('macro_', 'macro average ').replace('_', ' ')}"
    return Table(title, columns, cells, [*texts, *notes], [macro, "difference_to_best"], best=macro)


def _by_finding(
    rows: Sequence[Row], predictions: Sequence[Predictions], metric: str, plan: Resampling, notes: Sequence[str]
) -> Table:
    first, second = predictions
    found = compare(first.target, first.score, second.score, first.patient, metric, plan)
    difference, p, p_holm = (named(first.findings, v) for v in (found.difference.findings, found.p, found.p_holm))
    cells: list[list[Cell]] = [[name, difference[name], p[name], p_holm[name]] for name in first.findings]
    cells.append([MACRO, single(found.difference.supported), number(found.p_macro), None])
    title = f"{rows[0].name} minus {rows[1].name}, {metric.replace('_', ' ')}"
    return Table(title, ["finding", "difference", "p", "p_holm"], cells, notes, ["difference"])


def _notes(
    kept: Sequence[tuple[Run, Predictions]],
    folds: Mapping[Path, Any],
    split: str,
    metric: str,
    left_out: Sequence[str],
) -> list[str]:
    """Which findings the macro average leaves out, which split this is, and which runs differ."""
    run, p = kept[0]
    few: Mapping[str, Any] = {} if metric == _BALANCED else too_few(p.target, p.patient, p.findings)
    notes = few_patients(few, "so they are not in the macro average")
    if len(few) == len(p.findings):
        notes = [f"No finding has {FEWEST} positive and {FEWEST} negative patients, so no interval and no verdict."]
    stored = {
        name: read_predictions(path) for name in ("val", "test", split) if (path := run.predictions(name)).is_file()
    }
    if run.path in folds:
        notes.append(NOTE)
    elif split == "val":
        notes.append(split_note(run, stored["val"], stored.get("test"), run.metrics()))
    else:
        for other, scored in kept:
            count_test(ledger_beside(other.path), scored, other.path.name, "compare")
        if "val" in stored:
            notes += notes_of(run, stored["val"], stored[split], run.metrics(), "compare")
        noted = [run] if "val" in stored else []
        notes += unknown_note({one.path.name: unknown_of(one.metrics()) for one, _ in kept if one not in noted})
        notes.append("To choose between configurations, rank them on validation (split=val).")
    if left_out:
        others = ", ".join(left_out)
        notes.append(f"Left out, since their {split} images, patients, findings or labels differ: {others}.")
    return notes
