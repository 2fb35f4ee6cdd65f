"""From a configuration to checked data: everything that can be refused before a run directory appears."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cxr.configuration.private import refuse_elsewhere
from cxr.configuration.targets import build
from cxr.data.augment import Augmentation
from cxr.data.cache import Cache, CacheSettings, open_or_build
from cxr.data.catalog import Catalog
from cxr.data.datamodule import LoaderSettings, RadiographData, View
from cxr.data.sampling import Order, Shuffled
from cxr.data.split import check_split, split_fingerprint
from cxr.errors import CxrError, first_line
from cxr.training.reading import read_catalog

_AUTO_WORKERS = 8


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    Attributes:
        catalog: checked, split, with the findings of the run.
        cache: of its images.
        split_fingerprint: see `cxr.data.split`.
        labels_sha256: see `cxr.data.catalog`.
    """

    catalog: Catalog
    cache: Cache
    split_fingerprint: str
    labels_sha256: str


@dataclass(frozen=True)
class Devices:
    """What the trainer group resolves to on this machine.

    Attributes:
        accelerator: `cpu` or `gpu`.
        count: processes, one a device.
        precision: Lightning's name.
    """

    accelerator: str
    count: int
    precision: str


def prepare(config: Mapping[str, Any], build: bool = True) -> Prepared:
    """Reads, checks, splits and caches the data of a resolved configuration.

    Args:
        config: resolved.
        build: a cache that is missing, and write its report.

    Raises:
        CxrError: whatever is wrong with the data.
    """
    catalog = read_catalog(config)
    cache, kept = open_or_build(catalog, config["data"]["root"], CacheSettings.of(config), build)
    if len(kept) < len(catalog):
        check_split(kept)  # images that were left out may have been all of a split
    return Prepared(kept, cache, split_fingerprint(kept), kept.labels_sha256)


def open_data(
    prepared: Prepared,
    config: Mapping[str, Any],
    rank: int = 0,
    ranks: int = 1,
    accelerator: str = "cpu",
    start: tuple[int, int] = (0, 0),
) -> RadiographData:
    """The loaders of one rank, from the epoch and batch that a run goes on with."""
    seed = int(config["seed"])
    settings = LoaderSettings(
        batch_size=int(config["batch_size"]),
        workers=_workers(config["data"]["workers"], accelerator),
        seed=seed,
        rank=rank,
        ranks=ranks,
        pin_memory=accelerator == "gpu",
    )
    augmentation, order = build_augmentation(config)
    return RadiographData(prepared.catalog, prepared.cache, view_of(config), settings, augmentation, order, start)


def data_to_score(
    config: Mapping[str, Any], named: Mapping[str, Any], run: str
) -> tuple[RadiographData, dict[str, Any]]:
    """The data of a finished run for scores or attention maps.

    Training alone writes where a run's configuration says. Here its folders are read; data are drawn or a cache is
    built only in a folder that the user names.

    Args:
        config: of the run, which may come from anybody.
        named: what the user says in its place: `data` with root and lists, `cache` with dir; null where it says none.
        run: what errors call it.

    Returns:
        The loaders, and the configuration with the paths that were named.

    Raises:
        CxrError: data or cache are missing and no folder is named for them, or the configuration is not a run's.
    """
    where = dict(named.get("data") or {})
    further = where.pop("test_lists", None) or {}
    places = {key: str(value) for key, value in where.items() if value is not None}
    directory = (named.get("cache") or {}).get("dir")
    try:
        data = {**config["data"], **places}
        data["test_lists"] = {**(data.get("test_lists") or {}), **further}
        if "root" in data["source"]:
            data["source"] = {**data["source"], "root": data["root"]}
        cache = {**config["cache"]} | ({"dir": directory} if directory or "root" in places else {})
        changed = {**config, "data": data, "cache": cache}
        refuse_elsewhere({"data": data, "cache": cache}, run)
        root = Path(str(data["root"])).expanduser()
        if "root" not in places and not (root.is_dir() and any(root.iterdir())):
            raise CxrError(f"{run} has to be scored, and its data.root={root} is not there; pass data.root=DIR")
        return open_data(prepare(changed, build=bool(directory or "root" in places)), changed), changed
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise CxrError(f"the data of {run} cannot be read as its configuration says: {first_line(error)}") from error


