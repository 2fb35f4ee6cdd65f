"""The ensemble stage: members in, weights found on validation, a run directory like any other out."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from cxr.configuration.kinds import checked
from cxr.configuration.plugins import own_configuration
from cxr.configuration.schema import Ensemble as Options
from cxr.configuration.targets import build
from cxr.ensemble.guard import said_of_overlap
from cxr.ensemble.members import expand, gather
from cxr.ensemble.method import Method
from cxr.ensemble.write import Ensemble, write_ensemble
from cxr.figures.tables import method_table
from cxr.files.writing import staged, unwritable
from cxr.run.directory import Run, name_taken_error
from cxr.run.ledger import ledger_beside

_TELLING = 6  # members up to which weights are printed by name


def run_ensemble(config: Mapping[str, Any], run: Run) -> float:
    """Builds an ensemble and returns its validation macro AUROC.

    Everything is written beside `run.path` and renamed at the end, so that nothing half-done carries its name.

    Raises:
        CxrError: members that do not fit together, or a name that is taken.
    """
    if run.path.exists():
        raise name_taken_error(run.path, "choose another name=")
    config = checked(Options, config)
    with own_configuration():
        method: Method = build(config["method"])
    keys = expand(config["runs"])
    ledger_beside(run.path)
    try:
        with staged(run.path) as staging:
            scratch = staging / ".members"
            members = gather(keys, config["accelerator"], scratch, config)
            if members.patients_in_both:
                print(f"WARNING: {said_of_overlap(members.patients_in_both)}", flush=True)
            fit = method.fit(members.validation)
            for warning in fit.warnings:
                print(f"WARNING: {warning}", flush=True)
            # Where images of members lie on this machine is no part of the ensemble.
            saved = {key: value for key, value in config.items() if key not in ("data", "cache")}
            ensemble = Ensemble(run.path.name, {**saved, "runs": keys}, method, fit, members)
            resamples, seed = config["bootstrap"], config["seed"]
            written = write_ensemble(Run(staging), ensemble, resamples, config["leave_one_out"], seed)
            shutil.rmtree(scratch, ignore_errors=True)  # our own, never published
            if run.path.exists():
                raise name_taken_error(run.path, "choose another name=")
            os.rename(staging, run.path)
    except OSError as error:
        raise unwritable(run.path, error) from error
    print(method_table(written.table, "test AUROC").as_text())
    for line in [*_said(ensemble), *written.report.said(method.label), *written.notes]:
        print(line)
    value = written.metrics["val"]["macro_auroc"]
    print(f"{run.path}: macro AUROC {_show(value)} val, {_show(written.metrics['test']['macro_auroc'])} test")
    print(f"pictures are in {run.figures}", flush=True)
    return float("nan") if value is None else float(value)


def _said(ensemble: Ensemble) -> list[str]:
    """The weights, if they are few."""
    weights, keys = ensemble.fit.weights, ensemble.members.keys
    if weights is None:
        return []
    if not (weights == weights[0]).all():
        return ["weights differ by finding: see weights.json"]
    order = np.argsort(-weights[0], kind="stable") if len(keys) > _TELLING else np.arange(len(keys))
    more = f" and {len(keys) - _TELLING} more, see weights.json" if len(keys) > _TELLING else ""
    robust = ensemble.fit.record.get("robust")
    kept = [_said_of_robust(robust)] if robust else []
    return ["weights: " + ", ".join(f"{keys[m]} {weights[0, m]:.3g}" for m in order[:_TELLING]) + more, *kept]


def _said_of_robust(record: Mapping[str, Any]) -> str:
    gain, error = record["gain"], record["standard_error"]
    measured = "undefined" if gain is None or error is None else f"{gain:+.4f} (standard error {error:.4f})"
    return (
        f"robust: {record['share']:.0%} of the way from equal to the searched weights; their validation gain over "
        f"equal weights is {measured}; method.robust=false takes the searched weights"
    )


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
