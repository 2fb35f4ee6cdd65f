"""Writes the files of an ensemble's run directory: predictions, tables, figures, weights and metrics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.hierarchy import parent_columns
from cxr.ensemble.combine import baselines
from cxr.ensemble.guard import overlap_warning
from cxr.ensemble.members import Members, short_names
from cxr.ensemble.method import Fit, Method
from cxr.ensemble.objective import Landscape, weighted_mean
from cxr.ensemble.overfitting import Report, overfitting_report
from cxr.ensemble.splits import Split
from cxr.evaluation.evaluate import evaluate
from cxr.evaluation.folds import NOTE
from cxr.evaluation.tables import notes_of, write_tables
from cxr.figures.canvas import draw
from cxr.figures.curves import roc_curves
from cxr.figures.intervals import comparison
from cxr.figures.landscape import ensemble_landscape
from cxr.figures.tables import auroc_table, method_table
from cxr.files.writing import replacing, write_text
from cxr.metrics.auroc import auroc
from cxr.metrics.tree import downwards
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import Run, versions
from cxr.run.predictions import Predictions
from cxr.run.splits import describe_split

# Of an objective: its values by finding and their mean in landscape.csv, and the mean in the figure.
_NAMES = {
    "macro_auroc": ("auroc", "macro_auroc", "macro AUROC"),
    "average_precision": ("average_precision", "macro_average_precision", "macro average precision"),
    "brier": ("brier", "macro_brier", "negative Brier score"),
}


@dataclass(frozen=True)
class Ensemble:
    """A fitted ensemble."""

    title: str
    config: Mapping[str, Any]
    method: Method
    fit: Fit
    members: Members

    @property
    def names(self) -> list[str]:
        """Names of the members in tables."""
        return short_names(self.members.keys)


@dataclass(frozen=True)
class Written:
    """What the terminal shows: metrics.json, the test table, the report on overfitting, notes on the split."""

    metrics: dict[str, Any]
    table: pd.DataFrame
    report: Report
    notes: list[str]


def write_ensemble(run: Run, ensemble: Ensemble, resamples: int, leave_one_out: bool, seed: int) -> Written:
    """Writes every file; `metrics.json` last."""
    members, fit, method = ensemble.members, ensemble.fit, ensemble.method
    run.save_config(ensemble.config)
    combined = {split.name: combine(ensemble, split) for split in (members.validation, members.test)}
    val, test = combined["val"][1], combined["test"][1]
    metrics = evaluate(val, {"test": test}) | _about(ensemble) | {"split": describe_split(val, test)}
    notes = [*notes_of(run, val, test, metrics, "ensemble", ensemble.title), *[f"Validation: {NOTE}"] * members.folds]
    write_tables(run, "test", ensemble.title, metrics, test.findings, notes)
    tables: dict[str, pd.DataFrame] = {}
    for split, (areas, predicted) in combined.items():
        predicted.write(run.predictions(split))
        tables[split] = auroc_table(areas, predicted.findings)
        stem = run.path / ("table" if split == "test" else f"table_{split}")
        method_table(tables[split], "AUROC of each finding", notes).write(stem)
        title = f"{ensemble.title}, {split}"
        draw(run.figures / f"comparison_{split}.png", comparison, tables[split], title)
        figure = run.figures / f"roc_{split}.png"
        draw(figure, roc_curves, predicted.target, predicted.score, predicted.findings, title)
    macros = {str(n): (float(tables["val"][n].iloc[-1]), float(tables["test"][n].iloc[-1])) for n in tables["test"]}
    report = overfitting_report(method, members.validation, fit, ensemble.names, macros, resamples, leave_one_out, seed)
    with replacing(run.path / "overfitting.csv") as temporary:
        report.table().to_csv(temporary, index=False)
    write_text(run.path / "overfitting.md", report.markdown())
    for name, content in (("weights", _weights(ensemble)), ("coefficients", _coefficients(ensemble))):
        metrics[name] = content
        if content is not None:
            write_text(run.path / f"{name}.json", json.dumps(content, indent=1) + "\n")
    if fit.landscape is not None:
        _write_landscape(run, fit.landscape, ensemble)
    metrics |= {"overfitting": report.record(), "versions": versions()}
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")
    return Written(metrics, tables["test"], report, notes)


def combine(ensemble: Ensemble, split: Split) -> tuple[dict[str, NDArray[np.float64]], Predictions]:
    """The AUROC (L,) of members, other methods and this one on a split, and its scores; one finding at a time.

    Both robust and searched weights are included, whichever the method uses. On validation, a method that is fitted
    with patients left out has the scores of the left-out patients.
    """
    method, fit, members = ensemble.method, ensemble.fit, ensemble.members
    others = {other: other.fit(members.validation) for other in baselines(method)}
    alternative = [] if fit.other is None else [fit.other]
    names = [*ensemble.names, *(other.label for other in others), *(label for label, _ in alternative), method.label]
    areas = np.full((len(names), len(split.findings)), np.nan)
    mine = np.empty(split.target.shape, np.float32)
    held_out = fit.validation_scores if split is members.validation else None
    tree, kept = members.hierarchy, dict[int, NDArray[np.float32]]()
    parents = parent_columns(tree, split.findings) if tree else [-1] * len(split.findings)
    roots = [k for k, parent in enumerate(parents) if parent < 0]
    for k in (*roots, *downwards(parents)):
        scores = split.scores[k]
        own = method.combine(scores, fit, k) if held_out is None else held_out[:, k].astype(np.float32)
        columns = [*scores, *(other.combine(scores, learnt, k) for other, learnt in others.items())]
        columns += [*(weighted_mean(weights[k], scores) for _, weights in alternative), own]
        combined = np.stack(columns, axis=1)
        if parents[k] >= 0:  # weights by finding, ranks and regressions can raise a child above its parent
            combined = np.minimum(combined, kept[parents[k]])
        if k in parents:
            kept[k] = combined
        mine[:, k] = combined[:, -1]
        areas[:, k] = auroc(np.repeat(split.target[:, [k]], len(columns), axis=1), combined)
    checkpoint = "+".join(origin.checkpoint_sha256 or "unknown" for origin in members.origins)
    return dict(zip(names, areas, strict=True)), Predictions(
        split.image, split.patient, split.findings, mine, split.target, checkpoint, split.name, split.attributes
    )


def _about(ensemble: Ensemble) -> dict[str, Any]:
    """Members, method and split for metrics.json."""
    origins, both = ensemble.members.origins, ensemble.members.patients_in_both
    known = {
        name: next((value for origin in origins if (value := getattr(origin, name))), None)
        for name in ("split_fingerprint", "labels_sha256")
    }
    unknown = [f"{source} of {origin.key}" for origin in origins for source in origin.unknown]
    return {
        **known,
        **({UNKNOWN: unknown} if unknown else {}),
        "checkpoint_sha256": {origin.key: origin.checkpoint_sha256 or None for origin in origins},
        "training_patients": {origin.key: origin.training_patients for origin in origins},
        "patient_disjoint": not both,
        "patients_in_val_and_test": len(both),
        **({"hierarchy": ensemble.members.hierarchy} if ensemble.members.hierarchy else {}),
        "method": ensemble.method.label,
        "learnt": ensemble.fit.record,
        "warnings": [*([overlap_warning(both)] if both else []), *ensemble.fit.warnings],
    }


def _weights(ensemble: Ensemble) -> dict[str, Any] | None:
    """Weights by key, shared or by finding."""
    weights = ensemble.fit.weights
    if weights is None:
        return None
    by_finding = [_by_key(ensemble, row) for row in weights]
    if (weights == weights[0]).all():
        return by_finding[0]
    return dict(zip(ensemble.members.validation.findings, by_finding, strict=True))


def _coefficients(ensemble: Ensemble) -> dict[str, Any] | None:
    """Coefficients of the members' logits and the intercept, by finding."""
    coefficients, findings = ensemble.fit.coefficients, ensemble.members.validation.findings
    if coefficients is None:
        return None
    return {
        finding: {"members": _by_key(ensemble, row[:-1]), "intercept": float(row[-1])}
        for finding, row in zip(findings, coefficients, strict=True)
    }


def _by_key(ensemble: Ensemble, row: NDArray[np.float64]) -> dict[str, float]:
    return {key: round(float(value), 10) for key, value in zip(ensemble.members.keys, row, strict=True)}


def _write_landscape(run: Run, seen: Landscape, ensemble: Ensemble) -> None:
    findings, names = ensemble.members.validation.findings, ensemble.names
    value, mean, label = _NAMES[seen.objective]
    weights = pd.DataFrame(seen.weights.round(10), columns=names)
    values = pd.DataFrame(seen.value, columns=[f"{value}:{name}" for name in findings])
    frame = pd.concat([weights, pd.DataFrame({mean: seen.macro}), values], axis=1)
    with replacing(run.path / "landscape.csv") as temporary:
        frame.to_csv(temporary, index=False)
    chosen = ensemble.fit.weights
    shared = chosen is not None and "robust" in ensemble.fit.record and (chosen == chosen[0]).all()
    robust = chosen[0].tolist() if shared and chosen is not None else None
    values = weights.assign(value=seen.macro)
    draw(run.figures / "landscape.png", ensemble_landscape, values, names, f"validation {label}", robust)
