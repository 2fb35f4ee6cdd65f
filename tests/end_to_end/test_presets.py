"""Every preset trains on real radiographs, and resumes to the byte after a kill within an epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.findings import NIH14
from tests.end_to_end.test_resume import Killed, kill, logged, same_end  # noqa: F401  # fixtures

pytestmark = pytest.mark.slow
SHORT = (
    "trainer=cpu", "data.workers=0", "logger=csv", "backbone.pretrained=false", "backbone.weights=null",
    "cache.size=null", "trainer.max_epochs=3", "trainer.limit_train_batches=null", "batch_size=8",
    "synthetic_batch_size=8", "checkpoint.every_steps=1", "checkpoint.every_seconds=null",
    "trainer.log_every_n_steps=1",
)  # fmt: skip
SMALL = ("image_size=32", "backbone=resnet10", "backbone.pretrained=false")
SINGLE = ("data=nih", "data.single_finding=true", "data.findings=[Infiltration,Effusion,Atelectasis]")
DEFERRED = ("loss.defer_epochs=1", "scheduler.after_epochs=1")
HOLSTE = ("softmax", "cb", "rw", "focal", "cb_focal", "rw_focal", "ldam", "cb_ldam", "cb_ldam_drw", "rw_ldam",
          "rw_ldam_drw", "mixup", "balanced_mixup", "crt", "tau_norm")  # fmt: skip
PRESETS: dict[str, tuple[str, ...]] = {
    **{f"holste_{name}": (*SINGLE, *SMALL, *(DEFERRED if "drw" in name else ())) for name in HOLSTE},
    **{f"pillai_{name}": ("image_size=32",) for name in ("customnet", "densenet121", "resnet50", "vgg16")},
    "pillai_inception_v3": ("image_size=75",),
    "swinchex": ("image_size=64", "backbone.name=swin_tiny_patch4_window7_224", "crop=false"),
    "dwml": ("image_size=32", "backbone.name=convnext_atto"),
    "paper_mobilenet": ("image_size=32",),
}


@pytest.fixture
def films(shared: Path, here: Path) -> tuple[str, ...]:
    """Options of 40 training, 16 validation and 16 test radiographs, with as many of each finding as of the others."""
    root = shared / "nih_mini"
    if not root.is_dir():
        pytest.skip("the real radiographs of CXR_SHARED are not here")
    labels = pd.read_csv(root / "Data_Entry_2017.csv").set_index("Image Index")["Finding Labels"]
    options = []
    for name, count in (("train", 40), ("val", 16), ("test", 16)):
        listed = (root / f"{name}_list.txt").read_text().split()
        single = [image for image in listed if labels[image] in ("Infiltration", "Effusion", "Atelectasis")]
        chosen = pd.Series(single).groupby(labels[single].to_numpy()).head(-(-count // 3))
        (here / f"{name}.txt").write_text("\n".join(chosen.tolist()[:count]))
        options.append(f"data.{name}_list={here / f'{name}.txt'}")
    np.savez(here / "vectors.npz", **{name: np.random.default_rng(k).normal(size=8) for k, name in enumerate(NIH14)})
    return (f"data.root={root}", f"cache.dir={here / 'cache'}", *options)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_on_radiographs_and_resumes_to_the_byte(
    train: Callable[..., Any],
    here: Path,
    films: tuple[str, ...],
    kill: Callable[[str, int], None],  # noqa: F811
    preset: str,
) -> None:
    def options(name: str) -> list[str]:
        chosen = [f"experiment={name}", *films, *PRESETS[name], *SHORT]
        if name == "dwml":
            chosen.append(f"text.file={here / 'vectors.npz'}")
        if name == "holste_tau_norm":
            chosen = [option for option in chosen if not option.startswith(("synthetic_batch", "trainer.limit_train"))]
        return chosen

    words = options(preset)
    if preset in ("holste_crt", "holste_tau_norm"):
        first = train(*options("holste_softmax"), "name=first", plain=True)
        assert first.code == 0, first.err
        words.append(f"init={here / 'runs' / 'first'}")
    torch.set_num_threads(1)
    straight = train(*words, "name=straight", plain=True)
    assert straight.code == 0, straight.err
    rows = logged(here / "runs" / "straight" / "metrics.csv")
    assert len(rows) == 3
    kill("training_step", max(2, int(rows[0]["step"])))  # in the last batch of epoch 1, before deferred weights begin
    with pytest.raises(Killed):
        train(*words, "name=killed", plain=True)
    kill("training_step", 1 if preset == "holste_tau_norm" else 3)  # early in epoch 2, after they began
    with pytest.raises(Killed):
        train("name=killed", "resume=true", plain=True)
    resumed = train("name=killed", "resume=true", plain=True)
    assert resumed.code == 0, resumed.err
    same_end(here / "runs" / "killed", here / "runs" / "straight")
