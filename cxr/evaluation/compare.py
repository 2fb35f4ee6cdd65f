"""Runs ranked on the same images, and which differences are noise: the work of `python -m cxr compare`."""

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cxr.configuration.kinds import checked
from cxr.configuration.schema import Compare
from cxr.errors import CxrError
from cxr.evaluation.rows import configuration, row_names
from cxr.evaluation.tables import few_patients, notes_of, split_note
from cxr.figures.results import Cell, Results, WithInterval
from cxr.metrics.bootstrap import bootstrap_auroc, bootstrap_average_precision
from cxr.metrics.comparison import compare, holm
from cxr.metrics.interval import Interval, Resampling
from cxr.metrics.patients import FEWEST, too_few
from cxr.metrics.seeds import Seeds, difference_over_seeds, mean_over_seeds
from cxr.run.ancestry import unknown_note, unknown_of
from cxr.run.directory import Run
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions, read_predictions
from cxr.run.smoke import say_left_out, smoke_refused

NOISE, REAL, BEST, UNKNOWN = "within noise", "beyond noise", "best", "undetermined"
_ONE_SEED = (
    "Where a side has one run, the verdict ignores seeds: with another seed the difference may vanish. Train several "
    "seeds before you call it real."
)


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        name: of its run, or of what its runs have in common.
        runs: one, or one a seed.
        macro: macro average of each run, over the findings with patients enough for an interval, if there are any.
    """

    name: str
    runs: tuple[Run, ...]
    macro: Seeds


def compare_runs(config: Mapping[str, Any]) -> float:
    """Ranks runs, prints and writes the table, and returns the best macro average; see `conf/compare.yaml`.

    Raises:
        CxrError: fewer than two rows on the same images, or an option.
    """
    config = checked(Compare, config)
    split, metric, plan = config["split"], config["metric"], Resampling(config["resamples"], config["seed"])
    runs = _runs(config["runs"], split)
    kept, left_out = _on_the_same_images(runs, split)
    rows = _rows(kept, metric, plan)
    if len(rows) < 2:
        others = f" ({', '.join(left_out)} have others)" if left_out else ""
        raise CxrError(
            f"runs has {len(rows)} configuration to compare; give two or more with the same {split} images, patients, "
            f"findings and labels{others}"
        )
    rows.sort(key=lambda row: -row.macro.mean)
    notes = [*_few(kept[0][1]), *_notes(kept, split, left_out)]
    table = _ranking(rows, metric, split, plan, notes)
    first = kept[0][0].path
    stem = Path(config["out"]) if config["out"] else first.parent / f"comparison-{split}"
    table.write(stem)
    print(table.as_text())
    if len(rows) == 2 and all(len(row.runs) == 1 for row in rows):
        predictions = {run.path: p for run, p in kept}
        two = _by_finding(rows, [predictions[row.runs[0].path] for row in rows], metric, plan, [_ONE_SEED, *notes])
        two.write(stem.with_name(f"{stem.name}-findings"))
        print(f"\n{two.as_text()}")
    print(f"tables are {stem}*.csv, .md and .tex", flush=True)
    return rows[0].macro.mean


def _runs(patterns: str | Sequence[str], split: str) -> list[tuple[Run, Predictions]]:
    found: list[Run] = []
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        if glob.has_magic(pattern):
            matched = [Path(path) for path in sorted(glob.glob(pattern))]
            smoke = [path for path in matched if Run(path).smoke]
            say_left_out(smoke)
            runs = [Run(path) for path in matched if path not in smoke]
            there = [run for run in runs if run.predictions(split).is_file()]
            unscored = [run for run in runs if run not in there and run.best.exists()]
            if not there:
                raise CxrError(f"runs={pattern} matches nothing that has predictions/{split}.parquet{_how(unscored)}")
            if unscored:
                named = ", ".join(str(run.path) for run in unscored)
                print(f"left out, without predictions/{split}.parquet: {named}{_how(unscored)}", flush=True)
            found += there
        elif Run(Path(pattern)).smoke:
            raise smoke_refused(Path(pattern))
        elif not Run(Path(pattern)).predictions(split).is_file():
            how = _how([run for run in [Run(Path(pattern))] if run.best.exists()])
            raise CxrError(f"runs names {pattern}, which has no predictions/{split}.parquet{how}")
        else:
            found.append(Run(Path(pattern)))
    unique = {run.path.resolve(): run for run in found}
    return [(run, read_predictions(run.predictions(split))) for run in unique.values()]


def _how(unscored: Sequence[Run]) -> str:
    """How scores of trainings that lack them are made, if there are such trainings."""
    return f"; python -m cxr evaluate run={unscored[0].path} makes them" if unscored else ""


def _on_the_same_images(
    runs: Sequence[tuple[Run, Predictions]], split: str
) -> tuple[list[tuple[Run, Predictions]], list[str]]:
    """The largest group of runs with the same images, patients, findings and labels, lined up; and the other names."""
    groups = defaultdict(list)
    for run, p in runs:
        order = sorted(p.findings)
        columns = [p.findings.index(name) for name in order]
        lined = p.ordered(sorted(p.image))
        target = lined.target[:, columns]
        key = (tuple(lined.image), tuple(lined.patient), tuple(order), target.tobytes())
        same = Predictions(lined.image, lined.patient, tuple(order), lined.score[:, columns], target, split=p.split)
        groups[key].append((run, same))
    largest = max(groups.values(), key=len)
    names = {run.path for run, _ in largest}
    return largest, [str(run.path) for run, _ in runs if run.path not in names]


def _rows(runs: Sequence[tuple[Run, Predictions]], metric: str, plan: Resampling) -> list[Row]:
    judge = bootstrap_auroc if metric == "auroc" else bootstrap_average_precision
    kept = Resampling(plan.resamples, plan.seed, plan.level, keep=True)
    by_configuration = defaultdict(list)
    for run, p in runs:
        found = judge(p.target, p.score, p.patient, kept)
        macro = found.supported
        if np.isnan(macro.value):  # no finding has patients enough: a rank, but no interval and no verdict
            macro = replace(found.macro, resamples=np.full(plan.resamples, np.nan))
        if not np.isnan(macro.value):
            by_configuration[configuration(run)].append((run, macro))
    names = row_names([[run for run, _ in members] for members in by_configuration.values()])
    rows = []
    for name, members in zip(names, by_configuration.values(), strict=True):
        values = np.array([float(macro.value) for _, macro in members])
        drawn = np.array([macro.resamples for _, macro in members], np.float64)
        rows.append(Row(name, tuple(run for run, _ in members), Seeds(values, drawn)))
    return rows


def _ranking(rows: Sequence[Row], metric: str, split: str, plan: Resampling, notes: Sequence[str]) -> Results:
    best = rows[0]
    apart = [difference_over_seeds(row.macro, best.macro, plan) for row in rows[1:]]
    p = holm([value for _, value in apart])
    cells: list[list[Cell]] = []
    for rank, row in enumerate(rows):
        values = row.macro.values
        spread = float(values.std(ddof=1)) if len(values) > 1 else None
        line: list[Cell] = [f"{rank + 1}. {row.name}", len(values), _with(mean_over_seeds(row.macro, plan)), spread]
        if rank == 0:
            cells.append([*line, None, None, BEST, None])
            continue
        corrected = float(p[rank - 1])
        verdict = UNKNOWN if np.isnan(corrected) else REAL if corrected < 1 - plan.level else NOISE
        cells.append([*line, _with(apart[rank - 1][0]), _known(corrected), verdict, _noise(row, best)])
    columns = ["configuration", "runs", f"macro_{metric}", "sd_over_seeds", "difference_to_best", "p_holm", "verdict"]
    lost = max(int(np.isnan(row.macro.resamples).any(axis=0).sum()) for row in rows) % plan.resamples
    said = [f"Resamples without a value, left out of {plan.resamples}: {lost}."] if lost else []
    if any(len(row.runs) == 1 for row in rows):
        said.append(_ONE_SEED)
    title = f"{split}: macro average {metric.replace('_', ' ')}"
    return Results(title, [*columns, "noise"], cells, [*said, *notes], (columns[2],))


def _few(p: Predictions) -> list[str]:
    """Which findings the macro average leaves out for want of patients."""
    few = too_few(p.target, p.patient, p.findings)
    if len(few) < len(p.findings):
        return few_patients(few, "so in no macro average here")
    return [f"No finding has {FEWEST} positive and {FEWEST} negative patients, so there is no interval and no verdict."]


def _noise(row: Row, best: Row) -> str:
    """What a verdict counts."""
    several = sum(len(one.runs) > 1 for one in (row, best))
    return ("patients", "patients, seeds of one side", "patients and seeds")[several]


def _by_finding(
    rows: Sequence[Row], predictions: Sequence[Predictions], metric: str, plan: Resampling, notes: Sequence[str]
) -> Results:
    first, second = predictions
    found = compare(first.target, first.score, second.score, first.patient, metric, plan)
    d = found.difference.findings
    cells: list[list[Cell]] = [
        [
            name,
            WithInterval(float(d.value[k]), float(d.low[k]), float(d.high[k])),
            _known(found.p[k]),
            _known(found.p_holm[k]),
        ]
        for k, name in enumerate(first.findings)
    ]
    cells.append(["macro average", _with(found.difference.supported), _known(found.p_macro), None])
    title = f"{rows[0].name} minus {rows[1].name}, {metric.replace('_', ' ')}"
    return Results(title, ["finding", "difference", "p", "p_holm"], cells, notes)


def _notes(kept: Sequence[tuple[Run, Predictions]], split: str, left_out: Sequence[str]) -> list[str]:
    run = kept[0][0]
    notes: list[str] = []
    there = {name: read_predictions(path) for name in ("val", "test") if (path := run.predictions(name)).is_file()}
    if split == "val":
        notes.append(split_note(run, there["val"], there.get("test"), run.metrics()))
    else:
        for other, scored in kept:
            count_test(ledger_beside(other.path), scored, other.path.name, "compare")
        if "val" in there:
            notes += notes_of(run, there["val"], there["test"], run.metrics(), "compare")
        told = [run] if "val" in there else []
        notes += unknown_note({one.path.name: unknown_of(one.metrics()) for one, _ in kept if one not in told})
        notes.append("To choose between configurations, rank them on validation (split=val).")
    if left_out:
        others = ", ".join(left_out)
        notes.append(f"Left out, since their {split} images, patients, findings or labels are others: {others}.")
    return notes


def _with(found: Interval) -> WithInterval:
    return WithInterval(float(found.value), float(found.low), float(found.high))


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
