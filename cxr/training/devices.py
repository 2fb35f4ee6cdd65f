"""The trainer group resolved on this machine: accelerator, number of devices, precision and loader processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cxr.errors import CxrError
from cxr.processes.ranks import given_rank

_AUTO_WORKERS = 8


@dataclass(frozen=True)
class Devices:
    """The devices of a run.

    Attributes:
        accelerator: `cpu` or `gpu`.
        count: number of devices and processes, on all hosts.
        precision: Lightning's name of it.
    """

    accelerator: str
    count: int
    precision: str


def resolve_devices(trainer: Mapping[str, Any]) -> Devices:
    """Accelerator, number of devices and precision from what this machine has; float32 is computed without TF32.

    Raises:
        CxrError: see `count_devices`.
    """
    _exact_float32()
    accelerator, count = count_devices(trainer)
    return Devices(accelerator, count, _precision(str(trainer["precision"]), accelerator))


def count_devices(trainer: Mapping[str, Any]) -> tuple[str, int]:
    """Accelerator and number of devices; a GPU is not initialized.

    Raises:
        CxrError: a GPU or a number of GPUs is requested that this machine does not have, or a number of devices that
            torchrun or SLURM did not start.
    """
    gpus = torch.cuda.device_count()
    accelerator = trainer["accelerator"]
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    accelerator = {"cuda": "gpu"}.get(accelerator, accelerator)
    if accelerator == "gpu" and not gpus:
        raise CxrError("trainer.accelerator=gpu, but this machine has no CUDA GPU; use trainer=cpu")
    count, rank = trainer["devices"], given_rank(str(trainer["strategy"]))
    if rank:
        if count not in ("auto", 1, rank.count):  # 1 is the default of several options
            raise CxrError(
                f"trainer.devices={count}, but {rank.count} processes were started; leave trainer.devices out"
            )
        return accelerator, rank.count
    if count == "auto":
        count = (gpus if accelerator == "gpu" else 2) if trainer["strategy"] == "ddp" else 1
    if accelerator == "gpu" and count > gpus:
        raise CxrError(f"trainer.devices={count}, but this machine has {gpus} GPUs; lower trainer.devices")
    return accelerator, count


def accumulation(config: Mapping[str, Any], devices: int) -> int:
    """Batches per optimizer step on each device: synthetic_batch_size / (batch_size * devices).

    Raises:
        CxrError: the result is not a whole number.
    """
    batch, synthetic = config["batch_size"], config["synthetic_batch_size"]
    if synthetic is None:
        return 1
    if synthetic % (batch * devices):
        raise CxrError(
            f"synthetic_batch_size={synthetic} is not a multiple of batch_size={batch} times {devices} device(s); "
            f"pass for example {batch * devices * max(1, round(synthetic / (batch * devices)))}"
        )
    return int(synthetic // (batch * devices))


def loader_processes(value: int | str, accelerator: str) -> int:
    """The number of `data.workers`; `auto` is 8 with a GPU, 0 without."""
    if isinstance(value, int):
        return value
    return _AUTO_WORKERS if accelerator == "gpu" else 0


def device_of(accelerator: str) -> torch.device:
    """The device of a Lightning accelerator name, for use outside its Trainer; float32 is computed without TF32.

    Raises:
        CxrError: a GPU is requested and this machine has none.
    """
    _exact_float32()
    there = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not there:
        raise CxrError(f"accelerator={accelerator}, but this machine has no CUDA GPU; use accelerator=cpu")
    wants_gpu = there and accelerator != "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if wants_gpu else torch.device("cpu")


def _exact_float32() -> None:
    """By default PyTorch computes convolutions of float32 in TF32, with 10 bits of mantissa, on GPUs that have it."""
    torch.backends.cudnn.allow_tf32 = False


def _precision(name: str, accelerator: str) -> str:
    if name != "auto":
        return name
    if accelerator == "cpu":
        return "32-true"  # bf16 autocast on a CPU without AMX is many times slower
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
