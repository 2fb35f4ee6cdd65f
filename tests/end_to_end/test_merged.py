"""A run on two merged tables, which have films in common."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.cli.options import plain
from cxr.configuration.schema import Train
from cxr.errors import CxrError
from cxr.training.prepare import prepare


@pytest.fixture
def two(here: Path) -> Callable[[str], tuple[str, ...]]:
    """A function that writes two tables and gives the options that merge them.

    Two images of patient 9 of the second set are changed copies of a test and a training image of the first.
    """

    def write(copy_split: str) -> tuple[str, ...]:
        words = ["data=merged", "image_size=64", "trainer=cpu", "data.workers=0", "cache.processes=1", "batch_size=4"]
        rng = np.random.default_rng(0)
        films = [np.kron(rng.integers(0, 256, (12, 12)), np.ones((8, 8))).astype(np.uint8) for _ in range(12)]
        for name, first in (("a", 0), ("b", 6)):
            folder = here / name
            folder.mkdir()
            rows = ["image,patient,split,Mass"]
            for k in range(6):
                Image.fromarray(films[first + k]).save(folder / f"{k}.png")
                rows.append(f"{k}.png,{k // 2},{('train', 'val', 'test')[k // 2]},{k % 2}")
            if name == "b" and copy_split:
                Image.fromarray(films[4]).resize((80, 80), Image.Resampling.BICUBIC).save(folder / "6.png")
                Image.fromarray(255 - films[0] // 2).save(folder / "7.png")
                rows += [f"6.png,9,{copy_split},0", f"7.png,9,{copy_split},1"]
            (folder / "films.csv").write_text("\n".join(rows))
            words += [f"data.sets.{name}=table", f"data.sets.{name}.root={folder}", f"data.sets.{name}.file=films.csv"]
        return tuple(words)

    return write


def images(words: Sequence[str]) -> set[str]:
    """The images that a training with these options uses."""
    line = read_command_line("train", words, str(conf_dir()))
    assert line.config is not None
    return set(prepare(plain(line.config, Train)).catalog.table["image"])


@pytest.mark.parametrize(
    ("copy_split", "left_out"),
    [("train", {"b/6.png", "b/7.png"}), ("test", {"b/6.png", "a/0.png", "a/1.png"})],
)
def test_copies_that_cross_sides_are_refused_or_left_out_with_their_patients(
    two: Callable[[str], tuple[str, ...]], copy_split: str, left_out: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = two(copy_split)
    every = {f"{name}/{k}.png" for name, count in (("a", 6), ("b", 8)) for k in range(count)}
    for _ in range(2):  # the second time with the pairs in the cache
        with pytest.raises(CxrError, match=r"in several sets .*: 2 radiographs: .*a/4.png \(test\).*on_error=skip"):
            images(words)
    assert images((*words, "cache.on_error=skip")) == every - left_out
    assert capsys.readouterr().out.count("searching") == 1


def test_the_program_cache_builds_the_cache_of_the_training_and_finds_copies(
    program: Callable[..., Any], two: Callable[[str], tuple[str, ...]], here: Path
) -> None:
    words = [word for word in two("train") if not word.startswith(("trainer", "data.workers", "batch_size"))]
    refused = program("cache", *words)
    assert refused.code == 1 and "2 radiographs: " in refused.err
    assert program("cache", *words, "cache.on_error=skip").code == 0
    (folder,) = (here / "data" / "merged" / "cxr-cache").glob("64px-*")
    assert (folder / "copies.csv").read_text().count("\n") == 3


def test_a_run_on_merged_sets_has_metrics_of_every_set(
    train: Callable[..., Any], two: Callable[[str], tuple[str, ...]], here: Path
) -> None:
    words = ("name=m", "trainer.max_epochs=1", "sampler=balanced_sets", "backbone=resnet10")
    done = train(*two(""), *words, plain=True)
    assert done.code == 0, done.err
    run = here / "runs" / "m"
    metrics = json.loads((run / "metrics.json").read_text())
    test = pd.read_parquet(run / "predictions" / "test.parquet")
    assert test["source"].tolist() == ["a", "a", "b", "b"]
    for name, rows in test.groupby("source"):
        of_set = pd.read_parquet(run / "predictions" / f"{name}.parquet")
        assert of_set["image"].tolist() == rows["image"].tolist()
        assert metrics[name]["auroc"]["Mass"] == pytest.approx(roc_auc_score(rows["target:Mass"], rows["score:Mass"]))
    again = train("name=m", "resume=true", plain=True)
    assert again.code == 0 and "is finished" in again.out, again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=merged",), "needs two sets or more; pass data.sets.NAME=OPTION"),
        (("data=merged", "data.sets.a=tabel"), "did you mean table"),
        (("data=merged", "data.sets.a=table", "data.sets.a.rot=x"), "no option data.sets.a.rot"),
        (("data=merged", "data.sets.a=table", "data.sets.a.root=."), "data.sets.a: data.file"),
        (("data=merged", "data.sets=[nih,chexpert]"), "data.sets is not a list; write data.sets.NAME=VALUE"),
        (("data=merged", "data.sets.test=nih"), "data.sets.test: a set needs a name"),
        (("data=nih", "data.root=.", "data.sets.a=nih"), "choose data=merged"),
        (
            ("data=merged", "data.val_share=0.3"),
            "no effect with data=merged; pass data.sets.NAME.val_share=0.3 for each",
        ),
        (("data=merged", "data.on_missing=skip"), "data.on_missing=skip has no effect with data=merged"),
        (("data=merged", "data.split_seed=1"), "data.split_seed=1 has no effect with data=merged"),
        (("data=merged", "data.split_seed=1", "data.folds=2", "data.fold=0"), "needs two sets or more"),
    ],
)
def test_mistakes_are_one_sentence(train: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    done = train(*words, plain=True)
    assert done.code == 1 and message in done.err, done.err
