"""Every command, option file and example in README and docs works as printed.

Each fenced block has a language, and each language has a test. `bash` lines are composed, those of getting-started.md
also run. `python` blocks are executed beside a trained run, `yaml` files composed, `csv` tables read. `text` is output
or a directory listing. A block in another language, or an unknown command, fails.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from cxr.cli import conf_dir, use
from cxr.cli.compose import read_command_line
from cxr.cli.entry import run
from cxr.cli.options import plain
from cxr.cli.program import program_of
from cxr.cli.tune import own_words
from cxr.configuration.plugins import trust
from cxr.configuration.targets import SOURCES, build
from cxr.data.catalog import Catalog, check
from cxr.data.sources.table import read_table
from cxr.errors import CxrError
from cxr.model.network import NetworkOutput
from cxr.training.build import build_loss, build_network, build_task
from tests.imaging.films import encoded, film
from tests.use.made import bundle

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`(?:my_package/)?([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"bash", "python", "yaml", "csv", "text", "bibtex"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def blocks(language: str, *pages: str) -> list[tuple[str, str]]:
    """Page and text of each block in a language."""
    return [(page, text) for page in pages or PAGES for kind, text in FENCE.findall(PAGES[page]) if kind == language]


# Structure


@pytest.mark.parametrize("page", PAGES)
def test_each_block_has_a_language_that_is_tested(page: str) -> None:
    assert PAGES[page].count("\n```") == 2 * len(FENCE.findall(PAGES[page]))
    assert {kind for kind, _ in FENCE.findall(PAGES[page])} <= LANGUAGES


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for link in ("".join(found) for found in LINK.findall(PAGES[page])):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_code_that_are_named_exist(page: str) -> None:
    for name in re.findall(
        r"`((?:cxr|conf|tests|benchmarks|examples)/[\w/.]+|\w+/\w+\.py)(?: \w+)?`", FENCE.sub("", PAGES[page])
    ):
        ours = name.startswith(
            (
                "my_package/",
                "conf/loss/mine",
                "conf/logger/mine",
                "conf/callbacks/mine",
                "conf/experiment/mine",
                "conf/space/mine",
            )
        )
        assert ours or (ROOT / name).exists() or (ROOT / "cxr" / name).exists(), f"{page}: {name}"


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/README.md"]))
    assert listed == {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}


def test_the_reference_lists_every_option_file() -> None:
    """And ensembles.md every method."""
    tables = PAGES["docs/configuration.md"].partition("## Groups")[2]
    for file in sorted((ROOT / "conf").glob("*/*.yaml")):
        page = PAGES["docs/ensembles.md"] if file.parent.name == "method" else tables
        assert f"`{file.stem}`" in page, f"{file.parent.name}={file.stem} is in no table"


# Commands

NAMES = (
    "train",
    "tune",
    "ensemble",
    "evaluate",
    "compare",
    "transfer",
    "predict",
    "export",
    "serve",
    "inspect",
    "phantom",
    "cache",
)
PROGRAMS = {"python train.py": "train", "python ensemble.py": "ensemble"}
PROGRAMS |= {f"{start} {name}": name for start in ("python -m cxr", "cxr") for name in NAMES}
SHOWS = ("-m", "--cfg", "job", "--hydra-help", "help=all", "--help")  # flags beside overrides
NOT_RUN = (  # what is not this project's; each with what the documents use it for
    "git clone <this repository> cxr",
    "git clone <this repository> cxr && cd cxr",
    "cd cxr",
    "pip install 'cxr_use-VERSION-py3-none-any.whl[serve]'",
    "source .venv/bin/activate",
    'eval "$(cxr --shell-completion install=bash)"',
    'eval "$(python train.py --shell-completion install=bash)"',
)


def lines(text: str) -> Iterator[str]:
    """The commands of a block, joined at backslashes, without comments, with the shell's variables filled in."""
    known: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if match := re.fullmatch(r'(\w+)="(.*)"', line):
            known[match[1]] = match[2]
        elif line.partition(" #")[0].strip():
            yield Template(line.partition(" #")[0].strip()).safe_substitute(known)


