"""Tokens never reach a run directory, and neither does the home folder, by which a run still goes on."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from cxr.cli import conf_dir
from cxr.cli.entry import print_error, start
from cxr.configuration.private import refuse_secrets, shorten_home
from cxr.errors import CxrError
from cxr.run.directory import Run

TOKEN = "0123456789abcdef0123456789abcdefdeadbeef"
SMALL = (
    "data=nih", "backbone=resnet10", "backbone.name=test_resnet", "image_size=32", "batch_size=8", "trainer=cpu",
    "data.workers=0", "data.val_share=0.3", "data.findings=[Mass,Effusion]", "trainer.max_epochs=1", "attention=none",
    "augment=none",
)  # fmt: skip
Train = Callable[..., str]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """`python train.py` with a home folder and a token of its own; returns what was said on stderr."""
    (tmp_path / "home" / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", TOKEN)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.chdir(tmp_path / "home" / "work")

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit):
            start("train")
        return capfd.readouterr().err

    return run


def holders(folder: Path, text: str) -> list[str]:
    """The files below a folder that hold a text."""
    found = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    whole = (path for path in found if path.exists())  # W&B leaves links to logs that it has moved
    return [str(path.relative_to(folder)) for path in whole if text.encode() in path.read_bytes()]


def test_a_run_contains_neither_the_token_nor_the_home_folder_and_resumes(
    train: Train, nih_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = nih_folder(name="home/films")
    train(*SMALL, "name=mine", f"data.root={root}", f"cache.dir={tmp_path}/home/caches")
    run = tmp_path / "home" / "work" / "runs" / "mine"
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 1
    saved = OmegaConf.load(run / "config.yaml")
    assert (saved.data.root, saved.data.source.root, saved.cache.dir) == ("~/films", "~/films", "~/caches")
    for checkpoint in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{checkpoint}.ckpt", weights_only=True)
        assert "root: ~/films" in content["cxr"]["config"]
    for folder in (run, tmp_path / "home" / "caches"):
        assert holders(folder, TOKEN) == [] and holders(folder, str(tmp_path)) == []
    said = train("name=mine", "resume=true", "trainer.max_epochs=2", f"data.root={root}")
    assert "error" not in said
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 2
    assert holders(run, str(tmp_path)) == []


@pytest.fixture
def dashboard() -> Iterator[None]:
    """W&B as in a new process: it keeps the environment that it met first."""
    import wandb

    yield
    wandb.teardown()


@pytest.mark.usefixtures("dashboard")
def test_checkpoints_and_dashboards_hold_no_absolute_path(
    train: Train, nih_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = nih_folder(name="away/films")
    train(*SMALL, "name=mine", f"data.root={root}", f"cache.dir={tmp_path}/away/caches", "logger=wandb")
    run = tmp_path / "home" / "work" / "runs" / "mine"
    saved = OmegaConf.load(run / "config.yaml")
    assert (saved.data.root, saved.data.source.root) == (str(root), str(root))
    assert holders(run, f"{tmp_path}/away") == ["config.yaml"]
    assert "error" not in train("name=mine", "resume=true", "trainer.max_epochs=2")
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 2
    moved = root.rename(tmp_path / "moved")
    again = ("name=mine", "resume=true", "trainer.max_epochs=3", f"data.root={moved}", f"cache.dir={tmp_path}/new")
    assert "error" not in train(*again)
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 3


def test_paths_of_a_run_of_an_earlier_version_are_read_from_places(tmp_path: Path) -> None:
    run = Run(tmp_path / "mine")
    run.create({"data": {"root": "elsewhere:films"}, "run_id": "a1"})
    assert run.config()["data"]["root"] == "elsewhere:films"
    (tmp_path / ".places").mkdir()
    (tmp_path / ".places" / "mine-a1.json").write_text('{"data.root": "/disk/films"}')
    assert run.config()["data"]["root"] == "/disk/films"
    assert run.with_places({"data": {"root": "elsewhere:films"}})["data"]["root"] == "/disk/films"
    assert run.with_places({"data": {"root": "elsewhere:others"}})["data"]["root"] == "elsewhere:others"


def test_a_sweep_tells_no_absolute_path(train: Train, nih_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = nih_folder(name="away/films")
    train("-m", *SMALL, "loss=bce", "sweep=s", f"data.root={root}", "image_size=32,7")
    summary = (tmp_path / "home" / "work" / "runs" / "s" / "summary.csv").read_text()
    assert "data.root=elsewhere:films" in summary and str(tmp_path) not in summary


@pytest.mark.parametrize(
    "argument",
    [
        f"+logger.api_key={TOKEN}", "+logger.token=abc", "+password=abc", "+data.source.HF_TOKEN=abc",
        f"data.train_list={TOKEN}", f"+note=a-{TOKEN}-b", "+note=${oc.env:WANDB_API_KEY}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sweep", [False, True])
def test_token_on_the_command_line_is_refused_before_anything_is_written(
    train: Train, tmp_path: Path, argument: str, sweep: bool
) -> None:
    said = train(*(["-m", "seed=1,2"] if sweep else []), argument, f"data.root={tmp_path}")
    assert "leave it out" in said and TOKEN not in said
    assert holders(tmp_path, TOKEN) == [] and not (tmp_path / "home" / "work" / "runs").exists()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", [*overrides])


def test_no_option_of_ours_is_called_like_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "x" * 3)  # too short to be one
    refuse_secrets(composed("logger=wandb", "name=" + "x" * 30))
    refuse_secrets(composed("experiment=paper_vgg", "data.root=nowhere"))


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "wandb_api_key", "GH_TOKEN"])
def test_value_of_any_secret_of_the_environment_is_found_and_not_said(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, TOKEN)
    with pytest.raises(CxrError, match=rf"^backbone\.weights contains the value of \${name}") as caught:
        refuse_secrets(composed(f"backbone.weights=/x/{TOKEN}.pth"))
    assert TOKEN not in str(caught.value)


def test_only_the_home_folder_itself_becomes_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    paths = {"/home/a/x": "~/x", "/home/a": "~", "/home/ab/x": "/home/ab/x", "x": "x", "/mnt/home/a": "/mnt/home/a"}
    for typed, saved in paths.items():
        config = OmegaConf.create({"data": {"root": typed}, "cache": {"dir": typed}, "name": "/home/a/x"})
        shorten_home(config)
        assert (config.data.root, config.cache.dir, config.name) == (saved, saved, "/home/a/x")
    config = OmegaConf.create({"data": {"test_lists": dict(enumerate(paths)) | {"a": "/home/a/x", "b": "x"}}})
    shorten_home(config)
    assert (config.data.test_lists.a, config.data.test_lists.b) == ("~/x", "x")
    for other in (None, "/home/a", []):
        shorten_home(OmegaConf.create({"data": {"test_lists": other}}))
    monkeypatch.setenv("HOME", "/")
    config = OmegaConf.create({"data": {"root": "/x"}})
    shorten_home(config)
    assert config.data.root == "/x"


def test_weights_and_biases_receives_no_command_line_and_no_machine() -> None:
    settings = composed("logger=wandb").logger.wandb.settings
    assert settings.x_disable_meta and settings.x_disable_machine_info and settings.disable_git


def test_message_with_a_name_that_drives_terminals_is_shown_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("the file \x1b[2J\x07 is none")
    assert capsys.readouterr().err == "error: the file ?[2J? is none\n"
