"""What the trainer group resolves to on this machine: accelerator, number of devices, precision, loader processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cxr.errors import CxrError

_AUTO_WORKERS = 8


@dataclass(frozen=True)
class Devices:
    """What a run computes on.

    Attributes:
        accelerator: `cpu` or `gpu`.
        count: processes, one a device.
        precision: Lightning's name.
    """

    accelerator: str
    count: int
    precision: str


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
    if accelerator == "gpu" and not gpus:
        raise CxrError("trainer.accelerator=gpu, but no CUDA GPU is found here; use trainer=cpu")
    count = trainer["devices"]
    if count == "auto":
        count = (gpus if accelerator == "gpu" else 2) if trainer["strategy"] == "ddp" else 1
    if accelerator == "gpu" and count > gpus:
        raise CxrError(f"trainer.devices={count}, but {gpus} GPUs are found here; lower trainer.devices")
    return Devices(accelerator, count, _precision(str(trainer["precision"]), accelerator))


def accumulation(config: Mapping[str, Any], devices: int) -> int:
    """Batches a window: the synthetic batch over what all devices take at once.

    Raises:
        CxrError: they do not divide.
    """
    batch, synthetic = config["batch_size"], config["synthetic_batch_size"]
    if synthetic is None:
        return 1
    if synthetic % (batch * devices):
        raise CxrError(
            f"synthetic_batch_size={synthetic} is not a multiple of batch_size={batch} times {devices} device(s); "
            f"make it one, for example {batch * devices * max(1, round(synthetic / (batch * devices)))}"
        )
    return int(synthetic // (batch * devices))


def loader_processes(value: int | str, accelerator: str) -> int:
    """The number that `data.workers` stands for; auto is 8 with a GPU, 0 without."""
    if isinstance(value, int):
        return value
    return _AUTO_WORKERS if accelerator == "gpu" else 0


def device_of(accelerator: str) -> torch.device:
    """The device of Lightning's accelerator name, for work outside its Trainer."""
    wants_gpu = accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if wants_gpu else torch.device("cpu")


def _precision(name: str, accelerator: str) -> str:
    if name != "auto":
        return name
    if accelerator == "cpu":
        return "32-true"  # bf16 autocast on a CPU without AMX is many times slower
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
