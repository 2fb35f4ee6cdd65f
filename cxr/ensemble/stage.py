"""The ensemble stage: loads members, fits a method on validation, and writes a run directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxr.configuration.plugins import user_configuration
from cxr.configuration.targets import build
from cxr.ensemble.guard import overlap_warning
from cxr.ensemble.members import expand, gather
from cxr.ensemble.method import Method
from cxr.ensemble.write import Ensemble, write_ensemble
from cxr.errors import CxrError
from cxr.figures.tables import method_table
from cxr.files.writing import staged, unwritable
from cxr.run.directory import Run, name_taken_error
from cxr.run.folds import fold_of
from cxr.run.ledger import ledger_beside
from cxr.training.averaged import averaged

_PRINTED = 6  # members whose weights are printed


def run_ensemble(config: Mapping[str, Any], run: Run) -> float:
    """Builds an ensemble and returns its validation macro AUROC.

    Everything is written to a folder beside `run.path`, which is renamed at the end.

    Raises:
        CxrError: members that do not fit together, or a name that is taken.
    """
    if run.path.exists():
        raise name_taken_error(run.path, "choose another name=")
    with user_configuration():
        method: Method = build(config["method"])
    keys = expand(config["runs"])
    if config["tta"] != "none":
        keys = list(dict.fromkeys(str(averaged(Run(Path(key)), config["tta"]).path) for key in keys))
    if not method.fixed and any(
        fold_of(Run(Path(key)).config()) for key in keys if Run(Path(key)).config_path.exists()
    ):
        raise CxrError(
            f"method={method.label} is fitted on validation images that all members score, and folds share none; use "
            "method=average, geometric, rank_average, max_vote or hard_vote"
        )
    ledger_beside(run.path)
    try:
        with staged(run.path) as staging:
            members = gather(keys, config["accelerator"], config)
            if members.patients_in_both:
                print(f"WARNING: {overlap_warning(members.patients_in_both)}", flush=True)
            fit = method.fit(members.validation)
            for warning in fit.warnings:
                print(f"WARNING: {warning}", flush=True)
            # The folders of the members' images on this machine are not saved.
            saved = {key: value for key, value in config.items() if key not in ("data", "cache")}
            ensemble = Ensemble(run.path.name, {**saved, "runs": keys}, method, fit, members)
            resamples, seed = config["bootstrap"], config["seed"]
            written = write_ensemble(Run(staging), ensemble, resamples, config["leave_one_out"], seed)
            if run.path.exists():
                raise name_taken_error(run.path, "choose another name=")
            os.rename(staging, run.path)
    except OSError as error:
        raise unwritable(run.path, error) from error
    print(method_table(written.table, "test AUROC").as_text())
    for line in [*_weights(ensemble), *written.report.summary(method.label), *written.notes]:
        print(line)
    val, test = (written.metrics[split]["macro_auroc"] for split in ("val", "test"))
    shown = ["undefined" if value is None else f"{value:.4f}" for value in (val, test)]
    print(f"{run.path}: macro AUROC {shown[0]} val, {shown[1]} test")
    print(f"figures are in {run.figures}", flush=True)
    return float("nan") if val is None else float(val)


def _weights(ensemble: Ensemble) -> list[str]:
    """Lines about the weights: the largest of shared ones, and the rule of robust ones."""
    weights, keys = ensemble.fit.weights, ensemble.members.keys
    if weights is None:
        return []
    if not (weights == weights[0]).all():
        return ["weights differ by finding: see weights.json"]
    more = len(keys) - _PRINTED
    order = np.argsort(-weights[0], kind="stable") if more > 0 else np.arange(len(keys))
    shown = ", ".join(f"{keys[m]} {weights[0, m]:.3g}" for m in order[:_PRINTED])
    lines = [f"weights: {shown}" + (f" and {more} more, see weights.json" if more > 0 else "")]
    rule = ensemble.fit.record.get("robust")
    if rule:
        gain, error = rule["gain"], rule["standard_error"]
        value = "undefined" if gain is None or error is None else f"{gain:+.4f} (standard error {error:.4f})"
        lines.append(
            f"robust: {rule['share']:.0%} of the way from equal to the searched weights; their validation gain over "
            f"equal weights is {value}; method.robust=false uses the searched weights"
        )
    return lines
