"""What a stranger could send: a canary that sings if anything ran, and a checkpoint of this framework to spoil."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

CONFIG = {
    "image_size": 32,
    "backbone": {"_target_": "cxr.model.backbone.Backbone", "name": "resnet10t", "pretrained": False, "weights": None},
    "attention": {"_target_": "cxr.model.attention.AveragePooling"},
    "fusion": {"_target_": "cxr.model.fusion.NoFusion"},
    "head": {"_target_": "cxr.model.head.LinearHead"},
}
PREPROCESSING = {"size": 32, "cached": 32, "crop": False, "mean": 0.5, "std": 0.25}


class Bomb:
    """Runs a command wherever it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that only running code could make."""
    return tmp_path / "canary"


@pytest.fixture
def bomb(canary: Path) -> Bomb:
    """An object that makes the canary when it is unpickled."""
    return Bomb(f"touch {canary}")


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    """Those of the network of `CONFIG` with two findings."""
    from cxr.imaging.preprocessing import Preprocessing
    from cxr.training.build import build_network

    torch.manual_seed(0)
    network = build_network(CONFIG, 2, Preprocessing(**PREPROCESSING))
    return {f"network.{name}": value for name, value in network.state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Callable[..., Path]:
    """A function that writes a good checkpoint, changed by `cxr`, `config` and top-level entries, and returns it."""

    def write(cxr: dict[str, Any] | None = None, config: Any = None, **changes: Any) -> Path:
        about = {
            "config": OmegaConf.to_yaml(OmegaConf.create(CONFIG)) if config is None else config,
            "findings": ["Mass", "Nodule"],
            "split_fingerprint": "a" * 64,
            "labels_sha256": "b" * 64,
            "preprocessing": PREPROCESSING,
        }
        content = {"cxr": about | (cxr or {}), "state_dict": dict(weights), "epoch": 3} | changes
        torch.save(content, tmp_path / "best.ckpt")
        return tmp_path / "best.ckpt"

    return write
