"""Two runs on small drawn images and ensembles of them, made once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from cxr.cli import conf_dir
from cxr.run.directory import Run
from tests.conftest import HEADER
from tests.training.conftest import TINY, composed

FINDINGS = ("Effusion", "Mass", "Nodule")
METHODS = ("weighted", "stacking", "geometric", "max_vote", "hard_vote")


@dataclass(frozen=True)
class Runs:
    """A folder of finished runs, which no test changes.

    Attributes:
        folder: with the runs `a`, of 32 px with an attention, `b`, of 24 px from a crop with age, sex and view, and an
            ensemble named after each of `METHODS`.
        data: their images.
    """

    folder: Path
    data: Path

    def __getitem__(self, name: str) -> Run:
        return Run(self.folder / name)


def draw(root: Path) -> Path:
    """90 images of 45 patients in the NIH layout: noise with a bright half or corner where there is a finding."""
    (root / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), [HEADER]
    for number in range(90):
        found = rng.random(3) < 0.4
        shades = rng.integers(40, 120, (40, 48))
        shades[:20] += 60 * found[0]
        shades[:, :24] += 40 * found[1]
        shades[20:, 24:] += 30 * found[2]
        name, labels = f"{number // 2 + 1:08d}_{number % 2:03d}.png", "|".join(np.array(FINDINGS)[found])
        Image.fromarray(shades.astype(np.uint8)).save(root / "images" / name)
        view = ("PA", "AP")[number % 2]
        rows.append(
            f"{name},{labels or 'No Finding'},{number % 2},{number // 2 + 1},{20 + number // 2},M,{view},1,1,1,1"
        )
    (root / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")
    names = [row.partition(",")[0] for row in rows[1:]]
    (root / "train_val_list.txt").write_text("\n".join(names[:60]))
    (root / "test_list.txt").write_text("\n".join(names[60:]))
    return root


def ensemble(name: str, folder: Path, *overrides: str) -> None:
    """Makes an ensemble of `a` and `b`."""
    from cxr.ensemble.stage import run_ensemble

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("ensemble", [f"method={name}", f"runs=[{folder}/a,{folder}/b]", "bootstrap=0", *overrides])
    content: Any = OmegaConf.to_container(config, resolve=True)
    run_ensemble(content, Run(folder / name))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    from cxr.training.run import train

    folder = tmp_path_factory.mktemp("exported") / "runs"
    data = draw(folder.parent / "films")
    tiny = (
        "backbone=custom",
        "+backbone.channels=[4,8,8]",
        "data.findings=[Effusion,Mass,Nodule]",
        "optimizer.lr=3e-3",
    )
    other = ("image_size=24", "cache.size=32", "crop=true", "fusion=join", "attention=multi_head", "seed=1")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("training.finish.draw_run", "ensemble.write.draw"):
            patch.setattr(f"cxr.{module}", lambda *arguments, **options: None)
        for name, changed in (("a", ("attention=csra",)), ("b", other)):
            train(composed(*TINY, f"data.root={data}", *tiny, *changed), Run(folder / name))
        for method in METHODS:
            ensemble(method, folder)
    yield Runs(folder, data)
