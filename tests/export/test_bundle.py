"""An exported bundle computes what its run computes, and does not appear if it does not."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from onnx import numpy_helper

from cxr.errors import CxrError
from cxr.export import networks, verify
from cxr.export.bundle import export_bundle
from cxr.export.detectors import fit_detectors
from cxr.export.opened import open_run
from cxr.export.verify import RunImages
from cxr.imaging.decode import read_gray
from cxr.imaging.preprocessing import Preprocessing
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.use import load_bundle
from cxr.use.scoring import UNKNOWN
from cxr.use.system import Member
from tests.export.conftest import Runs
from tests.use.made import model

DATA = {name: None for name in ("root", "file", "roles", "train_list", "val_list", "test_list")} | {"test_lists": {}}


def options(runs: Runs, name: str, out: Path) -> dict[str, Any]:
    return {
        "run": str(runs[name].path),
        "out": str(out),
        "data": DATA,
        "cache": {"dir": None},
        "int8": False,
        "page": False,
    }


def check_scores(runs: Runs, name: str, folder: Path, attributes: bool = False) -> None:
    """The bundle scores test images from their files as the run did."""
    stored, model = read_predictions(runs[name].predictions("test")), load_bundle(folder)
    assert model.system.findings == stored.findings
    for row in range(0, len(stored), 7):
        known = None
        if attributes:
            about = stored.attributes.iloc[row]
            known = np.array([[about["age"] / 100, 1, 0, about["view"] == "PA", about["view"] == "AP"]], np.float32)
        found = model.score_image(read_gray(runs.data / "images" / stored.image[row]), known)
        np.testing.assert_allclose(found.score[0], stored.score[row], atol=1e-5, rtol=0)


def check_detectors(runs: Runs, folder: Path) -> None:
    """The bundle warns of the share of validation images that it states."""
    model, warned = load_bundle(folder), []
    for name in read_predictions(runs["a"].predictions("val")).image:
        pixels = read_gray(runs.data / "images" / name)
        views = model.views(pixels)
        features = model.score_views([views]).features
        assert features is not None
        warned.append(bool(model.unusual(pixels.shape, views, features[0])[0]))
    assert model.system.detectors is not None
    assert np.mean(warned) == pytest.approx(model.system.detectors.false_alarms)


def test_a_run_with_few_images_has_no_detectors(runs: Runs) -> None:
    images = RunImages(open_run(str(runs["a"].path)), {"data": DATA, "cache": {"dir": None}})
    assert fit_detectors(images, lambda image, attributes: (image, None, image), [1]) is None


def test_a_bundle_of_a_run(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    monkeypatch.setattr("cxr.export.detectors.FEWEST", 2)
    digest = export_bundle(options(runs, "a", folder))
    assert f"digest {digest}" in capsys.readouterr().out and load_bundle(folder, digest).digest == digest
    assert sorted(path.name for path in folder.iterdir()) == ["1-a.onnx", "MODEL_CARD.md", "bundle.json", "verify.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    check_scores(runs, "a", folder)
    check_detectors(runs, folder)
    verified = json.loads((folder / "verify.json").read_text())
    assert verified["images"] == 60, "validation and training have no more"
    assert set(verified["largest_difference"]) == {
        "score", "calibrated", "score of 1-a", "maps of 1-a", "calibrated in the network"
    }  # fmt: skip
    assert max(*verified["largest_difference"].values(), verified["stored_predictions"]) < 1e-5
    about = json.loads((folder / "bundle.json").read_text())
    assert about["test"]["macro_auroc"] == runs["a"].metrics()["test"]["macro_auroc"]
    assert str(runs.folder) not in (folder / "bundle.json").read_text() + (folder / "MODEL_CARD.md").read_text()
    assert b"/cxr/" not in (folder / "1-a.onnx").read_bytes(), "no path of this machine"
    check_card((folder / "MODEL_CARD.md").read_text(), runs)
    with pytest.raises(CxrError, match="bundle exists; remove it, or choose another folder with out=DIR"):
        export_bundle(options(runs, "a", folder))


def test_a_steep_calibration_of_either_sign_is_exported(runs: Runs, tmp_path: Path) -> None:
    run = Run(tmp_path / "steep")
    shutil.copytree(runs["a"].path, run.path)
    scores = pd.read_parquet(run.predictions("val")).filter(like="score:").to_numpy(np.float64)
    middle = np.log(scores / (1 - scores)).mean(axis=0)
    slope = np.array([-5000.0, 5000.0, -5000.0])
    fitted = open_run(str(run.path)).system.scaling
    assert fitted is not None
    content = fitted.as_plain() | {"slope": slope.tolist(), "intercept": (-slope * middle).tolist(), "identity": []}
    (run.path / "calibration.json").write_text(json.dumps(content))
    export_bundle(options(runs, "a", tmp_path / "bundle") | {"run": str(run.path)})
    assert json.loads((tmp_path / "bundle" / "verify.json").read_text())["largest_difference"]["calibrated"] < 1e-5


def check_card(card: str, runs: Runs) -> None:
    _, head, body = card.split("---\n", 2)
    metadata, value = yaml.safe_load(head), runs["a"].metrics()["test"]["macro_auroc"]
    assert metadata["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "roc_auc", "name": "macro_auroc", "value": round(value, 4)
    }  # fmt: skip
    assert f"{value:.4f}" in body and body.count("**The author must fill this in:**") == 3
    for words in ("## Intended use", "not a medical device", "test: 30 images", "operating points", "Platt scaling",
                  "val/macro_auroc", "seed 0", "Effusion"):  # fmt: skip
        assert words in body, words


def test_nothing_appears_if_the_export_computes_something_else(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*given: Any) -> bytes:
        model = onnx.load_model_from_string(networks.to_onnx(*given))
        for weight in model.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.ndim > 1:
                weight.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), weight.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr("cxr.export.bundle.to_onnx", changed)
    with pytest.raises(
        CxrError, match=r"differs from PyTorch by .* in score, on images of the run; the limit is 1e-05"
    ):
        export_bundle(options(runs, "a", tmp_path / "bundle"))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_onnx_cannot_express_is_refused(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr.export.opened import open_run

    opened = open_run(str(runs["a"].path))

    class Odd(torch.nn.Module):
        def forward(self, image: torch.Tensor, attributes: torch.Tensor) -> tuple[torch.Tensor, None]:
            return (image if float(image.float().mean()) > 0 else image + 1).float(), None

    network = networks.Calibrated(opened.scorers[0], opened.system.members[0], None, (-1,) * 3)
    network.scorer = Odd()
    with pytest.raises(CxrError, match=r"^runs/x cannot be exported to ONNX: "):
        networks.to_onnx(network, "runs/x")


def test_the_images_of_the_run_are_what_a_bundle_is_verified_with(runs: Runs) -> None:
    from cxr.export.opened import open_run

    opened = open_run(str(runs["weighted"].path))
    images = verify.RunImages(opened, {"data": DATA, "cache": {"dir": None}})
    val = read_predictions(runs["a"].predictions("val"))
    assert images.names("val") == list(val.image)
    np.testing.assert_array_equal(images.targets(val.findings, val.image[::-1]), val.target[::-1])
    sample = images.sample(images.names("val", "train")[:5])
    for name, views in zip(sample.names, sample.views, strict=True):
        expected = opened.model(torch.device("cpu")).views(read_gray(runs.data / "images" / name))
        for found, wanted in zip(views, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert [views[1].shape for views in sample.views] == [(24, 24)] * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["b", "weighted", "stacking", "max_vote"])
def test_bundles_of_other_systems(runs: Runs, name: str, tmp_path: Path) -> None:
    export_bundle(options(runs, name, tmp_path / "bundle"))
    check_scores(runs, name, tmp_path / "bundle", attributes=True)


@pytest.mark.slow
def test_eight_bits_are_refused_if_they_cost_accuracy(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(runs, "a", tmp_path / "bundle") | {"int8": True}
    monkeypatch.setattr(verify, "MOST_LOST", 1)
    export_bundle(given)
    verified = json.loads((tmp_path / "bundle" / "verify.json").read_text())
    assert verified["limit"] is None and set(verified["validation_macro_auroc"]) == {"run", "bundle"}
    metrics = runs["a"].metrics()["val"]
    assert verified["validation_macro_auroc"]["run"] == pytest.approx(metrics["macro_auroc"], abs=1e-6)
    said, score = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(), verified["largest_difference"]["score"]
    assert f"by at most {score:.1e} in scores" in said and "They have 8-bit weights and activations." in said
    monkeypatch.setattr(verify, "MOST_LOST", -1)
    with pytest.raises(CxrError, match=r"int8=true lowers the validation macro AUROC of .* export it without int8"):
        export_bundle(given | {"out": str(tmp_path / "other")})
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_members_of_the_same_name_are_verified_each() -> None:
    same = model(members=(Member("x", Preprocessing(8, 16), maps="heads"), Member("x", Preprocessing(4, 8))))
    pixels = np.arange(1024, dtype=np.uint8).reshape(32, 32)
    found = verify._outputs(same, verify.Sample(["a"], [same.views(pixels)], np.array([UNKNOWN], np.float32)), 1)
    assert {"score of 1-x", "score of 2-x", "maps of 1-x"} <= set(found)
    assert not np.array_equal(found["score of 1-x"], found["score of 2-x"])


@pytest.mark.parametrize(("name", "difference", "refused"), [("maps of a", 5e-5, False), ("maps of a", 2e-4, True),
                                                             ("score", 5e-5, True)])  # fmt: skip
def test_attention_maps_may_differ_by_more_than_scores(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, name: str, difference: float, refused: bool
) -> None:
    opened = open_run(str(runs["a"].path))
    sample = verify.Sample([], [], np.zeros((0, 5), np.float32))
    found = {"score": np.zeros((1, 3), np.float32), "maps of a": np.zeros((1, 1, 2, 2), np.float32)}
    answers = iter([found] + [found | {name: found[name] + np.float32(difference)}] * 3)
    monkeypatch.setattr(verify, "_outputs", lambda *arguments: next(answers))
    with pytest.raises(CxrError, match=f"in {name}") if refused else nullcontext():
        verify.verify(model(), opened, sample, runs.folder)
