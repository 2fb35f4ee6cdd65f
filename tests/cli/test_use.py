"""`cxr-use` does what `python -m cxr` does with a bundle, and needs nothing but its own parts and packages."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from cxr import __version__
from cxr.cli.entry import cxr_use, run
from tests.use.made import bundle

ROOT = Path(__file__).parents[2]
SMALL = tomllib.loads((ROOT / "packaging" / "cxr-use.toml").read_text())
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}  # where the name is another one


def requirements(project: dict[str, object]) -> set[str]:
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    return {*project["dependencies"], *(line for lines in extras.values() for line in lines)}  # type: ignore[misc]


def test_its_requirements_are_those_of_the_project() -> None:
    assert requirements(SMALL["project"]) <= requirements(WHOLE)


def test_the_page_is_part_of_it() -> None:
    small = SMALL["tool"]["setuptools"]
    folders = {f"cxr.{init.parent.relative_to(ROOT / 'cxr').as_posix().replace('/', '.')}"
               for init in (ROOT / "cxr" / "use").rglob("__init__.py")}  # fmt: skip
    assert "cxr.use.page" in folders <= set(small["packages"])
    kept = small["package-data"].get("cxr.use.page", [])
    page = ROOT / "cxr" / "use" / "page"
    others = {path.name for path in page.iterdir() if path.is_file() and path.suffix != ".py"}
    assert others == {path.name for pattern in kept for path in page.glob(pattern)}


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bundle `bundle` and three files in `films`, which is the current directory."""
    bundle(tmp_path / "bundle")
    (tmp_path / "films").mkdir()
    for name in ("a", "b"):
        shades = np.random.default_rng(len(name)).integers(0, 256, (20, 30), np.uint8)
        Image.fromarray(shades).save(tmp_path / "films" / f"{name}.png")
    (tmp_path / "films" / "c.png").write_text("no image")
    (tmp_path / "films.csv").write_text("image,age,sex\nb.png,70,F\nc.png,,\nabsent.png,,\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_parts_alone_write_the_same_table(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in SMALL["tool"]["setuptools"]["packages"]:
        source = ROOT / ("conf" if package == "cxr.conf" else package.replace(".", "/"))
        for file in [path for path in source.iterdir() if path.is_file()]:
            target = films / "parts" / package.replace(".", "/") / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    kept = {IMPORTED.get(name, name) for name in (Requirement(line).name for line in SMALL["project"]["dependencies"])}
    absent = {Requirement(line).name for line in WHOLE["dependencies"]} - set(IMPORTED) - kept | {"cxr.training"}
    assert {"torch", "timm", "lightning", "hydra-core", "omegaconf"} <= absent
    code = (
        f"import sys\nfor name in {sorted(absent)!r}: sys.modules[name.replace('hydra-core', 'hydra')] = None\n"
        "from cxr.cli.entry import cxr_use\nwords = sys.argv[1:]\n"
        "sys.argv = ['cxr-use', 'check', 'bundle=bundle']\ncxr_use()\n"
        "sys.argv = ['cxr-use', 'predict', *words]\ncxr_use()"
    )
    words = ["bundle=bundle", "images=films.csv", "root=films", "batch_size=1", "workers=1"]
    made = subprocess.run(
        [sys.executable, "-c", code, *words, "out=small.csv"],
        env={"PYTHONPATH": str(films / "parts")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    monkeypatch.setattr(sys, "argv", ["cxr"])
    assert run("predict", [*words, "out=whole.csv"]) == 0
    lines = (films / "small.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["status", "ok", "refused", "refused"]
    assert lines == (films / "whole.csv").read_text().splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "cxr-use PROGRAM --help"),
        ("--version", f"cxr-use {__version__}"),
        ("predict --help", "batch_size: auto "),
        ("check bundle=bundle", "2 networks, 2 findings\ndigest "),
    ],
)
def test_it_explains_itself_and_checks_a_bundle(
    films: Path, words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr-use", *words.split()])
    cxr_use()
    printed = capsys.readouterr().out
    assert said in printed and "run: null" not in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train", "train is not a program; choose one of predict, serve, check"),
        ("predict run=runs/a", "run=runs/a is not an option of cxr-use predict; write bundle=, digest="),
        ("predict bundle", "bundle is not an option"),
        ("predict images=films out=x.csv", "bundle is not set"),
        ("predict bundle=bundle out=x.csv", "images is not set"),
        ("predict bundle=bundle images=films out=x.csv batch_size=0", "batch_size=0 must be auto or a positive"),
        ("predict bundle=bundle images=films out=x.csv batch_size=many", "batch_size=many must be auto or a positive"),
        ("predict bundle=bundle images=films out=x.csv maps=films", "maps=films has files"),
        ("check bundle=bundle digest=00", "not 00; it is not the bundle that you expect"),
        ("serve bundle=bundle host=0.0.0.0", "set the environment variable CXR_TOKEN"),
    ],
)
def test_mistakes_are_errors_in_one_sentence(
    films: Path, words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CXR_TOKEN", raising=False)
    monkeypatch.setattr(sys, "argv", ["cxr-use", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        cxr_use()
    assert stopped.value.code == 1 and said in capsys.readouterr().err
    assert not (films / "x.csv").exists()