def build_augmentation(config: Mapping[str, Any]) -> tuple[Augmentation, Order]:
    """How training images are changed, and in which order they come.

    Raises:
        CxrError: an argument of either.
    """
    transforms = [build(transform) for transform in config["augment"]["transforms"]]
    order: Order = build(config["sampler"]) if "sampler" in config else Shuffled()  # runs of earlier versions have none
    return Augmentation(transforms, int(config["seed"])), order


def view_of(config: Mapping[str, Any]) -> View:
    """What the network sees of the cache's images.

    Raises:
        CxrError: there is nothing to crop from.
    """
    view, cached = View(int(config["image_size"]), bool(config.get("crop", False))), CacheSettings.of(config).size
    if view.crop and cached < view.size:
        raise CxrError(
            f"crop=true cuts {view.size} px out of a cache of {cached} px; raise cache.size or lower image_size"
        )
    return view


def resolve_devices(trainer: Mapping[str, Any]) -> Devices:
    """Accelerator, number of devices and precision from what this machine has.

    Raises:
        CxrError: a GPU is asked for and there is none, or more devices than there are.
    """
    gpus = torch.cuda.device_count()
    accelerator = trainer["accelerator"]
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    accelerator = {"cuda": "gpu"}.get(accelerator, accelerator)
    if accelerator not in ("cpu", "gpu"):
        raise CxrError(f"trainer.accelerator={accelerator} is unknown; choose auto, cpu or gpu")
    if accelerator == "gpu" and not gpus:
        raise CxrError("trainer.accelerator=gpu, but no CUDA GPU is found here; use trainer=cpu")
    count = trainer["devices"]
    if count == "auto":
        count = (gpus if accelerator == "gpu" else 2) if trainer["strategy"] == "ddp" else 1
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise CxrError(f"trainer.devices={count} must be auto or a positive number")
    if accelerator == "gpu" and count > gpus:
        raise CxrError(f"trainer.devices={count}, but {gpus} GPUs are found here; lower trainer.devices")
    return Devices(accelerator, count, _precision(str(trainer["precision"]), accelerator))


def accumulation(config: Mapping[str, Any], devices: int) -> int:
    """Batches a window: the synthetic batch over what all devices take at once.

    Raises:
        CxrError: a size is not a positive whole number, or they do not divide.
    """
    batch, synthetic = config["batch_size"], config["synthetic_batch_size"]
    for name, value in (("batch_size", batch), ("synthetic_batch_size", synthetic)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise CxrError(f"{name}={value} must be a positive whole number")
    if synthetic is None:
        return 1
    if synthetic % (batch * devices):
        raise CxrError(
            f"synthetic_batch_size={synthetic} is not a multiple of batch_size={batch} times {devices} device(s); "
            f"make it one, for example {batch * devices * max(1, round(synthetic / (batch * devices)))}"
        )
    return int(synthetic // (batch * devices))


def check_workers(config: Mapping[str, Any]) -> None:
    """Raises CxrError unless `data.workers` is auto or a number."""
    _workers(config["data"]["workers"], "cpu")


def _precision(name: str, accelerator: str) -> str:
    if name != "auto":
        return name
    if accelerator == "cpu":
        return "32-true"  # bf16 autocast on a CPU without AMX is many times slower
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def _workers(value: int | str, accelerator: str) -> int:
    if value != "auto":
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise CxrError(f"data.workers={value} must be auto, 0 or a positive number")
        return value
    return _AUTO_WORKERS if accelerator == "gpu" else 0
