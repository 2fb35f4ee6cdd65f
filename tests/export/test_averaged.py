"""`tta`: scores are means over an image and its mirror image, or over five crops, wherever a network scores."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.cli.entry import run as start
from cxr.ensemble.members import expand
from cxr.errors import CxrError
from cxr.export.bundle import export_bundle
from cxr.export.opened import open_run
from cxr.imaging.decode import read_gray, resize
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.training.averaged import averaged
from tests.export.conftest import Runs
from tests.export.test_bundle import DATA

CPU = torch.device("cpu")


def means(run: Run, films: Path, names: Any) -> np.ndarray:
    """Scores of test images by the run as it is: of the images and of their mirror images, and the mean."""
    model, pixels = open_run(str(run.path)).model(CPU), [read_gray(films / name) for name in names]
    views = [model.views(each) for each in pixels]
    turned = [tuple(np.ascontiguousarray(view[:, ::-1]) for view in each) for each in views]
    return np.asarray((model.score_views(views).score + model.score_views(turned).score) / 2)


@pytest.fixture(scope="module")
def flipped(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the runs `a` and `b`, with `a-flip` that evaluate made, and the ensemble `both` with tta=flip."""
    folder = tmp_path_factory.mktemp("flipped")
    for name in ("a", "b"):
        shutil.copytree(runs[name].path, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cxr"])
        for module in ("evaluation.run.draw", "ensemble.write.draw"):
            patch.setattr(f"cxr.{module}", lambda *arguments, **options: None)
        asked = ("tta=flip", "accelerator=cpu")
        assert start("evaluate", [f"run={folder}/a", "resamples=2", "localisation=false", *asked]) == 0
        words = [f"runs=[{folder}/a,{folder}/b]", "method=average", "name=both", f"runs_dir={folder}", "bootstrap=0"]
        assert start("ensemble", [*words, *asked]) == 0
    return folder


def test_evaluation_has_the_means_and_its_own_thresholds(runs: Runs, flipped: Path) -> None:
    run, plain = Run(flipped / "a-flip"), Run(flipped / "a")
    for split in ("val", "test"):
        stored = read_predictions(run.predictions(split))
        np.testing.assert_allclose(stored.score, means(plain, runs.data / "images", stored.image), atol=1e-6)
        assert np.abs(stored.score - read_predictions(plain.predictions(split)).score).max() > 1e-3
    points = [each.metrics()["val"]["operating_points"]["youden"]["threshold"] for each in (plain, run)]
    validation = read_predictions(run.predictions("val"))
    for column, finding in enumerate(validation.findings):
        assert np.isclose(validation.score[:, column], points[1][finding], atol=1e-6).any()
    assert points[0] != points[1]
    assert open_run(str(run.path)).system.model != open_run(str(plain.path)).system.model
    names = {row.split(",")[3] for row in (flipped / ".test_ledger.csv").read_text().splitlines()[1:]}
    assert "a-flip" in names, "another look at the test split"


def test_prediction_and_ensemble_average_too(
    runs: Runs, flipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr"])
    names = list(read_predictions(runs["a"].predictions("test")).image)
    (tmp_path / "films.txt").write_text("\n".join(names))
    words = [f"images={tmp_path}/films.txt", f"root={runs.data}", "accelerator=cpu"]
    assert start("predict", [f"run={flipped}/a", "tta=flip", f"out={tmp_path}/a.parquet", *words]) == 0
    assert start("predict", [f"run={flipped}/both", f"out={tmp_path}/both.parquet", *words]) == 0
    ours = means(Run(flipped / "a"), runs.data / "images", names)
    table = pd.read_parquet(tmp_path / "a.parquet")
    np.testing.assert_allclose(table.filter(like="score:"), ours, atol=1e-6)
    cuts = Run(flipped / "a-flip").metrics()["val"]["operating_points"]["youden"]["threshold"]
    for finding, cut in cuts.items():
        assert (table[f"call:youden:{finding}"] == (table[f"score:{finding}"] >= cut)).all()
    other = means(Run(flipped / "b"), runs.data / "images", names)  # without age, sex and view
    table = pd.read_parquet(tmp_path / "both.parquet")
    np.testing.assert_allclose(table.filter(like="score:"), (ours + other) / 2, atol=1e-6)
    assert Run(flipped / "both").config()["runs"] == [f"{flipped}/{name}" for name in ("a-flip", "b-flip")]
    assert expand(f"{flipped}/*") == [f"{flipped}/a", f"{flipped}/b"]


@pytest.mark.slow
def test_a_bundle_averages_too(runs: Runs, flipped: Path, tmp_path: Path) -> None:
    from cxr.use import load_bundle

    export_bundle({"run": f"{flipped}/both", "out": str(tmp_path / "bundle"), "data": DATA, "cache": {"dir": None},
                   "int8": False, "page": False})  # fmt: skip
    stored, model = read_predictions(runs["a"].predictions("test")), load_bundle(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "MODEL_CARD.md").read_text().count("each image and its mirror image") == 2
    found = [model.score_image(read_gray(runs.data / "images" / name)).score[0] for name in stored.image[:6]]
    ours = [means(Run(flipped / name), runs.data / "images", stored.image[:6]) for name in ("a", "b")]
    np.testing.assert_allclose(found, (ours[0] + ours[1]) / 2, atol=1e-5)


def of_crops(run: Run, films: Path, names: Any, attributes: Any = None) -> np.ndarray:
    """Mean scores by the run as it is of the middle and the corners, of 24 px, of images resized to 32 px."""
    model = open_run(str(run.path)).model(CPU)
    cached = [resize(read_gray(films / name), 32) for name in names]
    middle, low, high = slice(4, 28), slice(0, 24), slice(8, 32)
    parts = [(middle, middle), (low, low), (low, high), (high, low), (high, high)]
    crops = [[(np.ascontiguousarray(image[part]),) for image in cached] for part in parts]
    return np.asarray(np.mean([model.score_views(each, attributes).score for each in crops], axis=0, dtype=np.float64))


@pytest.fixture(scope="module")
def cropped(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of the run `b`, `b-crops` that evaluate made, and the ensemble `both` with tta=crops."""
    folder = tmp_path_factory.mktemp("cropped")
    for name in ("b", "c"):
        shutil.copytree(runs["b"].path, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cxr"])
        for module in ("evaluation.run.draw", "ensemble.write.draw"):
            patch.setattr(f"cxr.{module}", lambda *arguments, **options: None)
        asked = ("tta=crops", "accelerator=cpu")
        assert start("evaluate", [f"run={folder}/b", "resamples=2", *asked]) == 0
        words = [f"runs=[{folder}/b,{folder}/c]", "method=average", "name=both", f"runs_dir={folder}", "bootstrap=0"]
        assert start("ensemble", [*words, *asked]) == 0
    return folder


def test_evaluation_and_ensemble_have_means_over_crops(runs: Runs, cropped: Path) -> None:
    for name in ("b-crops", "both"):
        for split in ("val", "test"):
            stored = read_predictions(Run(cropped / name).predictions(split))
            known = [[(19 + int(image[:8])) / 100, 1, 0, image[11] == "0", image[11] == "1"] for image in stored.image]
            ours = of_crops(Run(cropped / "b"), runs.data / "images", stored.image, np.array(known, np.float32))
            np.testing.assert_allclose(stored.score, ours, atol=1e-6)
    assert Run(cropped / "both").config()["runs"] == [f"{cropped}/{name}" for name in ("b-crops", "c-crops")]


def test_scores_over_crops_are_means_of_those_of_single_crops(
    runs: Runs, cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr"])
    run, plain = Run(cropped / "b-crops"), Run(cropped / "b")
    names = list(read_predictions(run.predictions("test")).image)
    (tmp_path / "films.txt").write_text("\n".join(names))
    words = [f"images={tmp_path}/films.txt", f"root={runs.data}", "accelerator=cpu"]
    assert start("predict", [f"run={plain.path}", "tta=crops", f"out={tmp_path}/b.parquet", *words]) == 0
    found = pd.read_parquet(tmp_path / "b.parquet").filter(like="score:").to_numpy()
    np.testing.assert_allclose(found, of_crops(plain, runs.data / "images", names), atol=1e-6)
    middle = open_run(str(plain.path)).model(CPU)
    assert np.abs(found[0] - middle.score_image(read_gray(runs.data / "images" / names[0])).score[0]).max() > 1e-4
    assert open_run(str(run.path)).system.model != open_run(str(plain.path)).system.model
    assert start("predict", [f"run={run.path}", f"out={tmp_path}/c.csv", f"maps={tmp_path}/maps", *words]) == 1
    assert "b-crops has no attention maps" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bundle_averages_over_crops_too(runs: Runs, cropped: Path, tmp_path: Path) -> None:
    from cxr.use import load_bundle

    export_bundle({"run": f"{cropped}/b-crops", "out": str(tmp_path / "bundle"), "data": DATA, "cache": {"dir": None},
                   "int8": False, "page": False})  # fmt: skip
    names = read_predictions(runs["b"].predictions("test")).image[:6]
    model = load_bundle(tmp_path / "bundle")
    assert "five crops of 24 px" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    found = [model.score_image(read_gray(runs.data / "images" / name)).score[0] for name in names]
    np.testing.assert_allclose(found, of_crops(Run(cropped / "b"), runs.data / "images", names), atol=1e-5)


def test_what_cannot_be_averaged_is_refused(
    runs: Runs, flipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr"])
    out = f"out={tmp_path}/x.csv"
    for program, words, said in (
        ("predict", [f"run={flipped}/b", "tta=flip", f"images={runs.data}", out], "evaluate run="),
        ("evaluate", [f"run={flipped}/a", "tta=crops"], "trained with crop=true"),
        ("evaluate", [f"run={flipped}/a-flip", "tta=crops"], "pass the run without -flip"),
        ("predict", ["bundle=x", "tta=flip", f"images={runs.data}", out], "leave out tta"),
        ("evaluate", [f"run={runs['weighted'].path}", "tta=flip"], "needs a finished training"),
        ("evaluate", [f"run={flipped}/a-flip", "zero_shot=[Hernia]"], "zero_shot does not average"),
        ("train", ["name=a-flip", "resume=true", f"runs_dir={flipped}"], "resume the run without -flip"),
    ):
        assert start(program, words) == 1
        assert said in capsys.readouterr().err
    (flipped / "c-flip").mkdir()
    shutil.copytree(runs["a"].path, flipped / "c")
    with pytest.raises(CxrError, match="has other weights than"):
        averaged(Run(flipped / "c"), "flip")
