"""The types of the options of programs that use finished runs."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cxr.configuration.kinds import Kind
from cxr.configuration.schema import (
    Accelerator,
    CacheHere,
    DataHere,
    Names,
    Plugins,
    Positive,
    Processes,
    Resamples,
    Seed,
    Several,
    Share,
    Tta,
)

Port = Annotated[int, Kind("0, which takes a free one, or a port", lambda value: value >= 0, maximum=65535)]
Runs = Annotated[str, Kind("a directory, a glob", example="runs='runs/*'")] | Several
Megabytes = Annotated[int, Kind("a positive whole number", lambda value: value > 0, maximum=1024)]


@dataclass(frozen=True, kw_only=True)
class Points:
    """`points`: rules with and without a value."""

    half: None
    youden: None
    f1: None
    sensitivity: Share
    specificity: Share


@dataclass(frozen=True, kw_only=True)
class TextHere:
    """`text` of `evaluate`."""

    file: str | None
    model: str | None


@dataclass(frozen=True, kw_only=True)
class CacheElsewhere(CacheHere):
    """`cache` of `evaluate`."""

    on_error: Literal["fail", "skip"] = "fail"


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The program `evaluate`."""

    run: Annotated[str, Kind("text", example="run=runs/a")]
    plugins: Plugins
    resamples: Resamples
    seed: Seed
    points: Points
    calibration: Literal["none", "temperature", "platt"]
    localisation: bool
    images: Literal["test", "all"] = "test"
    external: str | None = None
    zero_shot: Names
    tta: Tta = "none"
    text: TextHere
    accelerator: Accelerator
    data: DataHere
    cache: CacheElsewhere


@dataclass(frozen=True, kw_only=True)
class Compare:
    """The program `compare`."""

    runs: Runs
    split: str
    metric: Literal["auroc", "average_precision", "balanced_accuracy"]
    resamples: Resamples
    seed: Seed
    out: str | None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The program `transfer`."""

    runs: Runs
    out: str | None


@dataclass(frozen=True, kw_only=True)
class Predict:
    """The program `predict`."""

    run: str | None
    bundle: str | None
    digest: str | None
    images: Annotated[str, Kind("text", example="images=DIR, a folder of radiographs")]
    root: str | None
    out: Annotated[str, Kind("text", example="out=scores.parquet")]
    maps: str | None
    batch_size: Literal["auto"] | Positive
    workers: Literal["auto"] | Processes
    tta: Tta = "none"
    accelerator: Accelerator
    plugins: Plugins


@dataclass(frozen=True, kw_only=True)
class Export:
    """The program `export`."""

    run: Annotated[str, Kind("text", example="run=runs/a")]
    out: str | None
    int8: bool
    page: bool
    plugins: Plugins
    data: DataHere
    cache: CacheHere


@dataclass(frozen=True, kw_only=True)
class Serve:
    """The program `serve`."""

    bundle: Annotated[str, Kind("text", example="bundle=runs/a/bundle, which export wrote")]
    digest: str | None
    host: str
    port: Port
    queue: Positive
    megabytes: Megabytes
    plugins: Plugins
