"""One training from the command line to a run directory that other code can check."""

import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parents[2]
SPLITS = ("val", "test")
ONE = ("trainer.max_epochs=1", "optimizer.lr=3e-3")


def scored(path: Path) -> tuple[pd.DataFrame, list[str]]:
    frame = pd.read_parquet(path)
    return frame, [name.removeprefix("score:") for name in frame if str(name).startswith("score:")]


def table_of(root: Path) -> dict[str, tuple[str, set[str]]]:
    """Patient and findings of every image, by the csv module alone."""
    with (root / "Data_Entry_2017.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[0]: (row[3], set(row[1].split("|"))) for row in rows}


def logged(path: Path) -> list[list[str]]:
    """The log without its wall-clock column."""
    with path.open(newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


@pytest.mark.pictures
def test_a_run_leaves_what_other_code_can_check(train: Callable[..., Any], here: Path, phantoms: Path) -> None:
    result = train(*ONE, "name=a")
    assert result.code == 0, result.err
    run = here / "runs" / "a"
    metrics = json.loads((run / "metrics.json").read_text())
    truth = table_of(phantoms)
    tested = (phantoms / "test_list.txt").read_text().split()
    for split in SPLITS:
        frame, findings = scored(run / "predictions" / f"{split}.parquet")
        assert len(findings) == 14
        areas = []
        for finding in findings:
            target, score = frame[f"target:{finding}"].to_numpy(), frame[f"score:{finding}"].to_numpy()
            assert score.dtype == np.float32
            assert [float(finding in truth[image][1]) for image in frame["image"]] == target.tolist()
            stated = metrics[split]["auroc"][finding]
            assert metrics[split]["positives"][finding] == target.sum()
            assert metrics[split]["accuracy"][finding] == pytest.approx(((score >= 0.5) == target).mean(), abs=1e-6)
            if 0 < target.sum() < len(target):
                areas.append(roc_auc_score(target, score))
                assert stated == pytest.approx(areas[-1], abs=1e-6)
            else:
                assert stated is None and finding in metrics[split]["left_out_of_macro_auroc"]
        assert metrics[split]["macro_auroc"] == pytest.approx(np.mean(areas), abs=1e-6)
        assert metrics[split]["n"] == len(frame)
        assert [truth[image][0] for image in frame["image"]] == frame["patient"].tolist()
    test, val = (scored(run / "predictions" / f"{split}.parquet")[0] for split in ("test", "val"))
    assert sorted(test["image"]) == sorted(tested)
    assert not set(val["patient"]) & set(test["patient"]) and not set(val["image"]) & set(tested)
    pictures = {path.stem for path in (run / "figures").glob("*.png")}
    assert pictures == {
        "prevalence", "cooccurrence", "cooccurrence_chestxray8", "learning_curves", "roc_val", "roc_test",
        "attention_test",
    }  # fmt: skip
    assert sorted(path.name for path in here.iterdir()) == ["runs"]
    assert not [path for path in run.rglob(".*")]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(train: Callable[..., Any], here: Path) -> None:
    runs = here / "runs"
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(*ONE, f"name={name}", f"seed={seed}", "head.dropout=0.3", "data.split_seed=0").code == 0
    for part in ("metrics.json", "predictions/test.parquet", "predictions/val.parquet"):
        assert (runs / "a" / part).read_bytes() == (runs / "b" / part).read_bytes()
        assert (runs / "a" / part).read_bytes() != (runs / "c" / part).read_bytes()


@pytest.mark.pictures
def test_pictures_that_fail_cost_no_results(
    train: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("the renderer broke")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    monkeypatch.setattr("cxr.training.pictures.attention_cases", broken)
    result = train(*ONE, "name=a")
    assert result.code == 0 and (here / "runs" / "a" / "metrics.json").is_file()
    said = [line for line in result.out.splitlines() if line.startswith("WARNING: the figure runs/a/figures/")]
    assert len(said) == 7 and all(line.endswith("cannot be drawn: the renderer broke") for line in said)


class TestNames:
    """Which run directory appears, and when."""

    def test_a_taken_name_is_refused_and_a_derived_one_counts_up(self, train: Callable[..., Any], here: Path) -> None:
        assert train(*ONE).code == 0
        assert train(*ONE).code == 0
        assert sorted(path.name for path in (here / "runs").iterdir() if not path.name.startswith(".")) == [
            "resnet10-location-bce",
            "resnet10-location-bce-2",
        ]
        before = (here / "runs" / "resnet10-location-bce" / "config.yaml").stat().st_mtime_ns
        refused = train(*ONE, "name=resnet10-location-bce")
        assert refused.code == 1
        assert refused.err == (
            "error: runs/resnet10-location-bce exists; choose another name=, or pass resume=true to resume it\n"
        )
        assert (here / "runs" / "resnet10-location-bce" / "config.yaml").stat().st_mtime_ns == before

    def test_resuming_prints_what_it_does_and_refuses_changes_by_name(
        self, train: Callable[..., Any], here: Path
    ) -> None:
        missing = train("name=a", "resume=true", plain=True)
        assert missing.code == 1 and "runs/a does not exist, so it cannot be resumed" in missing.err
        assert train(*ONE, "name=a").code == 0
        done = train("name=a", "resume=true", plain=True)
        assert done.code == 0 and "runs/a is finished" in done.out
        for change in ("seed=4", "optimizer.lr=1", "backbone=vgg19", "image_size=64", "batch_size=8"):
            refused = train("name=a", "resume=true", change, plain=True)
            key = change.split("=")[0]
            assert refused.code == 1 and f"error: {key} is " in refused.err, refused.err
        longer = train("name=a", "resume=true", "trainer.max_epochs=2", plain=True)
        assert longer.code == 0 and "resumes from epoch 2, step " in longer.out
        metrics = json.loads((here / "runs" / "a" / "metrics.json").read_text())
        assert metrics["epochs"] == 2 and len(logged(here / "runs" / "a" / "metrics.csv")) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["image_size=7"], "image_size=7 does not fit test_resnet"),
            (["backbone=vgg19", "image_size=12"], "image_size=12 does not fit vgg19: empty feature map"),
            (["data.findings=[Mass,Nodul]"], "data.findings names an unknown finding 'Nodul'; did you mean Nodule"),
            (
                ["data=nih", "data.root=/nowhere"],
                "data.root=/nowhere is not a folder",
            ),
            (["synthetic_batch_size=24"], "synthetic_batch_size=24 is not a multiple of batch_size=16"),
            (["data.images=91"], "images"),
            (["trainer.devices=0"], "trainer.devices=0"),
            (["trainer=gpu"], "this machine has no CUDA GPU"),
            (["name=../x"], "name=../x is not a name"),
            (["data.val_list=nosuch.txt"], "the list nosuch.txt is neither a file nor in"),
            (["backbone.weights=nosuch.pth"], "backbone.weights=nosuch.pth is not a file"),
            (["+trainer.nosuch=1"], "nosuch"),
        ],
    )
    def test_a_mistake_is_one_sentence_and_leaves_nothing(
        self, train: Callable[..., Any], here: Path, arguments: list[str], message: str
    ) -> None:
        if arguments == ["trainer=gpu"] and torch.cuda.is_available():
            pytest.skip("this machine has a GPU, so that trainer=gpu is no mistake")
        result = train(*ONE, *arguments, plain=arguments[0] == "data=nih")
        assert result.code == 1
        assert result.err.startswith("error: ") and message in result.err
        assert "Traceback" not in result.err and len(result.err.strip().splitlines()) == 1
        if not arguments[0].startswith("+"):
            assert not (here / "runs").exists()

    def test_the_traceback_is_there_for_who_asks(
        self, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cxr.errors import CxrError

        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        with pytest.raises(CxrError, match="image_size=7 does not fit"):
            train("image_size=7")


def test_a_full_disk_is_one_sentence_and_leaves_no_half_run(train: Callable[..., Any], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: " + mounted.stderr.decode().strip())
    try:
        result = train(*ONE, "backbone=resnet10", f"runs_dir={disk}", "name=a")
        assert result.code == 1 and "the disk is full" in result.err, result.err
        assert not list(disk.rglob("*.ckpt")) and not list(disk.rglob("metrics.json"))
        cache = train(*ONE, f"cache.dir={disk}", "image_size=256", "name=b")
        assert cache.code == 1 and "choose another disk with cache.dir=DIR" in cache.err, cache.err
        assert not list(disk.rglob("images.npy"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_help_and_mistakes_are_answered_in_under_two_seconds(environment: dict[str, str], tmp_path: Path) -> None:
    for arguments, code, said in (
        (["--help"], 0, "mobilenet_v2 "),
        (["backbone=nosuch"], 1, "mobilenet_v2"),
        (["trainer.max_epoch=3"], 1, "did you mean trainer.max_epochs"),
    ):
        for _ in range(3):  # the machine may be busy with something else
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, str(ROOT / "train.py"), *arguments], env=environment, cwd=tmp_path, capture_output=True
            )
            seconds = time.monotonic() - began
            assert done.returncode == code and said in (done.stdout + done.stderr).decode()
            assert b"Traceback" not in done.stderr
            if seconds < 2:
                break
        assert seconds < 2


def test_flags_that_hydra_would_answer_with_a_traceback_are_one_line(train: Callable[..., Any]) -> None:
    for words in (["-m", "--cfg", "job"], ["--help", "backbone"], ["--config-name", "foo"], ["-sc", "foo"]):
        result = train(*words, plain=True)
        assert result.code == 1 and result.err.startswith("error: ") and result.err.count("\n") == 1


def test_heavy_imports_wait(environment: dict[str, str]) -> None:
    heavy = "{'torch', 'lightning', 'numpy', 'pandas'}"
    check = f"import sys, cxr.cli.entry, cxr.cli.train; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_demo_learns_the_phantoms_and_nothing_from_permuted_labels(train: Callable[..., Any], here: Path) -> None:
    options = ("experiment=demo", "backbone=resnet10", "data.workers=0")
    assert train(*options, "name=real", plain=True).code == 0
    test = json.loads((here / "runs" / "real" / "metrics.json").read_text())["test"]
    assert test["macro_auroc"] >= 0.70
    permuted = here / "permuted"
    os.system(f"cp -r {here}/data/phantom {permuted} && rm -r {permuted}/cxr-cache")
    lines = (permuted / "Data_Entry_2017.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    labels = [row[1] for row in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = [",".join([row[0], labels[k], *row[2:]]) for row, k in zip(rows, order, strict=True)]
    (permuted / "Data_Entry_2017.csv").write_text("\n".join([lines[0], *mixed]) + "\n")
    assert (
        train(*options, "name=mixed", "data=nih", f"data.root={permuted}", "data.val_share=0.2", plain=True).code == 0
    )
    test = json.loads((here / "runs" / "mixed" / "metrics.json").read_text())["test"]
    assert 0.45 <= test["macro_auroc"] <= 0.55
    assert not math.isnan(test["macro_auroc"])
