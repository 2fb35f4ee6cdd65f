"""What the trainer group means on machines with and without GPUs, how many batches a window has, loader processes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cxr.errors import CxrError
from cxr.training.devices import Devices, accumulation, device_of, loader_processes, resolve_devices

AUTO = {"accelerator": "auto", "devices": 1, "strategy": "auto", "precision": "auto"}


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, bf16: bool = True) -> None:
    """This machine has so many GPUs, which compute in bfloat16 or only emulate it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)


@pytest.mark.parametrize(
    ("gpus", "bf16", "options", "expected"),
    [
        (0, False, {}, ("cpu", 1, "32-true")),
        (4, True, {}, ("gpu", 1, "bf16-mixed")),
        (4, False, {}, ("gpu", 1, "16-mixed")),
        (4, True, {"accelerator": "cpu"}, ("cpu", 1, "32-true")),
        (4, True, {"accelerator": "cuda", "devices": 3}, ("gpu", 3, "bf16-mixed")),
        (4, True, {"precision": "32-true"}, ("gpu", 1, "32-true")),
        (0, False, {"precision": "bf16-mixed"}, ("cpu", 1, "bf16-mixed")),
        (4, True, {"devices": "auto"}, ("gpu", 1, "bf16-mixed")),
        (4, True, {"devices": "auto", "strategy": "ddp"}, ("gpu", 4, "bf16-mixed")),
        (0, False, {"devices": "auto", "strategy": "ddp"}, ("cpu", 2, "32-true")),
        (0, False, {"devices": 3, "strategy": "ddp"}, ("cpu", 3, "32-true")),
    ],
)
def test_the_options_resolve_to_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, gpus: int, bf16: bool, options: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    machine(monkeypatch, gpus, bf16)
    assert resolve_devices(AUTO | options) == Devices(*expected)


@pytest.mark.parametrize("call", [lambda: resolve_devices(AUTO), lambda: device_of("cpu")])
def test_float32_is_computed_without_tf32(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    call()
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("gpus", "options", "said"),
    [
        (0, {"accelerator": "gpu"}, "trainer.accelerator=gpu, but this machine has no CUDA GPU; use trainer=cpu"),
        (0, {"accelerator": "cuda"}, "trainer.accelerator=gpu, but this machine has no CUDA GPU; use trainer=cpu"),
        (2, {"devices": 3}, "trainer.devices=3, but this machine has 2 GPUs; lower trainer.devices"),
    ],
)
def test_devices_that_the_machine_lacks_are_refused(
    monkeypatch: pytest.MonkeyPatch, gpus: int, options: dict[str, Any], said: str
) -> None:
    machine(monkeypatch, gpus)
    with pytest.raises(CxrError) as refused:
        resolve_devices(AUTO | options)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("accelerator", "gpus", "device"),
    [("gpu", 1, "cuda:0"), ("cuda", 1, "cuda:0"), ("auto", 1, "cuda:0"), ("cpu", 1, "cpu"), ("auto", 0, "cpu")],
)  # fmt: skip
def test_work_outside_the_trainer_runs_on_the_device_of_its_accelerator(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpus: int, device: str
) -> None:
    machine(monkeypatch, gpus)
    assert device_of(accelerator) == torch.device(device)


def test_a_gpu_that_the_machine_lacks_is_not_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(CxrError, match="accelerator=gpu, but this machine has no CUDA GPU; use accelerator=cpu"):
        device_of("gpu")


@pytest.mark.parametrize(
    ("value", "accelerator", "number"), [("auto", "cpu", 0), ("auto", "gpu", 8), (3, "cpu", 3), (0, "gpu", 0)]
)
def test_loader_processes_are_as_many_as_configured_or_fit_the_device(
    value: int | str, accelerator: str, number: int
) -> None:
    assert loader_processes(value, accelerator) == number


@pytest.mark.parametrize(
    ("batch", "synthetic", "devices", "window"), [(16, 256, 1, 16), (16, 256, 4, 4), (8, None, 3, 1)]
)
def test_the_window_follows_from_the_sizes(batch: int, synthetic: int | None, devices: int, window: int) -> None:
    assert accumulation({"batch_size": batch, "synthetic_batch_size": synthetic}, devices) == window


@pytest.mark.parametrize(
    ("batch", "synthetic", "devices", "better"), [(16, 250, 1, 256), (16, 256, 3, 240), (16, 8, 1, 16)]
)
def test_sizes_that_do_not_divide_are_refused_with_one_that_does(
    batch: int, synthetic: int, devices: int, better: int
) -> None:
    with pytest.raises(CxrError, match=f"synthetic_batch_size={synthetic} is not a multiple .* for example {better}$"):
        accumulation({"batch_size": batch, "synthetic_batch_size": synthetic}, devices)
