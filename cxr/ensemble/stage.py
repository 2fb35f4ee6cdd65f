"""The ensemble stage: members in, weights found on validation, a run directory like any other out."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import OmegaConf

from cxr.ensemble.combine import Fit, Method, others_of
from cxr.ensemble.members import SPLITS, Member, expand, line_up, load_member, short_names, stacked
from cxr.files import replacing, unwritable, write_text
from cxr.metrics.auroc import auroc
from cxr.metrics.summary import summarise
from cxr.predictions import Predictions
from cxr.report.figures import comparison, roc_curves
from cxr.report.maps import ensemble_landscape
from cxr.report.tables import as_text, auroc_table, write_table
from cxr.runs import Run, taken, versions
from cxr.targets import build


def run_ensemble(config: Mapping[str, Any], run: Run) -> float:
    """Builds an ensemble and returns its validation macro AUROC.

    Everything is written beside `run.path` and renamed at the end, so that nothing half-done carries its name.

    Raises:
        CxrError: members that do not fit together, or a name that is taken.
    """
    if run.path.exists():
        raise taken(run.path, "choose another name=")
    method: Method = build(config["method"])
    keys = expand(config["runs"])
    members = line_up([load_member(key, config["accelerator"]) for key in keys])
    fit = method.fit(stacked(members, "val"), members[0].predictions["val"].target)
    staging: Path | None = None
    try:
        run.path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{run.path.name}-", dir=run.path.parent))
        staging.chmod(0o755)
        result, table = _write(Run(staging), run.path.name, {**config, "runs": keys}, method, fit, members)
        if run.path.exists():
            raise taken(run.path, "choose another name=")
        os.rename(staging, run.path)
    except OSError as error:
        raise unwritable(run.path, error) from error
    finally:
        if staging is not None and staging.exists():
            shutil.rmtree(staging)  # our own, never published
    print(as_text(table, "test AUROC"))
    if fit.weights is not None:
        print(_said(fit, members))
    print(f"{run.path}: macro AUROC {_show(result['val'])} val, {_show(result['test'])} test")
    print(f"pictures are in {run.figures}", flush=True)
    value = result["val"]["macro_auroc"]
    return float("nan") if value is None else float(value)


def _write(
    run: Run, title: str, config: Mapping[str, Any], method: Method, fit: Fit, members: list[Member]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Writes every file of the ensemble; returns its metrics and the test table."""
    names = short_names([member.key for member in members])
    write_text(run.config_path, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    metrics: dict[str, Any] = {}
    tables = {}
    for split in SPLITS:
        reference = members[0].predictions[split]
        scores = stacked(members, split)
        mine = method.combine(scores, fit)
        checkpoint = "+".join(member.checkpoint_sha256 or "unknown" for member in members)
        predicted = Predictions(
            reference.image, reference.patient, reference.findings, mine, reference.target, checkpoint
        )
        predicted.write(run.predictions(split))
        metrics[split] = summarise(predicted.target, predicted.score, predicted.findings)
        columns = {name: member.predictions[split].score for name, member in zip(names, members, strict=True)}
        for other in others_of(method):
            columns[other.label] = other.combine(scores, other.fit(scores, reference.target))
        columns[method.label] = mine
        areas = {name: auroc(reference.target, score) for name, score in columns.items()}
        tables[split] = auroc_table(areas, reference.findings)
        write_table(tables[split], run.path / ("table" if split == "test" else f"table_{split}"))
        comparison(tables[split], run.figures / f"comparison_{split}.png", f"{title}, {split}")
        roc_curves(
            predicted.target, predicted.score, predicted.findings, run.figures / f"roc_{split}.png", f"{title}, {split}"
        )
    weights = _weights(fit, members)
    if weights is not None:
        write_text(run.path / "weights.json", json.dumps(weights, indent=1) + "\n")
    _write_landscape(run, fit, names, members)
    metrics |= {
        "split_fingerprint": members[0].split_fingerprint or None,
        "labels_sha256": members[0].labels_sha256 or None,
        "checkpoint_sha256": {member.key: member.checkpoint_sha256 or None for member in members},
        "method": method.label,
        "weights": weights,
        "versions": versions(),
    }
    write_text(run.metrics_path, json.dumps(metrics, indent=1) + "\n")
    return metrics, tables["test"]


def _weights(fit: Fit, members: list[Member]) -> dict[str, Any] | None:
    """Weights by key, shared or by finding."""
    if fit.weights is None:
        return None
    keys = [member.key for member in members]
    by_finding = [dict(zip(keys, _plain(row), strict=True)) for row in fit.weights]
    if (fit.weights == fit.weights[0]).all():
        return by_finding[0]
    return dict(zip(members[0].predictions["val"].findings, by_finding, strict=True))


def _plain(row: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 10) for value in row]


def _write_landscape(run: Run, fit: Fit, names: list[str], members: list[Member]) -> None:
    if fit.landscape is None:
        return
    findings = members[0].predictions["val"].findings
    weights = pd.DataFrame(fit.landscape.weights.round(10), columns=names)
    values = pd.DataFrame(fit.landscape.auroc, columns=[f"auroc:{name}" for name in findings])
    frame = pd.concat([weights, pd.DataFrame({"macro_auroc": fit.landscape.macro}), values], axis=1)
    with replacing(run.path / "landscape.csv") as temporary:
        frame.to_csv(temporary, index=False)
    picture = weights.assign(value=fit.landscape.macro)
    ensemble_landscape(picture, names, run.figures / "landscape.png")


def _said(fit: Fit, members: list[Member]) -> str:
    weights = _weights(fit, members)
    assert weights is not None
    if any(isinstance(value, dict) for value in weights.values()):
        return "weights differ by finding: see weights.json"
    return "weights: " + ", ".join(f"{key} {value:.3g}" for key, value in weights.items())


def _show(metrics: Mapping[str, Any]) -> str:
    value = metrics["macro_auroc"]
    return "undefined" if value is None else f"{value:.4f}"
