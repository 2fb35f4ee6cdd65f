"""What the documents print works as printed: examples in Python, command lines, and the script for clusters."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.cli.options import plain
from cxr.cli.program import program_of
from cxr.configuration.plugins import trust
from cxr.configuration.targets import SOURCES, build
from cxr.errors import CxrError
from cxr.model.network import NetworkOutput
from cxr.run.predictions import Predictions
from cxr.training.build import build_loss, build_network, build_task

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in FILES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = [
    pytest.param(text, id=f"{page}-{number}")
    for page, content in PAGES.items()
    for number, (kind, text) in enumerate(FENCE.findall(content))
    if kind == "python"
]


def snippet(name: str) -> str:
    """The one example that defines `name`."""
    (found,) = (str(each.values[0]) for each in SNIPPETS if re.search(rf"(class|def) {name}\b", str(each.values[0])))
    return found


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read: a trained run `runs/mine` and a radiograph."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    target = np.array([[1, 0], [0, 1], [np.nan, 0], [1, 1]], np.float32)
    names, score = np.array(["a", "b", "c", "d"], object), rng.random((4, 2)).astype(np.float32)
    made = Predictions(names, names, ("Mass", "Nodule"), score, target, "sum", "test")
    made.write(tmp_path / "runs" / "mine" / "predictions" / "test.parquet")
    Image.fromarray(rng.integers(0, 256, (40, 50), np.uint8)).save(tmp_path / "film.png")
    config = composed("train", ["backbone=resnet10", "image_size=32"])
    network = build_network(config, 2)
    about = {
        "config": OmegaConf.to_yaml(OmegaConf.create(config)),
        "findings": ["Mass", "Nodule"],
        "preprocessing": vars(network.preprocessing),
        "split_fingerprint": "",
        "labels_sha256": "",
    }
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "runs" / "mine" / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": state, "epoch": 0, "global_step": 1, "cxr": about}, path)
    return tmp_path


@pytest.mark.parametrize("text", SNIPPETS)
def test_python_examples_run_as_printed(text: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(text, "example", "exec"), {"__name__": "example"})
    if "print(" in text:
        said = capsys.readouterr().out
        assert "Mass" in said and "Nodule" in said


def test_the_documents_have_examples() -> None:
    assert len(SNIPPETS) >= 5 and len(COMMANDS) >= 40


# A package of the user's own, as docs/architecture.md prints it


def write_package(folder: Path) -> None:
    """Each example whose first line is its path, below `my_package`."""
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    for _, text in FENCE.findall(PAGES["architecture.md"]):
        path = re.match(r"# (?:my_package/)?([\w/]+\.(?:py|yaml))\n", text)
        if path:
            file = folder / "my_package" / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trust(["my_package"])
    yield tmp_path
    trust([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_the_example_of_a_loss_trains(package: Path) -> None:
    config = {"loss": {"_target_": "my_package.losses.Focal", "gamma": 4.0}, "trainer": {"max_epochs": 6}}
    loss = build_loss(config, np.array([[1.0, 0.0]], np.float32), ["Mass", "Nodule"])
    logits = torch.tensor([[0.0, 3.0], [1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, torch.nan], [0.0, 0.0]], dtype=torch.float64)
    terms = loss(NetworkOutput(logits, None, logits), {"target": target}, 2)  # gamma is 4 * 3 / 6
    p = 1 / (1 + np.exp(-np.array([0.0, 1.0, -1.0])))
    wrong = np.array([1 - p[0], p[1], p[2]])
    assert float(terms.number) == 3 and float(terms.total.detach()) == pytest.approx(
        sum(-(wrong**2) * np.log(1 - wrong))
    )
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and logits.grad[0, 1] == 0 and (logits.grad[1] > 0).all()


def test_the_examples_of_backbone_and_attention_are_built_into_a_network(package: Path) -> None:
    search = f"hydra.searchpath=[file://{package}/my_package/conf]"
    config = composed("train", [search, "image_size=64", "backbone=mine", "attention=mine", "attention.heads=3"])
    output = build_network(config, 2)({"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8)})
    assert output.logits.shape == (2, 2) and output.attention.shape == (2, 3, 4, 4)
    assert output.attention.sum(dim=(2, 3)).detach().numpy() == pytest.approx(np.ones((2, 3)), abs=1e-5)
    assert composed("train", [search, "backbone=convnext"])["backbone"]["name"] == "convnext_tiny"


def test_the_example_of_a_task_selects_by_the_loss_and_logs_another_metric(package: Path) -> None:
    task = build_task({"task": {"_target_": "my_package.tasks.Cautious"}})
    assert (task.monitor.name, task.monitor.mode) == ("val/loss", "min")
    values = task.metrics(np.array([[1, np.nan], [0, 1]], np.float32), np.array([[0.5, 0.9], [0.1, 0.7]], np.float32))
    assert list(values) == list(task.logged) == ["macro_auroc", "accuracy", "brier_mean"]
    assert values["brier_mean"] == pytest.approx((0.25 + 0.01 + 0.09) / 3)


def test_the_example_of_a_data_source_reads_its_table(package: Path) -> None:
    (package / "films").mkdir()
    (package / "films" / "a.png").touch()
    rows = {"image": ["a.png", "b.png"], "patient": ["007", "8"], "Effusion": [1, None], "Fracture": [0, 1]}
    pd.DataFrame(rows).to_csv(package / "table.csv", index=False)
    search = f"hydra.searchpath=[file://{package}/my_package/conf]"
    config = composed("train", [search, "data=mine", f"data.root={package}"])
    catalog = build(config["data"]["source"], allow=SOURCES)
    assert catalog.findings == ("Fracture", "Effusion") and catalog.table["patient"].tolist() == ["007", "8"]
    assert catalog.table["path"].tolist() == [str(package / "films" / "a.png"), ""]
    assert np.array_equal(catalog.table[["Fracture", "Effusion"]], [[0, 1], [1, np.nan]], equal_nan=True)
    assert config["data"]["val_share"] == 0.1 and config["data"]["train_list"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nclass Focal(nn.Module):\n    pass\n", "at losses.py line 2: NameError: name 'nn' is not"),
        ("x = (\n", "at losses.py line 1: SyntaxError"),
        ("import absent_package\n", "at losses.py line 1: ModuleNotFoundError"),
    ],
)
def test_a_module_that_breaks_is_not_said_not_to_exist(package: Path, text: str, said: str) -> None:
    (package / "my_package" / "losses.py").write_text(text)
    broken = "_target_=my_package.losses.Focal: importing my_package.losses fails "
    with pytest.raises(CxrError, match=f"^{re.escape(broken + said)}"):
        build({"_target_": "my_package.losses.Focal"})


@pytest.mark.parametrize(
    ("target", "said"), [("bce.Focal", ""), ("nowhere.Focal", ": No module named 'cxr.loss.nowhere'")]
)
def test_a_target_that_does_not_exist_is_said_so(target: str, said: str) -> None:
    with pytest.raises(CxrError, match=f"^_target_=cxr.loss.{re.escape(target)} does not exist{re.escape(said)}"):
        build({"_target_": f"cxr.loss.{target}"})


# Command lines

PROGRAMS = {
    "train.py": "train",
    "ensemble.py": "ensemble",
    "-m cxr train": "train",
    "-m cxr ensemble": "ensemble",
    "-m cxr cache": "cache",
    "-m cxr evaluate": "evaluate",
    "-m cxr compare": "compare",
}


def commands(text: str) -> Iterator[str]:
    """Every command line of a page that starts one of the programs, with the shell's variables filled in."""
    blocks = [block for kind, block in FENCE.findall(text) if kind in ("", "bash")]
    for block in blocks:
        known: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.fullmatch(r'(\w+)="(.*)"', line):
                known[match[1]] = match[2]
            elif line.startswith("python "):
                yield Template(line).substitute(known)
    for inline in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        if inline.startswith("python ") and not inline.endswith(("...", "--help")):
            yield inline


