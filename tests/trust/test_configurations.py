"""Untrusted configurations: they name parts of this framework, look nothing up and make no other object."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.cli.options import apply_resume
from cxr.configuration.saved import read_configuration
from cxr.configuration.targets import build
from cxr.errors import CxrError
from cxr.model.backbone import Backbone
from cxr.run.directory import Run
from cxr.training.checkpoint import load_network
from tests.trust.conftest import CONFIG

TARGETS = [
    "os.system", "builtins.eval", "builtins.exec", "subprocess.run", "posix.system", "runpy.run_path",
    "torch.os.system", "torch.load", "torch.hub.load", "torch.nn.modules.module.functools.partial",
    "torch.nn.Module.__init__.__globals__", "torch.nn.functional.has_torch_function", "torch.nn..system",
    "torch.nn.modules.module.torch.hub.load", "torch.nn.parallel.data_parallel", "torch.nn.init.constant_",
    "torch.optim.optimizer.torch.load", "torch.optim.swa_utils.warnings.warn",
    "timm.models.resnet.__globals__", "timm.create_model", "albumentations.load", "albumentations.from_dict",
    "albumentations.core.serialization.yaml.unsafe_load", "albumentations.core.composition.np.load",
    "albumentations.Compose.from_pretrained", "albumentations.check_version.check_for_updates",
    "lightning.pytorch.callbacks.ModelCheckpoint", "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.callbacks.early_stopping.torch.load", "lightning.pytorch.callbacks.EarlyStopping",
    "cxr.training.callbacks.ema.torch.hub.load", "cxr.training.callbacks.ema.contextmanager",
    "cxr.training.callbacks.ema.WeightAverage", "cxr.training.trainer.Profile", "cxr.training.keeping.RunCheckpoints",
    "lightning.pytorch.loggers.csv_logs.os.system", "lightning.pytorch.loggers.wandb.os.system",
    "lightning.pytorch.loggers.logger.Path", "lightning.pytorch.loggers.Logger.save.__globals__",
    "cxr.training.launch.launch", "cxr.training.launch.subprocess.Popen", "cxr.files.writing.replacing",
    "cxr.cli.entry.start",
    "cxr.model.backbone.torch.hub.load", "cxr.model.backbone.Path.unlink", "cxr.model.backbone.timm.create_model",
    "cxr.model.backbone._create", "cxr.model.backbone.Backbone.__init__", "cxr.model.backbone.Path",
    "cxr.data.sources.nih.os.remove", "cxr.data.sources.nih.pd.read_pickle", "cxr.data.sources.phantom.write_phantoms",
    "cxr.data.sources.nih.root_folder", "cxr.data.augment.np.load", "cxr.loss.../../evil", "cxr.model.", "cxr.model..",
    ".", "", " cxr.model.head.LinearHead", "cxr.model.head.LinearHead ", "cxr.model.none.X", 7, ["os.system"],
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_target_that_leads_out_of_its_package_is_refused(target: Any, nested: bool, canary: Path) -> None:
    node: dict[str, Any] = {"_target_": target, "_args_": [f"touch {canary}"]}
    if nested:
        node = {"_target_": "cxr.model.head.MLPHead", "hidden": [{"of": [node]}], "in_features": 2, "findings": 1}
    with pytest.raises(CxrError, match=r"_target_=.* (is not allowed|does not exist)"):
        build(node)
    assert not canary.exists()


@pytest.mark.parametrize("target", ["os.system", "lightning.pytorch.loggers.csv_logs.os.system", "builtins.eval"])
@pytest.mark.parametrize("part", ["backbone", "attention", "head"])
def test_checkpoint_whose_configuration_names_a_command_runs_nothing(
    checkpoint: Callable[..., Path], canary: Path, part: str, target: str
) -> None:
    for key in ("command", "_args_"):
        value = f"touch {canary}"
        node = {"_target_": target, key: value if key == "command" else [value]}
        path = checkpoint(config=OmegaConf.to_yaml(OmegaConf.create({**CONFIG, part: node})))
        with pytest.raises(CxrError, match=r"is not allowed|does not exist"):
            load_network(path)
    assert not canary.exists()


LOOKED_UP = [
    "${oc.env:CXR_SECRET}", "a ${oc.env:CXR_SECRET} b", "${oc.decode:${oc.env:CXR_SECRET}}", "${backbone.name}",
    "${oc.create:{_target_:os.system,_args_:[ls]}}", "\\${oc.env:CXR_SECRET}", "${oc.dict.values:backbone}", "${",
]  # fmt: skip


@pytest.mark.parametrize("value", LOOKED_UP)
def test_reference_in_a_configuration_is_not_looked_up(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CXR_SECRET", "hunter2")
    for text in (json.dumps(value), json.dumps(value).replace("$", "\\x24").replace("\\\\\\x24", "\\\\\\x24")):
        (tmp_path / "config.yaml").write_text(f"image_size: 32\nbackbone: {{name: {text}}}\n")
        with pytest.raises(CxrError, match="has the interpolation") as caught:
            Run(tmp_path).config()
        assert "hunter2" not in str(caught.value)
        with pytest.raises(CxrError, match="has the interpolation") as caught:
            load_network(checkpoint(config=(tmp_path / "config.yaml").read_text()))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(CxrError, match="has the interpolation") as caught:
        build({"_target_": "cxr.model.head.LinearHead", "in_features": 2, "findings": 1, "dropout": value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch CANARY']", "!!python/object/new:os.system ['touch CANARY']",
        "!!python/object/apply:subprocess.Popen [[touch, CANARY]]", "!!python/name:os.system",
        "!!python/module:os", "!!python/object/apply:pathlib.PosixPath [CANARY]", "!!binary aGk=", "!evil 1",
        "!!python/object/apply:builtins.eval ['open(\"CANARY\", \"w\")']", "!!str 1", "!!timestamp 2001-01-01",
    ],
)  # fmt: skip
def test_tag_in_a_configuration_makes_no_object(
    checkpoint: Callable[..., Path], tmp_path: Path, canary: Path, tag: str
) -> None:
    (tmp_path / "config.yaml").write_text(f"seed: 1\nbackbone: {tag.replace('CANARY', str(canary))}\n")
    with pytest.raises(CxrError, match=r"config\.yaml is not valid YAML"):
        Run(tmp_path).config()
    with pytest.raises(CxrError, match=r"best\.ckpt is not valid YAML"):
        load_network(checkpoint(config=(tmp_path / "config.yaml").read_text()))
    assert not canary.exists()


def test_configuration_that_grows_without_end_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    for text in (
        "\n".join(lines),
        "a: " + "[" * 100_000,
        "? " * 60_000,
        "{a: " * 30_000,
        "x" * (1 << 21),
        "a: 0x" + "f" * 5000,
    ):
        began = time.perf_counter()
        with pytest.raises(CxrError, match="some file is not valid YAML"):
            read_configuration(text, "some file")
        assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"val": []}', '{"val": {"macro_auroc": "x"}}', '{"max_epochs": "3"}'])
def test_metrics_that_are_none_are_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(CxrError, match=r"metrics\.json is not the JSON object of a run"):
        Run(tmp_path).metrics()


def test_resuming_what_is_no_training_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("method: {label: x}\nruns: [a, b]\n")
    with pytest.raises(CxrError, match=r"is not a training that can be resumed: its config\.yaml lacks data"):
        apply_resume(Run(tmp_path), OmegaConf.create({}), {}, [])


@pytest.mark.parametrize("name", ["hf-hub:evil/model", "hf_hub:evil/model", "local-dir:/tmp/evil", "timm/x", "../x"])
def test_backbone_of_an_untrusted_run_is_not_downloaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda *a, **k: pytest.fail("a model was made"))
    with pytest.raises(CxrError, match="is not a model of timm"):
        Backbone(name, 32)
