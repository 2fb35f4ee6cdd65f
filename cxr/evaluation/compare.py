"""Runs ranked on the same images, and which differences are noise: the work of `python -m cxr.compare`."""

import glob
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.evaluation.run import resampling
from cxr.evaluation.tables import notes_of
from cxr.guard import count_test, ledger_beside
from cxr.metrics.bootstrap import (
    Interval,
    Resampling,
    bootstrap_auroc,
    bootstrap_average_precision,
    interval,
    scale,
)
from cxr.metrics.comparison import METRICS, compare, holm
from cxr.predictions import Predictions, read_predictions
from cxr.report.results import Cell, Results, WithInterval
from cxr.runs import Run

NOISE, REAL, BEST = "within noise", "beyond noise", "best"
_DIFFERENCES = (-1.0, 1.0)
# What may differ between seeds of one configuration: who ran it, where, and how it was stored.
_SAME = re.compile(
    r"seed|name|sweep|run_id|resume|runs_dir|choices.*|logger.*|checkpoint\..*|cache\.(dir|processes|on_error)"
    r"|data\.workers|trainer\.(accelerator|devices|strategy|log_every_n_steps)"
)


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        name: of its run, or of what its runs have in common.
        runs: one, or one a seed.
        values: (S,) macro average of each run.
        resamples: (R,) means over runs, which are drawn anew in each resample where there are several.
    """

    name: str
    runs: tuple[Run, ...]
    values: NDArray[np.float64]
    resamples: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Of its runs."""
        return float(self.values.mean())


def compare_runs(config: Mapping[str, Any]) -> float:
    """Ranks runs, prints and writes the table, and returns the best macro average; see `conf/compare.yaml`.

    Raises:
        CxrError: fewer than two rows on the same images, or an option.
    """
    split, metric, plan = str(config["split"]), str(config["metric"]), resampling(config)
    if split not in ("val", "test"):
        raise CxrError(f"split={split} is unknown; choose val or test")
    if metric not in METRICS:
        raise CxrError(f"metric={metric} is unknown; choose {' or '.join(METRICS)}")
    runs = _runs(config["runs"], split)
    kept, left_out = _on_the_same_images(runs, split)
    rows = _rows(kept, metric, plan)
    if len(rows) < 2:
        raise CxrError(
            f"runs has {len(rows)} configuration to compare; give two or more that share their {split} images"
        )
    rows.sort(key=lambda row: -row.mean)
    notes = _notes(kept, split, left_out)
    table = _ranking(rows, metric, split, plan, notes)
    first = kept[0][0].path
    stem = Path(config["out"]) if config["out"] else first.parent / f"comparison-{split}"
    table.write(stem)
    print(table.as_text())
    if len(rows) == 2 and all(len(row.runs) == 1 for row in rows):
        predictions = {run.path: p for run, p in kept}
        two = _by_finding(rows, [predictions[row.runs[0].path] for row in rows], metric, plan, notes[:2])
        two.write(stem.with_name(f"{stem.name}-findings"))
        print(f"\n{two.as_text()}")
    print(f"tables are {stem}*.csv, .md and .tex", flush=True)
    return rows[0].mean


def _runs(patterns: str | Sequence[str], split: str) -> list[tuple[Run, Predictions]]:
    found: list[Run] = []
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        if glob.has_magic(pattern):
            paths = [Path(path) for path in sorted(glob.glob(pattern))]
            runs = [Run(path) for path in paths if Run(path).predictions(split).is_file()]
            if not runs:
                raise CxrError(f"runs={pattern} matches nothing that has predictions/{split}.parquet")
            found += runs
        elif not Run(Path(pattern)).predictions(split).is_file():
            raise CxrError(f"runs names {pattern}, which has no predictions/{split}.parquet")
        else:
            found.append(Run(Path(pattern)))
    unique = {run.path.resolve(): run for run in found}
    return [(run, read_predictions(run.predictions(split))) for run in unique.values()]