SHOWS = ("-m", "--cfg", "job", "--hydra-help", "help=all", "--help")
COMMANDS = [
    (page, command)
    for page, text in PAGES.items()
    for command in commands(text)
    if any(command.startswith(f"python {program}") for program in PROGRAMS)
]


def arguments(command: str) -> list[str]:
    """What the shell would hand on; what stands two spaces or more to the right, or behind a #, explains it."""
    found: list[str] = []
    for gap, word in re.findall(r"(\s+)((?:'[^']*'|\S)+)", command.partition(" #")[0]):
        flag = found[-1:] == ["--cfg"]
        if not (flag or word.startswith("-") or "=" in word):
            assert len(gap) > 1, f"{word!r} of {command!r} is neither an option nor apart from them"
            break
        found += shlex.split(word)
    return found


def composed(program: str, overrides: list[str]) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        content: Any = OmegaConf.to_container(compose(program, overrides), resolve=True)
    return dict(content)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{p}: {c[:60]}" for p, c in COMMANDS])
def test_command_lines_compose(page: str, command: str, tmp_path: Path) -> None:
    start = next(start for start in PROGRAMS if command.startswith(f"python {start}"))
    program = PROGRAMS[start]
    words = arguments(command.removeprefix(f"python {start}"))
    sweeps = "-m" in words
    experiment = next((text for kind, text in FENCE.findall(PAGES[page]) if "# @package _global_" in text), None)
    if experiment:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "mine.yaml").write_text(experiment)
    lines = [word.replace("/home/me/conf", str(tmp_path)) for word in words if word not in SHOWS]
    parsed = OverridesParser.create().parse_overrides(lines)
    assert sweeps or not any(one.is_sweep_override() for one in parsed), "several values without -m"
    fixed = [str(one.input_line) for one in parsed if not one.is_sweep_override()]
    swept = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        for one in parsed
        if one.is_sweep_override()
    ]
    for number in range(max(map(len, swept), default=1)):  # each value once
        chosen = [*fixed, *(values[number % len(values)] for values in swept)]
        config = read_command_line(program, chosen, str(conf_dir())).config
        assert config is not None
        if words or program in ("train", "cache"):  # the others are named where nothing is run
            plain(config, program_of(program).schema)


