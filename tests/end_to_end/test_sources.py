"""Whole runs on a source that delivers all that a catalog may hold: folders, a split, soft targets, boxes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import cxr.data.sources
from tests.end_to_end.test_resume import RECIPE, die, kill, last_of, same_end  # noqa: F401  # a fixture
from tests.parts import add

SOURCE = """
from dataclasses import replace

import numpy as np

from cxr.data.catalog import Catalog, check
from cxr.data.sources.phantom import read_phantom


def read_mine(root: str | None, **options: object) -> Catalog:
    drawn = read_phantom(root, **options)
    table, boxes = drawn.table, drawn.boxes
    folders = dict(zip(table["image"], "p" + table["patient"] + "/" + table["image"], strict=True))
    patients = table["patient"].unique()
    sides = dict(zip(patients, np.resize(["train", "train", "train", "test", "", "val"], len(patients)), strict=True))
    soft = np.where(np.arange(len(table)) % 3 == 0, np.nan, 0.8 * table["Mass"] + 0.1)
    table = table.assign(image=table["image"].map(folders), split=table["patient"].map(sides), **{"soft:Mass": soft})
    boxes = boxes.assign(image=boxes["image"].map(folders), x=boxes["x"] / 2, width=boxes["width"] / 2, image_width=512)
    return check(replace(drawn, table=table, boxes=boxes))
"""
MINE = ("data.source._target_=cxr.data.sources.mine.read_mine", "data.train_list=null", "data.test_list=null")


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(cxr.data.sources, SOURCE, tmp_path, monkeypatch)


@pytest.mark.pictures
def test_a_run_takes_folders_the_sources_split_soft_targets_boxes_and_further_test_splits(
    train: Callable[..., Any], here: Path, phantoms: Path
) -> None:
    entries = pd.read_csv(phantoms / "Data_Entry_2017.csv", index_col=False, dtype=str)
    patients = entries["Patient ID"].unique()
    ids = "p" + entries["Patient ID"] + "/" + entries["Image Index"]
    outside = ids[entries["Patient ID"].isin(patients[4::6])]
    (here / "other.txt").write_text("\n".join(outside))
    done = train(
        *MINE, f"data.test_lists.other={here / 'other.txt'}", "name=a", "trainer.max_epochs=1", "attention=location"
    )
    assert done.code == 0, done.err
    run = here / "runs" / "a"
    test = pd.read_parquet(run / "predictions" / "test.parquet")
    assert test["image"].tolist() == ids[entries["Patient ID"].isin(patients[3::6])].tolist()
    assert set(np.unique(test["target:Mass"])) <= {0.0, 1.0}
    metrics = json.loads((run / "metrics.json").read_text())
    log = pd.read_csv(run / "metrics.csv")
    assert 0 <= log["train/macro_auroc"][0] <= 1 and metrics["localisation"]["pairs"] > 0
    assert (run / "figures" / "attention_test.png").is_file()
    saved = (run / "config.yaml").read_text()
    assert f"other: {here / 'other.txt'}" in saved
    words = ("name=a", "resume=true", f"data.root={phantoms}")
    (here / "other.txt").rename(here / "moved.txt")
    done = train(*words, f"data.test_lists.other={here / 'moved.txt'}", plain=True)
    assert done.code == 0 and "is finished" in done.out, done.err
    (here / "moved.txt").rename(here / "other.txt")
    again = train("name=a", "resume=true", "trainer.max_epochs=2", plain=True)
    assert again.code == 0, again.err
    (here / "other.txt").write_text("\n".join(outside[1:]))  # what it is tested on has changed
    refused = train("name=a", "resume=true", "trainer.max_epochs=3", plain=True)
    assert refused.code == 1 and "the data of runs/a have changed since it was started" in refused.err


def test_a_run_with_soft_targets_that_died_in_an_epoch_resumes_to_the_same_bytes(
    train: Callable[..., Any], here: Path, kill: Callable[[str, int], None],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = (*MINE, "trainer.max_epochs=2")
    torch.set_num_threads(1)
    assert train(*RECIPE, *recipe, "name=straight").code == 0
    kill("training_step", 11)
    die(train, *RECIPE, *recipe, "name=b")
    died = last_of(here / "runs" / "b")
    (scores,) = (state["scores"] for key, state in died["callbacks"].items() if key.startswith("MidEpoch"))
    targets = scores[2].numpy()
    assert ((targets > 0) & (targets < 1)).any()  # it holds soft targets
    resumed = train("name=b", "resume=true", plain=True)
    assert resumed.code == 0 and ", batch " in resumed.out, resumed.err
    same_end(here / "runs" / "b", here / "runs" / "straight")
