"""The types of all options, and defaults for keys that the configurations of earlier versions lack.

These classes check the configuration that Hydra composes from a command line, and the saved configuration of a run.
Keys that are not named here are not checked. A field has a default if earlier versions lacked the key; the defaults
that users see are in `conf/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from cxr.configuration.kinds import Kind, checked

Count = Annotated[int, Kind("0 or a positive whole number", lambda value: value >= 0)]
Positive = Annotated[int, Kind("a positive whole number", lambda value: value > 0)]
Seed = Annotated[int, Kind("0 or a positive whole number", lambda value: value >= 0, maximum=2**32 - 1)]
Pixels = Annotated[int, Kind("a positive whole number", lambda value: value > 0, maximum=2**14)]
Processes = Annotated[int, Kind("a positive whole number", lambda value: value > 0, maximum=1024)]
Workers = Annotated[int, Kind("0 or a positive whole number", lambda value: value >= 0, maximum=1024)]
Resamples = Annotated[int, Kind("a whole number, 2 or more", lambda value: value >= 2, maximum=10**6)]
Folds = Annotated[int, Kind("a whole number from 2 to 100", lambda value: 2 <= value <= 100)]
Above0 = Annotated[float, Kind("a finite number above 0", lambda value: value > 0)]
From0 = Annotated[float, Kind("a finite number, 0 or more", lambda value: value >= 0)]
Between = Annotated[float, Kind("above 0 and below 1", lambda value: 0 < value < 1)]
Below1 = Annotated[float, Kind("0 or more and below 1", lambda value: 0 <= value < 1)]
Share = Annotated[float, Kind("above 0 and at most 1", lambda value: 0 < value <= 1)]
Names = Annotated[list[str], Kind("a list of names, such as [Mass,Nodule]")]
Root = Annotated[str, Kind("text", example="data.root=DIR, the folder of the data set (see docs/data.md)")]
Several = Annotated[list[str], Kind("a list of them", lambda value: value != [])]
Plugins = str | list[str]
_EARLY_STOPPING = "cxr.training.callbacks.early_stopping.EarlyStopping"
Tta = Literal["none", "flip", "crops"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """`data`, without options of a single source."""

    source: dict[str, Any]
    root: Root
    train_list: str | None
    val_list: str | None
    test_list: str | None
    test_lists: dict[str, Any] = field(default_factory=dict)
    val_share: Between
    split_seed: Count
    folds: Folds | None = None
    fold: Count | None = None
    findings: Names | None
    exclude: Names
    min_cases: Count
    single_finding: bool = False
    on_missing: Literal["fail", "skip"]
    workers: Literal["auto"] | Workers


@dataclass(frozen=True, kw_only=True)
class Cache:
    """`cache`."""

    size: Pixels | None = None
    dir: str | None = None
    on_error: Literal["fail", "skip"] = "fail"
    processes: Processes | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingCache(Cache):
    """`cache` of a training."""

    local: str | None = None


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """`backbone`."""

    pretrained: bool
    weights: str | None


@dataclass(frozen=True, kw_only=True)
class Groups:
    """`optimizer.groups`."""

    layer_decay: Share | None = None
    decay_norms: bool = True


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """`optimizer`; null is the default of its class."""

    lr: From0 | None
    weight_decay: From0 | None
    groups: Groups = field(default_factory=dict)  # type: ignore[assignment]  # the defaults of its fields


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """`trainer`: the Lightning arguments that are in `conf/`."""

    accelerator: Accelerator
    devices: Literal["auto"] | Processes
    strategy: str
    precision: str | Literal[16, 32, 64]
    max_epochs: Positive
    gradient_clip_val: From0 | None
    deterministic: bool | Literal["warn"]
    limit_train_batches: Above0 | None
    log_every_n_steps: Positive
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`checkpoint`."""

    every_steps: Positive | None
    every_seconds: Above0 | None
    keep_best: Positive = 1


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """`early_stopping`."""

    monitor: str | None
    mode: Literal["min", "max"]
    patience: Count | None


_MULTI_LABEL = {"_target_": "cxr.task.multi_label.MultiLabel", "hierarchy": None, "conditional_epochs": 0}


