"""Every option file and every experiment composes, and what it names can be built."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.configuration.targets import LOGGERS, build
from cxr.data.augment import Draws
from cxr.data.cache import CacheSettings
from cxr.ensemble.combine import Method
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError
from cxr.model.network import NetworkOutput
from cxr.training.build import build_augmentation, build_loss, build_network, build_task
from cxr.training.devices import resolve_devices
from cxr.training.groups import build_optimizer

GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
OPTIONS = sorted(
    (group, path.stem)
    for group in GROUPS
    if group not in ("method", "space")
    for path in (conf_dir() / group).glob("*.yaml")
)


def composed(program: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(program, list(overrides))
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: str(value))
def test_every_option_composes_and_builds(group: str, option: str, tmp_path: Path) -> None:
    needs = {"ldam": ["head=normalised"]}.get(option, ["backbone=resnet10"] * option.startswith("holste_"))
    config = composed("train", f"{group}={option}", "data.root=nowhere", *needs)
    config["backbone"] |= {"pretrained": False}
    if option == "swinchex":  # its network has 200 million parameters
        config["backbone"]["name"] = "swin_tiny_patch4_window7_224"
    if option == "dwml" and group == "experiment":
        config["backbone"]["name"] = "convnext_atto"
    config["image_size"] = 80
    vectors = torch.zeros(3, 8) if option == "dwml" else None
    if group in ("backbone", "experiment"):
        network = build_network(config, 3, label_vectors=vectors)
        batch = {"image": torch.zeros(2, 1, 80, 80, dtype=torch.uint8), "attributes": torch.zeros(2, 5)}
        assert network(batch).logits.shape == (2, 3)
    loss = build_loss(config, np.array([[1, 0, np.nan], [0, 0, 1]]), ["a", "b", "c"], 4, vectors)
    output = NetworkOutput(torch.zeros(1, 3), None, torch.zeros(1, 4))
    single = config["task"]["_target_"].endswith("SingleLabel")
    target = torch.tensor([[0.0, 1.0, 0.0]] if single else [[1.0, 1.0, 1.0]])
    assert float(loss(output, {"target": target}, 0).number) > 0
    scores = build_task(config, ["a", "b", "c"]).scores(output.logits)
    assert scores.tolist() == [pytest.approx([1 / 3] * 3 if single else [0.5] * 3)]
    optimizer = build_optimizer(config)([torch.nn.Parameter(torch.zeros(1))])
    entry = build(config["scheduler"])(optimizer, 10)
    assert entry is None or entry["interval"] in ("step", "epoch")
    augmentation, order = build_augmentation(config)
    changed = augmentation([np.zeros((16, 16), np.uint8)] * 2, Draws.of([0, 1]), 12)
    assert changed.shape == (2, 12, 12) and changed.dtype == np.uint8
    assert set(order(np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], 0, 0).tolist()) <= {0, 1, 2, 3}
    if config["trainer"]["accelerator"] == "gpu" and not torch.cuda.is_available():
        with pytest.raises(CxrError, match="this machine has no CUDA GPU"):
            resolve_devices(config["trainer"])
    elif option == "slurm":
        with pytest.raises(CxrError, match="SLURM_JOB_ID is not set"):
            resolve_devices(config["trainer"])
    else:
        devices = resolve_devices(config["trainer"])
        assert devices.count >= (2 if option == "ddp" and devices.accelerator == "cpu" else 1)
        assert devices.precision == "32-true" or devices.accelerator == "gpu"
    if option == "tensorboard":
        assert build(config["logger"]["tensorboard"], allow=LOGGERS, save_dir=str(tmp_path)).log_dir.startswith(
            str(tmp_path)
        )


@pytest.mark.parametrize("option", sorted(path.stem for path in (conf_dir() / "data").glob("*.yaml")))
def test_every_data_set_can_be_cached_alone_as_training_would(option: str) -> None:
    alone = composed("cache", f"data={option}", "data.root=nowhere", "cache.size=96")
    training = composed("train", f"data={option}", "data.root=nowhere", "cache.size=96")
    assert alone["data"] == training["data"] and CacheSettings.of(alone) == CacheSettings.of(training)


@pytest.mark.parametrize("option", sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml")))
def test_every_method_composes_and_combines(option: str) -> None:
    method: Method = build(composed("ensemble", f"method={option}", "runs=x")["method"])
    rng = np.random.default_rng(0)
    scores, target = rng.random((3, 20, 2)).astype(np.float32), rng.integers(0, 2, (20, 2)).astype(np.float32)
    fit = method.fit(Validation.stacked(scores, target))
    combined = method.combine(scores[:, :, 1], fit, 1)
    assert combined.shape == (20,) and combined.dtype == np.float32


NETWORKS = {
    "paper": "mobilenetv1_100", "paper_mobilenet": "mobilenetv1_100", "paper_resnet": "resnet50", "paper_vgg": "vgg19",
    "paper_inception_resnet": "inception_resnet_v2",
}  # fmt: skip


LONG_TAIL = {
    "softmax": {"loss": "cross_entropy.CrossEntropy"},
    "cb": {"loss": "class_balanced.ClassBalanced", "weights": "effective_number"},
    "rw": {"loss": "class_balanced.ClassBalanced", "weights": "inverse"},
    "focal": {"loss": "focal.Focal", "weights": "none"},
    "cb_focal": {"loss": "focal.Focal", "weights": "effective_number"},
    "rw_focal": {"loss": "focal.Focal", "weights": "inverse"},
    "ldam": {"loss": "ldam.LDAM", "weights": "none", "deferred": 0},
    "cb_ldam": {"loss": "ldam.LDAM", "weights": "effective_number", "deferred": 0},
    "rw_ldam": {"loss": "ldam.LDAM", "weights": "inverse", "deferred": 0},
    "cb_ldam_drw": {"loss": "ldam.LDAM", "weights": "effective_number", "deferred": 10, "scheduler": "step"},
    "rw_ldam_drw": {"loss": "ldam.LDAM", "weights": "inverse", "deferred": 10, "scheduler": "step"},
    "mixup": {"loss": "cross_entropy.CrossEntropy", "mix": "MixUp", "alpha": 0.2},
    "balanced_mixup": {"loss": "cross_entropy.CrossEntropy", "mix": "BalancedMixUp", "alpha": 0.1},
    "crt": {"loss": "cross_entropy.CrossEntropy", "sampler": "ClassAware", "scheduler": "cosine", "batch": 512,
            "epochs": 10, "optimizer": ("torch.optim.SGD", 0.2), "freeze": ["backbone"]},
    "tau_norm": {"loss": "cross_entropy.CrossEntropy", "batch": None, "epochs": 21, "freeze": ["backbone"],
                 "optimizer": ("torch.optim.SGD", 0.0)},
}  # fmt: skip


@pytest.mark.parametrize("method", LONG_TAIL)
def test_the_long_tailed_methods_differ_from_their_base_in_what_they_are(method: str) -> None:
    config = composed("train", f"experiment=holste_{method}", "data.root=nowhere")
    loss, mix, optimizer = config["loss"], config["mix"], config["optimizer"]
    found = {
        "loss": loss["_target_"].removeprefix("cxr.loss."),
        "weights": loss.get("weights", "none"),
        "deferred": loss.get("defer_epochs", 0),
        "head": config["head"]["_target_"].rpartition(".")[2],
        "mix": mix.get("_target_", "none").rpartition(".")[2],
        "alpha": mix.get("alpha"),
        "sampler": config["sampler"]["_target_"].rpartition(".")[2],
        "scheduler": config["scheduler"]["_target_"].rpartition(".")[2],
        "optimizer": (optimizer["_target_"], optimizer["lr"]),
        "batch": config["synthetic_batch_size"],
        "epochs": config["trainer"]["max_epochs"],
        "freeze": config["freeze"],
    }
    base = {
        "weights": "none", "deferred": 0, "mix": "none", "alpha": None, "sampler": "Shuffled", "scheduler": "constant",
        "optimizer": ("torch.optim.Adam", 1e-4), "batch": 256, "epochs": 60, "freeze": [],
        "head": "NormalisedHead" if "ldam" in method else "LinearHead",
    }  # fmt: skip
    assert found == base | LONG_TAIL[method]
    assert config["image_size"] == 256 and config["data"]["source"]["_target_"].endswith("read_nih_lt")
    assert config["early_stopping"]["monitor"] is None and config["task"]["_target_"].endswith("SingleLabel")
    assert config["init_head"] == (method != "crt")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_papers_recipe_is_as_published(name: str) -> None:
    config = composed("train", f"experiment={name}", "data.root=nowhere")
    assert str(config["backbone"]["name"]).split(".")[0] == NETWORKS[name]
    parts = ("data", "attention", "head", "loss", "scheduler", "augment")
    chosen = composed("train", "data=nih", "head=linear", "loss=bce", "scheduler=plateau", "data.root=nowhere")
    changed = {"exclude": ["Hernia"], "workers": "auto"}
    assert {part: config[part] for part in parts} == {part: chosen[part] for part in parts} | {
        "data": chosen["data"] | changed
    }
    assert config["optimizer"]["_target_"] == "torch.optim.Adam" and config["optimizer"]["lr"] == 5e-4
    assert (config["batch_size"], config["synthetic_batch_size"]) == (16, 256)
    assert config["trainer"]["max_epochs"] == 4 and config["early_stopping"]["patience"] == 2
    assert config["scheduler"]["patience"] == 2 and config["scheduler"]["factor"] == 0.2
    assert config["scheduler"]["monitor"] == config["early_stopping"]["monitor"] == "val/loss"
    assert config["data"]["exclude"] == ["Hernia"] and config["data"]["workers"] == "auto"
    assert config["image_size"] == (299 if "inception" in name else 224)
    assert config["backbone"]["pretrained"] is True
    assert composed("train", f"experiment={name}", "backbone.pretrained=false")["backbone"]["pretrained"] is False
