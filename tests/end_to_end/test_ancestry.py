"""`init=`: initial weights from another run, which are never evaluated on their earlier training patients."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.data.sources.nih import read_nih
from cxr.run.predictions import read_predictions
from tests.end_to_end.test_contracts import judged

Program = Callable[..., Any]
ONE = ("trainer.max_epochs=1",)


def lists(here: Path, phantoms: Path, name: str, train: slice, test: slice) -> list[str]:
    """Options for own lists of images: slices of the patients."""
    table = read_nih(str(phantoms)).table
    patients = sorted(table["patient"].unique())
    options = []
    for split, part in (("train", train), ("test", test)):
        images = table["image"][table["patient"].isin(patients[part])]
        (here / f"{name}_{split}.txt").write_text("\n".join(images))
        options.append(f"data.{split}_list={here / f'{name}_{split}.txt'}")
    return options


@pytest.fixture
def halves(here: Path, phantoms: Path) -> tuple[list[str], list[str]]:
    """Two disjoint sets of patients, each with a training and a test list."""
    count = read_nih(str(phantoms)).table["patient"].nunique()
    half, most = count // 2, count // 3
    first = lists(here, phantoms, "first", slice(0, most), slice(most, half))
    return first, lists(here, phantoms, "second", slice(half, half + most), slice(half + most, None))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]


def test_a_run_starts_from_the_weights_of_another(train: Program, here: Path) -> None:
    assert train("name=a", *ONE).code == 0
    done = train("name=b", *ONE, "init=runs/a", "optimizer.lr=0", "optimizer.weight_decay=0", "seed=5")
    assert done.code == 0, done.err
    assert "initial weights: runs/a/checkpoints/best.ckpt\n" in done.out
    first, second = weights(here / "runs" / "a"), weights(here / "runs" / "b")
    parameters = [name for name in first if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in parameters)
    done = train("name=c", *ONE, "init=runs/a", "optimizer.lr=0", "optimizer.weight_decay=0", "head=mlp")
    assert done.code == 0 and "; the head is initialized randomly" in done.out, done.err
    third = weights(here / "runs" / "c")
    kept = [name for name in parameters if not name.startswith("network.head.")]
    assert len(kept) > 10 and all(torch.equal(first[name], third[name]) for name in kept)


def test_training_data_of_an_ancestor_are_refused_as_test_set(
    train: Program, ensemble: Program, here: Path, halves: tuple[list[str], list[str]]
) -> None:
    first, second = halves
    assert train("name=grand", *ONE, *first).code == 0
    assert train("name=parent", *ONE, *second, "init=runs/grand").code == 0
    again = train("name=child", *ONE, *first, "init=runs/parent")  # a second stage, judged on what no stage has seen
    assert again.code == 0, again.err
    swapped = [first[1].replace("test_list", "train_list"), first[0].replace("train_list", "test_list")]
    shutil.move(here / "runs" / "parent", here / "moved")  # neither its name nor its place counts
    for options in ([*swapped, "data.val_share=0.5"], [second[0], first[0].replace("train_list", "test_list")]):
        refused = train("name=late", *ONE, *options, "init=moved/checkpoints/best.ckpt")
        assert refused.code == 1 and "init=moved/checkpoints/best.ckpt" in refused.err, refused.err
        assert "were trained or selected with" in refused.err and "of the test split" in refused.err
        assert not (here / "runs" / "late").exists()


def test_scores_of_images_that_were_trained_on_are_not_combined(
    train: Program, ensemble: Program, here: Path, phantoms: Path
) -> None:
    for seed in (0, 1):
        assert train(f"name=run{seed}", *ONE, f"seed={seed}").code == 0
    table = read_nih(str(phantoms)).table
    folders = [here / "runs" / f"run{seed}" / "predictions" for seed in (0, 1)]
    judged = [read_predictions(folders[0] / f"{name}.parquet") for name in ("val", "test")]
    trained = table[~table["patient"].isin({patient for one in judged for patient in one.patient})]
    for split in ("val", "test"):
        honest = [(folder / f"{split}.parquet").read_bytes() for folder in folders]
        for folder in folders:  # somebody puts the names of training images into the file
            scores = read_predictions(folder / f"{split}.parquet")
            names = {key: trained[key].to_numpy(object)[: len(scores)] for key in ("image", "patient")}
            replace(scores, **names).write(folder / f"{split}.parquet")
        refused = ensemble("method=average", "runs=[runs/run0,runs/run1]")
        assert refused.code == 1 and "the weights of runs/run0" in refused.err, refused.err
        assert f"of the {split} split, such as {trained['patient'].iloc[0]}" in refused.err
        for folder, content in zip(folders, honest, strict=True):
            (folder / f"{split}.parquet").write_bytes(content)


def test_unknown_first_weights_are_said_in_every_table(train: Program, ensemble: Program, here: Path) -> None:
    assert train("name=a", *ONE).code == 0
    path = here / "runs" / "a" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["cxr"]["ancestry"]  # as earlier versions wrote them
    torch.save(checkpoint, here / "old.ckpt")
    assert train("name=b", *ONE, "init=old.ckpt").code == 0
    kept = torch.load(here / "runs" / "b" / "checkpoints" / "best.ckpt", weights_only=True)["cxr"]["ancestry"]
    assert kept["unknown"] == ["a checkpoint of an earlier version"] and len(kept["trained"]) > 0
    assert ensemble("method=average", "runs=[runs/a,runs/b]", "name=both").code == 0
    said = "Initial weights with unknown training patients: a checkpoint of an earlier version"
    for run in ("b", "both"):
        tables = sorted((here / "runs" / run / "evaluation").glob("*.md"))
        assert len(tables) >= 2 and all(said in table.read_text() for table in tables)
    assert said in (here / "runs" / "both" / "table.md").read_text()
    for run in ("b", "both"):
        judged(f"run=runs/{run}")
        assert all(said in table.read_text() for table in (here / "runs" / run / "evaluation").glob("*.md"))
    assert all(said not in table.read_text() for table in (here / "runs" / "a" / "evaluation").glob("*.md"))


def test_a_run_resumes_without_its_ancestor(train: Program, here: Path) -> None:
    assert train("name=a", *ONE).code == 0
    assert train("name=b", *ONE, "init=runs/a").code == 0
    shutil.rmtree(here / "runs" / "a")
    done = train("name=b", "resume=true", "trainer.max_epochs=2", plain=True)
    assert done.code == 0, done.err
    first, last = (
        torch.load(here / "runs" / "b" / "checkpoints" / f"{name}.ckpt", weights_only=True)["cxr"]["ancestry"]
        for name in ("best", "last")
    )
    assert torch.equal(first["trained"], last["trained"]) and torch.equal(first["selected"], last["selected"])
