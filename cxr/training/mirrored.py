"""Test-time augmentation `tta=flip`: a run beside a run, whose scores are means over an image and its mirror image."""

import json
import os
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from cxr.configuration.saved import read_configuration
from cxr.errors import CxrError
from cxr.files.writing import staged, unwritable, write_text
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import Run, name_taken_error
from cxr.training.checkpoint import read_checkpoint, state_sha256
from cxr.training.saving import write_checkpoint

_KEPT = (
    "train", "split_fingerprint", "labels_sha256", UNKNOWN, "checkpoint_sha256", "best_epoch", "max_epochs", "epochs",
    "steps",
)  # fmt: skip


def mirrored(run: Run) -> Run:
    """The run `<run>-flip` beside a run; made if it is missing.

    It has the weights and the configuration of the run with `tta: flip`, by which every program that scores with its
    network averages. Predictions, operating points and calibration are its own.

    Raises:
        CxrError: the run is unfinished or has no checkpoint, or the folder is something else.
    """
    if run.mirrors:
        return run
    made = Run(run.path.with_name(f"{run.path.name}-flip"))
    run.refuse_smoke()
    if run.unfinished or not run.best.exists():
        raise CxrError(
            f"tta=flip needs a finished training, and {run.path} is none; for an ensemble, pass it to ensemble"
        )
    content, config = read_checkpoint(run.best), run.config()
    if os.path.lexists(made.path):
        same = made.best.exists() and made.mirrors
        if not same or state_sha256(read_checkpoint(made.best)["state_dict"]) != state_sha256(content["state_dict"]):
            raise name_taken_error(made.path, f"and has other weights than {run.path}; rename it")
        return made
    about = content["cxr"]
    about["config"] = _with_flip(read_configuration(about["config"], f"the configuration in {run.best}"))
    metrics = run.metrics()
    kept: dict[str, Any] = {key: metrics[key] for key in _KEPT if key in metrics} | {"tta": "flip"}
    try:
        with staged(made.path) as staging:
            write_text(staging / "config.yaml", _with_flip(config | {"name": made.path.name}))
            write_checkpoint(content, Run(staging).best)
            write_text(staging / "metrics.json", json.dumps(kept, indent=1) + "\n")
            os.rename(staging, made.path)
    except OSError as error:
        raise unwritable(made.path, error) from error
    return made


def _with_flip(config: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create({**config, "tta": "flip"}))
