"""Checks of values on the command line that need no data, and what a resumed run may change."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxr.cli.mistakes import WITHOUT_VALIDATION
from cxr.configuration.private import ELSEWHERE, leaves, refuse_elsewhere, shorten_home
from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.run.naming import check_name

_POSITIVE = ("batch_size",)
_COUNTS = ("seed", "data.min_cases", "data.split_seed")
_LISTS = ("data.findings", "data.exclude")
_ON_RESUME = (
    "trainer.max_epochs", "trainer.devices", "trainer.accelerator", "trainer", "data.workers",
    "checkpoint.every_steps", "checkpoint.every_seconds", "cache.dir", "cache.processes", "logger.wandb.offline",
)  # fmt: skip
_NEEDED = (
    "data", "augment", "backbone", "attention", "head", "loss", "optimizer", "scheduler", "trainer", "logger", "cache",
    "checkpoint", "seed", "image_size", "batch_size", "synthetic_batch_size", "run_id",
)  # fmt: skip
_EARLY_STOPPING = "cxr.training.callbacks.early_stopping.EarlyStopping"
_HOUSEKEEPING = ("name", "sweep", "resume", "runs_dir")


def check_train_options(config: DictConfig) -> None:
    """Raises CxrError for a value of the wrong kind."""
    check_name(config.name, "name")
    check_name(config.sweep, "sweep")
    if config.resume not in (True, False, "auto"):
        raise CxrError(f"resume={config.resume} is unknown; choose true, false or auto")
    _check_cache(config)
    _check(config, "crop", lambda value: value in (True, False), "true or false")
    steps, seconds = "checkpoint.every_steps", "checkpoint.every_seconds"
    _check(config, steps, lambda value: value is None or (_whole(value) and value > 0), "a positive whole number")
    _check(config, "checkpoint.keep_best", lambda value: _whole(value) and value > 0, "a positive whole number")
    _check(config, seconds, lambda value: value is None or (_number(value) and value > 0), "a number above 0")
    for key in _POSITIVE:
        _check(config, key, lambda value: _whole(value) and value > 0, "a positive whole number")
    for key in _COUNTS:
        _check(config, key, lambda value: _whole(value) and value >= 0, "0 or a positive whole number")
    for key in _LISTS:
        _check(config, key, lambda value: value is None or OmegaConf.is_list(value), "a list, such as [Mass,Nodule]")
    _check(config, "trainer.max_epochs", lambda value: _whole(value) and value >= 1, "a positive whole number")
    _check(config, "data.val_share", lambda value: isinstance(value, float) and 0 < value < 1, "between 0 and 1")
    for key in ("optimizer.lr", "optimizer.weight_decay"):
        _check(config, key, lambda value: isinstance(value, int | float) and value >= 0, "a number, 0 or more")
    if config.data.root is None:
        raise CxrError("data.root is not set; pass data.root=DIR, the folder of the data set (see docs/data.md)")
    for key in WITHOUT_VALIDATION:
        if key in config.trainer:
            raise CxrError(f"trainer.{key} is not supported: each epoch ends with a validation; use trainer.max_epochs")
    if config.trainer.deterministic and config.trainer.get("benchmark"):
        raise CxrError("trainer.deterministic and trainer.benchmark exclude each other; set one of them")
    if OmegaConf.select(config, "backbone.pretrained") not in (True, False):
        raise CxrError(f"backbone.pretrained={config.backbone.pretrained} must be true or false")


def check_cache_options(config: DictConfig) -> None:
    """Raises CxrError for a value of the wrong kind."""
    if config.verify not in (True, False):
        raise CxrError(f"verify={config.verify} must be true or false")
    if config.data.root is None:
        raise CxrError("data.root is not set; pass data.root=DIR, the folder of the data set (see docs/data.md)")
    _check_cache(config)


def check_report_options(config: DictConfig) -> None:
    """Raises CxrError if it is not said what is to be judged or compared."""
    for key, example in (("run", "runs/a"), ("runs", "'runs/*'")):
        if key in config and OmegaConf.is_missing(config, key):
            raise CxrError(f"{key} is not set; pass {key}={example}")


def _check_cache(config: DictConfig) -> None:
    _check(config, "image_size", lambda value: _whole(value) and value > 0, "a positive whole number")
    for key in ("cache.size", "cache.processes"):
        _check(config, key, lambda value: value is None or (_whole(value) and value > 0), "a positive whole number")
    if config.cache.on_error not in ("fail", "skip"):
        raise CxrError(f"cache.on_error={config.cache.on_error} is unknown; choose fail or skip")


def check_ensemble_options(config: DictConfig) -> None:
    """Raises CxrError for a missing or unusable value."""
    check_name(config.name, "name")
    if OmegaConf.is_missing(config, "runs"):
        raise CxrError("runs is missing; pass runs='[runs/a,runs/b]' or a glob such as runs='runs/paper/*'")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, without what only starts a run.

    Raises:
        CxrError: a reference in it cannot be resolved.
    """
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise CxrError(f"the configuration cannot be resolved: {str(error).splitlines()[0]}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key not in ("resume", "experiment", "runs_dir")}


def apply_resume(run: Run, config: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The saved configuration of a run with the changes that a resumed run may make.

    Raises:
        CxrError: the command line gives another value than the saved one to anything else, which is named; or `run`
            is no training.
    """
    saved = OmegaConf.create(run.config())
    absent = [key for key in _NEEDED if key not in saved]
    if absent:
        raise CxrError(f"{run.path} is no training that could go on: its config.yaml lacks {', '.join(absent)}")
    shorten_home(saved)
    if "_target_" in (saved.logger or {}):  # runs of earlier versions have one logger, without its name
        name = next((name for name in ("wandb", "tensorboard") if name in str(saved.logger._target_).lower()), "csv")
        saved.logger = {name: saved.logger}
    if "task" not in saved:  # runs of earlier versions
        saved.task = {"_target_": "cxr.task.multi_label.MultiLabel"}
        OmegaConf.update(saved, "choices.task", "multi_label")
    if "callbacks" not in saved:  # runs of earlier versions have early stopping alone
        stopping = saved.get("early_stopping")
        saved.callbacks = {"early_stopping": {"_target_": _EARLY_STOPPING, **stopping}} if stopping else {}
        OmegaConf.update(saved, "choices.callbacks", "early_stopping")
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in _HOUSEKEEPING or key.startswith("hydra"):
            continue
        if key in choices:  # a group: compare which option was chosen
            then, now = OmegaConf.select(saved, f"choices.{key}"), choices[key]
        else:
            then, now = OmegaConf.select(saved, key), OmegaConf.select(config, key)
        if then == now:
            continue
        if str(then).startswith(ELSEWHERE):  # a run from another machine is told where things lie here
            for leaf in [leaf for leaf, value in leaves(OmegaConf.to_container(saved)) if value == then]:
                OmegaConf.update(saved, leaf, now)
            continue
        if key not in _ON_RESUME:
            raise CxrError(
                f"{key} is {then} in {run.path} and cannot become {now} on resuming; only trainer.max_epochs, devices, "
                "workers, checkpoint.* and cache.dir may change (start a new run for anything else)"
            )
        if key in choices:
            OmegaConf.update(saved, f"choices.{key}", now)
            for part in ("accelerator", "devices", "strategy", "precision"):
                OmegaConf.update(saved, f"{key}.{part}", config[key][part])
        else:
            OmegaConf.update(saved, key, now)
    resumed = plain(saved)
    refuse_elsewhere(resumed, str(run.path))
    return resumed


def _check(config: DictConfig, key: str, holds: Any, wanted: str) -> None:
    value = OmegaConf.select(config, key)
    if value is None and key in ("optimizer.weight_decay", "optimizer.lr"):
        return
    if not holds(value):
        raise CxrError(f"{key}={value} must be {wanted}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
