"""Test-time augmentation `tta`: a run beside a run, whose scores are means over views of each image."""

import json
import os
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from cxr.configuration.saved import read_configuration
from cxr.errors import CxrError
from cxr.files.writing import staged, unwritable, write_text
from cxr.imaging.preprocessing import read_preprocessing
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import Run, name_taken_error
from cxr.training.checkpoint import check_crops, read_checkpoint, state_sha256
from cxr.training.saving import write_checkpoint

_KEPT = (
    "train", "split_fingerprint", "labels_sha256", UNKNOWN, "checkpoint_sha256", "best_epoch", "max_epochs", "epochs",
    "steps",
)  # fmt: skip


def averaged(run: Run, tta: str) -> Run:
    """The run `<run>-<tta>` beside a run; made if it is missing.

    It has the weights and the configuration of the run with `tta`, by which every program that scores with its network
    averages. Predictions, operating points and calibration are its own.

    Args:
        tta: `flip`, an image and its mirror image; or `crops`, the middle and the four corners of the cached image.

    Raises:
        CxrError: the run is unfinished, has no checkpoint, averages over other views or was trained without crops; or
            the folder is something else.
    """
    if run.tta == tta:
        return run
    if run.tta != "none":
        raise CxrError(f"{run.path} has tta={run.tta}; for tta={tta}, pass the run without -{run.tta}")
    made = Run(run.path.with_name(f"{run.path.name}-{tta}"))
    run.refuse_smoke()
    if run.unfinished or not run.best.exists():
        raise CxrError(
            f"tta={tta} needs a finished training, and {run.path} is none; for an ensemble, pass it to ensemble"
        )
    content, config = read_checkpoint(run.best), run.config()
    if tta == "crops":
        check_crops(read_preprocessing(content["cxr"].get("preprocessing"), str(run.best)), run.path)
    if os.path.lexists(made.path):
        same = made.best.exists() and made.tta == tta
        if not same or state_sha256(read_checkpoint(made.best)["state_dict"]) != state_sha256(content["state_dict"]):
            raise name_taken_error(made.path, f"and has other weights than {run.path}; rename it")
        return made
    about = content["cxr"]
    about["config"] = _with(tta, read_configuration(about["config"], f"the configuration in {run.best}"))
    metrics = run.metrics()
    kept: dict[str, Any] = {key: metrics[key] for key in _KEPT if key in metrics} | {"tta": tta}
    try:
        with staged(made.path) as staging:
            write_text(staging / "config.yaml", _with(tta, config | {"name": made.path.name}))
            write_checkpoint(content, Run(staging).best)
            write_text(staging / "metrics.json", json.dumps(kept, indent=1) + "\n")
            os.rename(staging, made.path)
    except OSError as error:
        raise unwritable(made.path, error) from error
    return made


def _with(tta: str, config: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create({**config, "tta": tta}))