def inline(text: str) -> Iterator[str]:
    """Commands within sentences."""
    for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        if code.startswith(("make ", *PROGRAMS)) and "..." not in code:
            yield code


COMMANDS = [(page, line) for page, text in blocks("bash") for line in lines(text)]
COMMANDS += [(page, line) for page, text in PAGES.items() for line in inline(text)]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SUGGESTED = re.findall(r"^\t  ['\"]  (python .*?) {2,}", MAKEFILE, re.MULTILINE)  # at the end of make demo
COMMANDS += [("Makefile", line) for line in SUGGESTED]
COMMANDS = list(dict.fromkeys(COMMANDS))
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def program_and_words(command: str) -> tuple[str, list[str]]:
    """The program that a command line starts, and its arguments."""
    command = re.sub(r"^PYTHONPATH=\S+ ", "", command)
    start = max((start for start in PROGRAMS if f"{command} ".startswith(f"{start} ")), key=len)
    return PROGRAMS[start], shlex.split(command.removeprefix(start))


def composed(program: str, overrides: list[str]) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        content: Any = OmegaConf.to_container(compose(program, overrides), resolve=True)
    return dict(content)


def test_make_demo_ends_with_what_to_try_next() -> None:
    assert {program_and_words(command)[0] for command in SUGGESTED} == {"train", "evaluate", "compare"}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{p}: {c[:60]}" for p, c in COMMANDS])
def test_commands_are_accepted(page: str, command: str, package: Path) -> None:
    if command in NOT_RUN or command == "python -m cxr":
        return
    if command.startswith("make "):
        words = shlex.split(command)
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
        assert {word.partition("=")[0] for word in words[1:] if "=" in word} <= {"DATA", "ARGS", "EXTRAS"}
        return
    if command.startswith("python benchmarks/"):
        assert (ROOT / shlex.split(command)[1]).exists()
        return
    command = re.sub(r"^(torchrun|srun) (--\S+ )+(python )?", "python ", command)
    if command.startswith("cxr-use "):
        _, program, *words = shlex.split(command)
        assert use.options(program, words)
        return
    if command.startswith("curl "):
        path = re.search(r"http://127\.0\.0\.1:8000(\S*)$", command)
        assert path and f'"{path[1]}"' in (ROOT / "cxr" / "use" / "api.py").read_text(encoding="utf-8")
        return
    if command.startswith("sbatch "):
        script, *words = [word for word in shlex.split(command)[1:] if not word.startswith("--")]
        assert (ROOT / script).exists()
        program = "train"
    else:
        program, words = program_and_words(command)
    if program == "tune":
        words, passed = own_words(words)
        assert read_command_line("train", passed, str(conf_dir())).config is not None
    words = [word.replace("/home/me", str(package)) for word in words]
    flags = [word for word in words if word.startswith("--config-dir=")]
    overrides = [word for word in words if word not in (*SHOWS, *flags)]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        for one in parsed
        if one.is_sweep_override()
    ]
    assert "-m" in words or not swept, "several values without -m"
    fixed = [str(one.input_line) for one in parsed if not one.is_sweep_override()]
    for number in range(max(map(len, swept), default=1)):  # each value once
        chosen = [*flags, *fixed, *(values[number % len(values)] for values in swept)]
        config = read_command_line(program, chosen, str(conf_dir())).config
        assert config is not None
        if words or program in ("train", "cache"):  # the others need arguments, and are only mentioned
            plain(config, program_of(program).schema)


# A run as getting-started.md makes it, and the Python examples beside it

