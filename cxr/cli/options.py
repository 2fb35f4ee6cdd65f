"""Turns a composed configuration into checked plain values, and applies the changes of a resumed run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxr.cli.mistakes import WITHOUT_VALIDATION
from cxr.configuration.kinds import UNSET, checked, missing_keys
from cxr.configuration.private import ELSEWHERE, PATHS, leaves, refuse_elsewhere, shorten_home
from cxr.configuration.schema import Train
from cxr.errors import CxrError
from cxr.files.naming import check_name
from cxr.run.directory import Run

_ON_RESUME = (
    "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "trainer", "data.workers",
    "checkpoint.every_steps", "checkpoint.every_seconds", "cache.dir", "cache.local", "cache.processes",
    "logger.wandb.offline", "score_test",
)  # fmt: skip
_HOUSEKEEPING = ("name", "sweep", "resume", "runs_dir", "plugins")


def plain(config: DictConfig, schema: type) -> dict[str, Any]:
    """The resolved and checked configuration as plain values, without keys that only start a run.

    Raises:
        CxrError: a value of the wrong type, or an interpolation that cannot be resolved.
    """
    try:
        content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise CxrError(f"the configuration cannot be resolved: {str(error).splitlines()[0]}") from error
    assert isinstance(content, dict)
    content = checked(schema, {str(key): value for key, value in content.items()})
    for key, value in leaves(content):
        if value == UNSET:
            raise CxrError(f"{key} is not set; pass {key}=VALUE")
    for key in ("name", "sweep"):
        check_name(content.get(key), key)
    trainer = content.get("trainer", {})
    for key in WITHOUT_VALIDATION:
        if key in trainer:
            raise CxrError(f"trainer.{key} is not supported: each epoch ends with a validation; use trainer.max_epochs")
    if trainer.get("deterministic") and trainer.get("benchmark"):
        raise CxrError("trainer.deterministic and trainer.benchmark exclude each other; set one of them")
    return {key: value for key, value in content.items() if key not in ("resume", "experiment", "runs_dir")}


def apply_resume(run: Run, config: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The saved configuration of a run with the changes that are allowed on resuming.

    Args:
        choices: group to the chosen option.
        overrides: of the command line.

    Raises:
        CxrError: the command line changes anything else, or `run` is not a training run.
    """
    saved = OmegaConf.create(run.config())
    absent = [*missing_keys(Train, saved), *["run_id"] * ("run_id" not in saved)]
    if absent:
        raise CxrError(f"{run.path} is not a training that can be resumed: its config.yaml lacks {', '.join(absent)}")
    if run.tta != "none":
        raise CxrError(
            f"{run.path} has the weights of another run and is not trained; resume the run without -{run.tta}"
        )
    shorten_home(saved)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in _HOUSEKEEPING or key.startswith("hydra"):
            continue
        if key in choices:  # a group: compare the chosen option
            then, now = OmegaConf.select(saved, f"choices.{key}"), choices[key]
        else:
            then, now = OmegaConf.select(saved, key), OmegaConf.select(config, key)
        if then == now:
            continue
        if str(then).startswith(ELSEWHERE) or _has_moved(str(key), then):
            for leaf in [leaf for leaf, value in leaves(OmegaConf.to_container(saved)) if value == then]:
                OmegaConf.update(saved, leaf, now)
            continue
        if key not in _ON_RESUME:
            raise CxrError(
                f"{key} is {then} in {run.path} and cannot become {now} on resuming; only trainer.max_epochs, devices, "
                "workers, checkpoint.*, cache.dir and score_test may change (start a new run for other changes)"
            )
        if key in choices:
            OmegaConf.update(saved, f"choices.{key}", now)
            for part in ("accelerator", "devices", "strategy", "precision"):
                OmegaConf.update(saved, f"{key}.{part}", config[key][part])
        else:
            OmegaConf.update(saved, key, now)
    if saved.trainer.strategy == "slurm" != config.trainer.strategy:  # the way this command was started counts
        saved.trainer.strategy, saved.trainer.devices = config.trainer.strategy, config.trainer.devices
    resumed = plain(saved, Train)
    places = {key: value for key, value in resumed.items() if key != "init" or not run.last.exists()}
    refuse_elsewhere(places, str(run.path))
    return resumed


def _has_moved(key: str, path: Any) -> bool:
    """Whether an option that names a file or folder was saved as an absolute path, or one below `~`, that is gone."""
    named = key in PATHS or key.startswith("data.test_lists.")
    return named and isinstance(path, str) and path.startswith(("/", "~")) and not Path(path).expanduser().exists()
