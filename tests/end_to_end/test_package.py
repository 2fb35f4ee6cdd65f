"""A package outside the checkout, written from docs/extending.md alone: trained, resumed, evaluated, combined."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.configuration.plugins import trust

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^`my_package/([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PARTS = ("plugins=[my_package]", "backbone=mine", "attention=mine", "loss=mine", "task=mine", "data=mine")
SMALL = ("image_size=32", "batch_size=8", "trainer=cpu", "data.root=films", "trainer.max_epochs=1", "data.workers=0")


@pytest.fixture
def package(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the page and a data set for its source; `code` is on the path of Python."""
    for name, text in FENCE.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        file = here / "code" / "my_package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (here / "code" / "my_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(here / "code"))
    rng, films = np.random.default_rng(0), here / "films" / "films"
    films.mkdir(parents=True)
    rows = []
    for number in range(60):
        labels = rng.integers(0, 2, 2)
        noise = rng.integers(60, 120, (40, 40))
        noise[:20] += 80 * labels[0]
        noise[20:] += 80 * labels[1]
        Image.fromarray(noise.astype(np.uint8)).save(films / f"{number}.png")
        rows.append([f"{number}.png", f"p{number // 2}", ("train", "val", "test")[number // 20], *labels])
    columns = ["image", "patient", "split", "Fracture", "Effusion"]
    pd.DataFrame(rows, columns=columns).to_csv(here / "films" / "table.csv", index=False)
    yield here
    trust([])
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_parts_of_a_package_outside_the_checkout_work_from_training_to_the_ensemble(
    package: Path, train: Callable[..., Any], ensemble: Callable[..., Any]
) -> None:
    for seed in (0, 1):
        done = train(*PARTS, *SMALL, f"name=run{seed}", f"seed={seed}", plain=True)
        assert done.code == 0, done.err
    log = pd.read_csv(package / "runs" / "run0" / "metrics.csv")
    assert {"val/brier_mean", "train/brier_mean"} <= set(log) and len(log) == 1
    for trusted in ([], ["plugins=[]"]):
        refused = train("name=run0", "resume=true", "trainer.max_epochs=2", *trusted, plain=True)
        assert refused.code == 1
        assert "is not allowed" in refused.err and "if you trust the package my_package" in refused.err
        assert "pass plugins=[my_package]" in refused.err
    assert len(pd.read_csv(package / "runs" / "run0" / "metrics.csv")) == 1
    resumed = train("name=run0", "resume=true", "trainer.max_epochs=2", "plugins=[my_package]", plain=True)
    assert resumed.code == 0, resumed.err
    assert len(pd.read_csv(package / "runs" / "run0" / "metrics.csv")) == 2
    shutil.rmtree(package / "runs" / "run1" / "predictions")
    members = "runs=[runs/run0,runs/run1]"
    refused = ensemble("method=average", members)
    assert refused.code == 1 and "pass plugins=[my_package]" in refused.err
    assert not (package / "runs" / "ensemble-average").exists()
    combined = ensemble("method=average", members, "plugins=[my_package]")
    assert combined.code == 0, combined.err
    assert (package / "runs" / "ensemble-average" / "table.md").exists()


def test_what_a_package_imports_is_not_what_it_defines(package: Path, train: Callable[..., Any]) -> None:
    """A run that names `my_package.losses.torch...` gets no further than one that names PyTorch's own."""
    assert train(*PARTS, *SMALL, "name=run0", plain=True).code == 0
    config = package / "runs" / "run0" / "config.yaml"
    config.write_text(config.read_text().replace("my_package.losses.Focal", "my_package.losses.over_known"))
    refused = train("name=run0", "resume=true", "trainer.max_epochs=2", "plugins=[my_package]", plain=True)
    assert refused.code == 1 and "_target_=my_package.losses.over_known is not allowed" in refused.err


def test_one_may_name_anything_that_can_be_imported(package: Path, train: Callable[..., Any]) -> None:
    """On one's own command line, without plugins; a run from disk may not."""
    (package / "code" / "loose.py").write_text((package / "code" / "my_package" / "losses.py").read_text())
    parts = [part for part in PARTS if part != "loss=mine"]
    done = train(
        *parts,
        *SMALL,
        "loss._target_=loose.Focal",
        "~loss.positive_weights",
        "~loss.smoothing",
        "name=run0",
        plain=True,
    )
    assert done.code == 0, done.err
    refused = train("name=run0", "resume=true", "trainer.max_epochs=2", "plugins=[my_package]", plain=True)
    assert refused.code == 1 and "pass plugins=[loose]" in refused.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("plugins=[my_packag]", "plugins contains my_packag, but Python finds no package of that name"),
        ("plugins=my_package.losses", "plugins contains my_package.losses, but Python finds no package of that name"),
        ("plugins=['../x']", "plugins contains '../x', which is not a package name"),
        ("plugins=[3]", "plugins contains 3, which is not a package name"),
        ("plugins=[my_package.absent.x]", "plugins=[my_package.absent.x] cannot be imported"),
    ],
)
def test_what_is_no_package_is_refused(package: Path, train: Callable[..., Any], given: str, said: str) -> None:
    refused = train(given, plain=True)
    assert refused.code == 1 and said in refused.err, refused.err


def test_an_option_of_the_package_that_does_not_exist_is_refused_with_those_that_do(
    package: Path, train: Callable[..., Any]
) -> None:
    refused = train("plugins=[my_package]", "backbone=mines", plain=True)
    assert refused.code == 1 and "did you mean mine?" in refused.err and "convnext, " in refused.err