def _on_the_same_images(
    runs: Sequence[tuple[Run, Predictions]], split: str
) -> tuple[list[tuple[Run, Predictions]], list[str]]:
    """The largest group of runs with the same images, findings and labels, lined up; and the names of the others."""
    groups = defaultdict(list)
    for run, p in runs:
        order = sorted(p.findings)
        columns = [p.findings.index(name) for name in order]
        lined = p.ordered(sorted(p.image))
        target = lined.target[:, columns]
        key = ("\n".join(lined.image), "\n".join(order), target.tobytes())
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
        macro = judge(p.target, p.score, p.patient, kept).macro
        if not np.isnan(macro.value):
            by_configuration[_configuration(run)].append((run, macro))
    rows = []
    for members in by_configuration.values():
        values = np.array([float(macro.value) for _, macro in members])
        drawn = np.array([macro.resamples for _, macro in members], np.float64)  # (S, R)
        if len(members) > 1:
            seeds = np.random.default_rng(plan.seed).integers(len(members), size=drawn.shape)
            drawn = np.take_along_axis(drawn, seeds, axis=0)
        rows.append(
            Row(_name([run for run, _ in members]), tuple(run for run, _ in members), values, drawn.mean(axis=0))
        )
    return rows


def _configuration(run: Run) -> str:
    """What makes two runs seeds of one configuration; a folder without one is its own."""
    if not run.config_path.is_file() or not run.best.exists():
        return str(run.path.resolve())
    leaves = dict(_leaves(run.config(), ""))
    return json.dumps(
        {key: value for key, value in leaves.items() if not _SAME.fullmatch(key)}, sort_keys=True, default=str
    )


def _leaves(node: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        return [(prefix, node)]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))]


def _name(runs: Sequence[Run]) -> str:
    names = [run.path.name for run in runs]
    if len(names) == 1:
        return names[0]
    common = re.sub(r"[-_.]?(seed)?[-_.]?$", "", _prefix(names))
    return f"{common or runs[0].path.parent.name} ({len(names)} seeds)"


def _prefix(names: Sequence[str]) -> str:
    shortest = min(names, key=len)
    same = next((k for k, sign in enumerate(shortest) if any(name[k] != sign for name in names)), len(shortest))
    return shortest[:same]


def _ranking(rows: Sequence[Row], metric: str, split: str, plan: Resampling, notes: Sequence[str]) -> Results:
    best = rows[0]
    differences = [
        interval(row.mean - best.mean, row.resamples - best.resamples, plan, _DIFFERENCES) for row in rows[1:]
    ]
    p = holm([_p_value(d, row.resamples - best.resamples) for d, row in zip(differences, rows[1:], strict=True)])
    cells: list[list[Cell]] = []
    for rank, row in enumerate(rows):
        found = interval(row.mean, row.resamples, plan)
        spread = float(row.values.std(ddof=1)) if len(row.values) > 1 else None
        line: list[Cell] = [f"{rank + 1}. {row.name}", len(row.runs), _with(found), spread]
        if rank == 0:
            cells.append([*line, None, None, BEST])
        else:
            mark = REAL if p[rank - 1] < 1 - plan.level else NOISE
            cells.append([*line, _with(differences[rank - 1]), float(p[rank - 1]), mark])
    columns = ["configuration", "runs", f"macro_{metric}", "sd_over_seeds", "difference_to_best", "p_holm", "verdict"]
    return Results(f"{split}: macro average {metric.replace('_', ' ')}", columns, cells, notes, (columns[2],))


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
            float(found.p[k]),
            float(found.p_holm[k]),
        ]
        for k, name in enumerate(first.findings)
    ]
    cells.append(["macro average", _with(found.difference.macro), found.p_macro, None])
    title = f"{rows[0].name} minus {rows[1].name}, {metric.replace('_', ' ')}"
    return Results(title, ["finding", "difference", "p", "p_holm"], cells, notes)


def _notes(kept: Sequence[tuple[Run, Predictions]], split: str, left_out: Sequence[str]) -> list[str]:
    run = kept[0][0]
    notes: list[str] = []
    if all(run.predictions(name).is_file() for name in ("val", "test")):
        if split == "test":
            for other, scored in kept:
                count_test(ledger_beside(other.path), scored, other.path.name, "compare")
        val, test = (read_predictions(run.predictions(name)) for name in ("val", "test"))
        notes = notes_of(run, val, test, run.metrics(), "compare")
    if split == "test":
        notes.append("To choose between configurations, rank them on validation (split=val).")
    if left_out:
        notes.append(f"Left out, since their {split} images, findings or labels are others: {', '.join(left_out)}.")
    return notes


def _p_value(difference: Interval, resamples: NDArray[np.float64]) -> float:
    if not resamples.any():
        return 1.0
    centre, spread = scale(float(difference.value), resamples[~np.isnan(resamples)], _DIFFERENCES)
    return 2 * NormalDist().cdf(-abs(centre) / spread) if spread > 0 else float("nan")


def _with(found: Interval) -> WithInterval:
    return WithInterval(float(found.value), float(found.low), float(found.high))