SMALL = (
    "data.findings=[Mass,Effusion]",
    "image_size=32",
    "trainer=cpu",
    "data.workers=0",
    "data.images=60",
    "data.phantom_size=64",
    "data.root=ph",
)
SMALLER = {
    "train": (*SMALL, "trainer.max_epochs=1"),
    "ensemble": ("bootstrap=5",),
    "evaluate": ("resamples=20",),
    "compare": ("resamples=20",),
}
COMPOSED_ONLY = ("--help", "help=all")


def small(program: str, words: list[str]) -> list[str]:
    """A command line with smaller data; a resumed run keeps its own."""
    if "resume=true" in words:
        return [word.replace("max_epochs=20", "max_epochs=2") for word in words]
    return [*SMALLER[program], *words]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of getting-started.md has been run, smaller, and which has a radiograph."""
    folder = tmp_path_factory.mktemp("started")
    shades = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(shades).save(folder / "film.png")
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        for _, text in blocks("bash", "docs/getting-started.md"):
            for line in lines(text):
                if not line.startswith(("python train.py", "python ensemble.py", "python -m cxr")):
                    continue
                program, words = program_and_words(line)
                if set(words) & set(COMPOSED_ONLY):
                    continue
                GlobalHydra.instance().clear()
                patch.setattr(sys, "argv", [f"{program}.py"])
                assert run(program, small(program, words)) == 0, line
    bundle(folder / "runs" / "mine" / "bundle")  # of the same findings, as docs/use.md exports one
    return folder


@pytest.mark.parametrize(
    "name",
    ["mine/metrics.json", "other/metrics.csv", "mine/evaluation/auroc.md", "mine/figures/learning_curves.png",
     "mine/predictions/test.parquet", "mine/checkpoints/best.ckpt", "both/table.md"],
)  # fmt: skip
def test_getting_started_makes_what_it_describes(started: Path, name: str) -> None:
    assert (started / "runs" / name).exists()


def test_getting_started_evaluates_and_resumes(started: Path) -> None:
    assert len(pd.read_csv(started / "runs" / "mine" / "metrics.csv")) == 2  # resumed for a second epoch
    assert "cxr.loss.mae" in (started / "runs" / "other" / "config.yaml").read_text()


PYTHON = blocks("python")


@pytest.mark.parametrize("text", [pytest.param(text, id=f"{page}-{n}") for n, (page, text) in enumerate(PYTHON)])
def test_python_examples_run_as_printed(text: str, started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(started):
        exec(compile(text, "example", "exec"), {"__name__": "example"})
    if text.rstrip().splitlines()[-1].lstrip().startswith("print(") and "class " not in text:
        printed = capsys.readouterr().out
        assert "Mass" in printed and "Effusion" in printed


# Tables


def test_tables_are_read_as_printed(tmp_path: Path) -> None:
    films, soft, instances = (text for _, text in blocks("csv"))
    (tmp_path / "2024").mkdir()
    (tmp_path / "films.csv").write_text(films)
    for name in ("a1.png", "a2.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "2024" / name)
    catalog = read_table(str(tmp_path), "films.csv")
    assert catalog.findings == ("Effusion", "Mass") and catalog.table["patient"].tolist() == ["0017", "0018"]
    labels = catalog.table[list(catalog.findings)].to_numpy()
    assert np.array_equal(labels, [[1, 0], [0, np.nan]], equal_nan=True)
    (tmp_path / "soft.csv").write_text(soft)
    table = pd.read_csv(tmp_path / "soft.csv", dtype={"patient": str})
    table = table.assign(path="", followup=0, age=float("nan"), sex="", view="")
    checked = check(Catalog(table, ("Fracture",), "soft.csv"))
    assert np.array_equal(checked.table["Fracture"], [1, 0, np.nan], equal_nan=True)
    for number, line in enumerate(instances.split()[1:]):
        header = film(np.zeros((8, 8), np.uint16), SOPInstanceUID=line.partition(",")[0], PatientID=str(number))
        (tmp_path / f"IM{number}").write_bytes(encoded(header))
    (tmp_path / "instances.csv").write_text(instances)
    read = read_table(str(tmp_path), "instances.csv").table
    assert read["image"].tolist() == ["IM0", "IM1"] and read["patient"].tolist() == ["0", "1"]


# The package of docs/extending.md, and the other option files


OPTIONS = {name: text for page in PAGES.values() for name, text in FILE.findall(page) if name.startswith("conf/")}


def write_package(folder: Path) -> None:
    """Each file of the documents whose path stands before its block, below `my_package`."""
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    for page in PAGES.values():
        for name, text in FILE.findall(page):
            file = folder / "my_package" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_package(tmp_path)
    (tmp_path / "conf").symlink_to(tmp_path / "my_package" / "conf")
    monkeypatch.syspath_prepend(str(tmp_path))
    trust(["my_package"])
    yield tmp_path
    trust([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_each_option_file_has_its_path() -> None:
    assert sorted(OPTIONS.values()) == sorted(text for page, text in blocks("yaml") if page != "docs/table.md")


def test_the_roles_file_of_a_table_is_read_as_printed(tmp_path: Path) -> None:
    ((_, roles),) = blocks("yaml", "docs/table.md")
    (tmp_path / "roles.yaml").write_text(roles)
    (tmp_path / "films.csv").write_text("File#,MRN,Age[years],Cavity (lung),Mass\na.png,7,60,1,0\n")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    catalog = read_table(str(tmp_path), "films.csv", str(tmp_path / "roles.yaml"))
    assert catalog.findings == ("Cavity", "Mass") and catalog.table["age"].tolist() == [60]


@pytest.mark.parametrize("name", OPTIONS)
def test_option_files_are_composed_as_printed(name: str, package: Path) -> None:
    _, group, option = name.removesuffix(".yaml").split("/")
    chosen = f"{group}=[{option}]" if group in ("callbacks", "logger") else f"{group}={option}"
    config = composed("tune" if group == "space" else "train", [f"hydra.searchpath=[file://{package}/conf]", chosen])
    part = config if group == "experiment" else config[group]
    part = part[option] if group in ("callbacks", "logger") else part
    for key, value in yaml.safe_load(OPTIONS[name]).items():
        if isinstance(value, dict):  # a part of what the defaults give
            assert value.items() <= part[key].items() or key == "source"
        elif key != "defaults":
            assert part[key] == value


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


# The script for clusters

SCRIPT = ROOT / "examples" / "train.sbatch"


def environment(folder: Path, python: str, scontrol: str = "exit 0") -> Mapping[str, str]:
    """With stand-ins for the programs; `srun` runs its command, the others write down their arguments."""
    (folder / "bin").mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "bin" / "srun").write_text('#!/bin/bash\nexec "${@:2}"\n')
    (folder / "bin" / "srun").chmod(0o755)
    for name, does in (("python", python), ("scontrol", scontrol)):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/bash\necho "$0" "$@" | sed "s|.*/||" >> "{folder}/calls"\n{does}\n')
        program.chmod(0o755)
    return os.environ | {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "17"}


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("shell", [["bash"], ["bash", "-e"]])
@pytest.mark.parametrize("code", [0, 1, 2, 75, 130, 137])
def test_the_cluster_script_ends_as_the_training_does(code: int, shell: list[str], tmp_path: Path) -> None:
    """Without SIGUSR1 it does not put the job back, even if the training was stopped: scancel sends SIGTERM."""
    where = environment(tmp_path, f"exit {code}")
    ended = subprocess.run([*shell, SCRIPT, "data.root=a b", "loss=mae"], cwd=tmp_path, env=where, timeout=60)
    assert ended.returncode == code
    assert calls(tmp_path) == ["python train.py trainer=slurm resume=auto name=job-17 data.root=a b loss=mae"]


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