# The script for clusters

SCRIPT = ROOT / "examples" / "train.sbatch"


def environment(folder: Path, python: str, scontrol: str = "exit 0") -> Mapping[str, str]:
    """With stand-ins for the two programs, which write down what they are called with."""
    (folder / "bin").mkdir()
    for name, does in (("python", python), ("scontrol", scontrol)):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/bash\necho "$0" "$@" | sed "s|.*/||" >> "{folder}/calls"\n{does}\n')
        program.chmod(0o755)
    return os.environ | {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "17"}


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("shell", [["bash"], ["bash", "-e"]])
@pytest.mark.parametrize(
    ("code", "requeues"), [(0, False), (1, False), (2, False), (130, False), (137, False), (75, True)]
)
def test_the_cluster_script_ends_as_the_training_does_and_requeues_what_was_stopped(
    code: int, requeues: bool, shell: list[str], tmp_path: Path
) -> None:
    where = environment(tmp_path, f"exit {code}")
    ended = subprocess.run([*shell, SCRIPT, "data.root=a b", "loss=mae"], cwd=tmp_path, env=where, timeout=60)
    assert ended.returncode == code
    assert calls(tmp_path) == [
        "python train.py name=job-17 resume=auto data.root=a b loss=mae",
        *["scontrol requeue 17"] * requeues,
    ]


def test_the_cluster_script_passes_the_warning_on_and_waits_for_the_checkpoint(tmp_path: Path) -> None:
    where = environment(
        tmp_path, "trap 'sleep 0.3; touch checkpoint; exit 75' USR1; touch ready; while :; do sleep 0.05; done"
    )
    script = subprocess.Popen(["bash", SCRIPT], cwd=tmp_path, env=where)
    try:
        waited(tmp_path / "ready")
        script.send_signal(signal.SIGTERM)  # of the whole job: the training has had it as well
        time.sleep(0.1)
        assert script.poll() is None
        script.send_signal(signal.SIGUSR1)
        assert script.wait(60) == 75
    finally:
        script.kill()
    assert (tmp_path / "checkpoint").exists() and calls(tmp_path)[1:] == ["scontrol requeue 17"]


def waited(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_that_is_named_on_the_command_line_is_not_called_after_the_job() -> None:
    assert composed("train", ["name=job-17", "resume=auto", "name=mine"])["name"] == "mine"