@dataclass(frozen=True, kw_only=True)
class Train:
    """The program `train`, and the configuration of a run."""

    data: Data
    augment: dict[str, Any]
    sampler: dict[str, Any] = field(default_factory=lambda: {"_target_": "cxr.data.sampling.Shuffled"})
    mix: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    backbone: Backbone
    attention: dict[str, Any]
    fusion: dict[str, Any] = field(default_factory=lambda: {"_target_": "cxr.model.fusion.NoFusion"})
    head: dict[str, Any]
    task: dict[str, Any] = field(default_factory=lambda: dict(_MULTI_LABEL))
    loss: dict[str, Any]
    optimizer: Optimizer
    scheduler: dict[str, Any]
    trainer: Trainer
    logger: dict[str, Any] | None
    name: str | None = None
    sweep: str | None = None
    runs_dir: str = "runs"
    init: str | None = None
    init_head: bool = True
    freeze: Annotated[list[str], Kind("a list of backbone, attention, fusion and head")] = field(default_factory=list)
    plugins: Plugins = field(default_factory=list)
    resume: Literal[True, False, "auto"] = False
    score_test: bool = True
    seed: Seed
    image_size: Pixels
    batch_size: Positive
    synthetic_batch_size: Positive | None
    crop: bool = False
    cache: TrainingCache
    checkpoint: Checkpoint
    callbacks: dict[str, Any] | None = field(default_factory=dict)
    early_stopping: EarlyStopping | None = field(default_factory=lambda: None)  # none without that callback


@dataclass(frozen=True, kw_only=True)
class Tune:
    """The program `tune`."""

    space: dict[str, Any]
    study: Annotated[str, Kind("text", example="study=NAME")]
    trials: Positive
    metric: str
    mode: Literal["max", "min"]
    seeds: Positive
    warm_start: str | list[str]
    runs_dir: str
    train: list[str]


@dataclass(frozen=True, kw_only=True)
class CacheAlone:
    """The program `cache`."""

    data: Data
    verify: bool
    plugins: Plugins
    image_size: Pixels
    cache: Cache


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """The program `inspect`."""

    data: Data
    roles: str | None
    plugins: Plugins


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """The program `phantom`."""

    root: Annotated[str, Kind("text", example="root=DIR, a new folder")]
    layout: str
    images: Positive
    size: Pixels
    phantom_seed: Seed
    label_noise: From0
    processes: Processes | None


@dataclass(frozen=True, kw_only=True)
class DataHere:
    """`data` of the programs that read runs."""

    root: str | None
    file: str | None = None
    roles: str | None = None
    train_list: str | None
    val_list: str | None
    test_list: str | None
    test_lists: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CacheHere:
    """`cache` of the programs that read runs."""

    dir: str | None


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The program `ensemble`, and the configuration of an ensemble."""

    method: dict[str, Any]
    runs: Annotated[str, Kind("a directory, a glob", example="runs='[runs/a,runs/b]' or runs='runs/paper/*'")] | Several
    name: str | None
    runs_dir: str
    plugins: Plugins
    bootstrap: Annotated[int, Kind("0 or a positive whole number", lambda value: value >= 0, 10**6)]
    leave_one_out: bool
    seed: Seed
    tta: Tta = "none"
    accelerator: Accelerator
    data: DataHere
    cache: CacheHere


def of_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run or an ensemble of any version, in the format of this version."""
    if "method" in config:
        return checked(Ensemble, config)
    found = checked(Train, config)
    if found["task"].get("_target_") == _MULTI_LABEL["_target_"]:  # earlier versions had no hierarchies
        found["task"] = _MULTI_LABEL | found["task"]
    logger = found.get("logger") or {}
    if "_target_" in logger:  # version 0.1 had one logger, without a name
        name = next((name for name in ("wandb", "tensorboard") if name in str(logger["_target_"]).lower()), "csv")
        found["logger"] = {name: logger}
    stopping = config.get("early_stopping")
    if "callbacks" not in config and stopping:  # version 0.1 had early stopping as its only callback
        found["callbacks"] = {"early_stopping": {"_target_": _EARLY_STOPPING, **stopping}}
    if isinstance(found.get("choices"), dict):
        then = {"task": "multi_label", "mix": "none", "fusion": "none", "text": "none", "callbacks": "early_stopping"}
        found["choices"] = then | found["choices"]
    return found
