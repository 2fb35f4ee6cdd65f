"""Detectors find turned, inverted, degraded and foreign images, and seldom warn of images like the training ones."""

import json
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cxr.errors import CxrError
from cxr.export.detectors import ALARMS, Shown, fit
from cxr.imaging.decode import read_gray
from cxr.use.api import create_app
from cxr.use.description import describe, read_system
from cxr.use.files import Inputs, score_files
from cxr.use.scoring import Model
from cxr.use.unusual import CHANGES, VALUES, Detectors, Gaussian, shrunk
from tests.use.made import features, model

STAGES = (16, 16)  # numbers of features


def drawn(seed: int, side: int = 64) -> np.ndarray:
    """A film: dark lungs in bright tissue, bright below, brighter on one side, with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    shades = 120 + 70 * rows + 15 * columns + rng.normal(0, 4, (side, side))
    for centre in (0.3, 0.7):
        across, down = (columns - centre - rng.normal(0, 0.02)) / 0.14, (rows - 0.45 - rng.normal(0, 0.02)) / 0.3
        shades -= rng.uniform(70, 90) * np.exp(-(across**2) - down**2)
    return np.clip(shades, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def detectors() -> Detectors:
    return fit(shown([drawn(seed) for seed in range(120)]), shown([drawn(seed) for seed in range(120, 320)]), STAGES)


def shown(images: list[np.ndarray]) -> Shown:
    return Shown(images, features(np.stack(images)[:, None]))


def warnings(detectors: Detectors, image: np.ndarray) -> list[str]:
    return detectors.warnings(image, detectors.values(image, features(image[None, None])[0]))


def share(detectors: Detectors, images: list[np.ndarray]) -> float:
    return float(np.mean([bool(warnings(detectors, np.ascontiguousarray(image))) for image in images]))


def test_images_like_those_of_the_training_seldom_have_warnings(detectors: Detectors) -> None:
    assert 0.03 <= detectors.false_alarms <= ALARMS
    assert share(detectors, [drawn(seed) for seed in range(120, 320)]) == pytest.approx(detectors.false_alarms)
    assert share(detectors, [drawn(seed) for seed in range(320, 620)]) <= 0.1


def test_rotations_and_inversions_are_named(detectors: Detectors) -> None:
    for seed in range(400, 420):
        for change, name in enumerate(CHANGES[1:], start=1):
            turned = np.rot90(drawn(seed), change % 4)
            image = 255 - turned if change >= 4 else turned
            assert f"looks {name}" in warnings(detectors, np.ascontiguousarray(image))


def test_noise_borders_and_degraded_images_are_found(detectors: Detectors) -> None:
    rng = np.random.default_rng(0)
    films = [drawn(seed) for seed in range(500, 530)]
    assert share(detectors, list(rng.integers(0, 256, (100, 64, 64), np.uint8))) == 1
    assert share(detectors, [cv2.copyMakeBorder(film[::2, ::2], 16, 16, 16, 16, 0) for film in films]) == 1
    dark = np.stack([film // 3 for film in films])
    values = [detectors.values(*one) for one in zip(dark, features(dark[:, None]), strict=True)]
    assert (np.array(values)[:, 2] > detectors.thresholds[2]).all(), "features find what 16 x 16 pixels may not show"


def test_distances_are_those_of_covariance_matrices(detectors: Detectors) -> None:
    def distance(about: Gaussian, numbers: np.ndarray) -> float:
        axes, variance = np.array(about.axes), np.array(about.variance)
        covariance = axes.T @ np.diag(variance[:-1] - variance[-1]) @ axes + variance[-1] * np.eye(len(numbers))
        away = (numbers - np.array(about.mean)) / np.array(about.deviation)
        return float(away @ np.linalg.solve(covariance, away))

    for image in (drawn(600), np.rot90(drawn(601)).copy()):
        pooled = features(image[None, None])[0].astype(np.float64)
        _, pixels, far = detectors.values(image, pooled)
        assert pixels == pytest.approx(distance(detectors.pixels, shrunk(image)), rel=1e-3)
        parts = zip(detectors.stages, (pooled[:16], pooled[16:]), strict=True)
        assert far == pytest.approx(sum(np.log(1 + distance(*part)) for part in parts), rel=1e-3)


def test_a_feature_that_never_moved_in_training_does_not_decide_alone() -> None:
    rng = np.random.default_rng(0)
    train, val = (Shown([drawn(seed) for seed in seeds], np.float32(rng.normal(size=(100, 8)) * ([1] * 7 + [0])))
                  for seeds in (range(100), range(100, 200)))  # fmt: skip
    still = fit(train, val, [8]).stages[0]
    assert still.distance(np.array([0] * 7 + [1e-3])) < still.distance(np.array([1] + [0] * 7))


def test_distances_of_numbers_that_move_together_are_never_negative() -> None:
    films = [drawn(seed) for seed in range(100)]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        along = rng.normal(size=(1, 64))
        numbers = np.float32(rng.normal(size=(100, 1)) @ along + 1e-3 * rng.normal(size=(100, 64)))
        together = fit(Shown(films, numbers), Shown(films, numbers), [64]).stages[0]
        far = [together.distance(np.float32(away * along[0])) for away in (0, 3, 30, 300, 3000)]
        assert far == sorted(far) and far[0] >= 0


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["change"], [[1.0] * 8]), (["pixels"], None), (["pixels", "mean"], ["1"] * 256), (["pixels", "mean"], [1.0]),
        (["pixels", "axes"], [[0.0] * 255]), (["pixels", "axes"], 3), (["stages"], {}), (["stages"], [[]] * 2),
        (["stages", 0, "variance"], [0.0] * 9), (["stages", 0, "deviation"], [0.0] * 16), (["stages", 1, "axes"], []),
        (["thresholds"], [1, 2]), (["thresholds"], [1, 2, float("nan")]), (["false_alarms"], {}),
        (["false_alarms"], 10**400),
    ],
)  # fmt: skip
def test_detectors_that_export_does_not_write_are_refused(detectors: Detectors, keys: list[Any], value: Any) -> None:
    about = json.loads(json.dumps(describe(replace(model().system, detectors=detectors))))
    assert read_system(about, "here").detectors == detectors
    reduce(getitem, keys[:-1], about["detectors"])[keys[-1]] = value
    with pytest.raises(CxrError, match="here is damaged: detectors is not what export writes"):
        read_system(about, "here")


def test_bundles_keep_their_detectors_and_earlier_ones_have_none(detectors: Detectors) -> None:
    about = json.loads(json.dumps(describe(replace(model().system, detectors=detectors))))
    assert read_system(about, "here").detectors == detectors
    del about["detectors"]
    assert read_system(about, "here").detectors is None


def test_warnings_are_in_the_table_and_the_answer(detectors: Detectors, tmp_path: Path) -> None:
    system = replace(model().system, detectors=detectors)
    warned = Model(system, model().forwards)
    red = np.dstack([np.zeros_like(drawn(1)), np.zeros_like(drawn(1)), drawn(1)])
    films = {"long.png": np.tile(drawn(1), (1, 3)), "inverted.png": 255 - drawn(1), "red.png": red}
    for name, film in films.items():
        cv2.imwrite(str(tmp_path / name), film)
    paths = [str(tmp_path / name) for name in films]
    score_files(warned, Inputs(list(films), paths), tmp_path / "out.parquet", workers=1)
    table = pd.read_parquet(tmp_path / "out.parquet")
    found = table["warnings"].tolist()
    above = {name: table[f"unusual:{name}"] > limit for name, limit in zip(VALUES, detectors.thresholds, strict=True)}
    assert above["changed"].tolist() == ["looks" in warning for warning in found]
    assert (above["pixels"] | above["features"]).tolist() == ["unlike" in warning for warning in found]
    assert "has the aspect ratio 3.0" in found[0] and "looks inverted" in found[1] and "in colour" in found[2]
    with TestClient(create_app(warned)) as client:
        answer = client.post("/v1/predict", files={"file": Path(paths[1]).read_bytes()}).json()
        assert answer["warnings"] == found[1].split("; ")
        assert "detectors" not in client.get("/v1/model").json()


def odd_films() -> dict[str, np.ndarray]:
    """What no radiograph is, by the name of a file."""
    long = np.tile(drawn(1), (1, 80))
    return {
        "dot.png": np.full((1, 1), 99, np.uint8), "row.png": drawn(1)[30:31], "long.png": long,
        "tall.png": long.T.copy(), "even.png": np.full((9, 9), 128, np.uint8), "black.png": np.zeros((9, 9), np.uint8),
        "even16.png": np.full((90, 90), 31234, np.uint16), "nan.tif": np.full((90, 90), np.nan, np.float32),
        "hole.tif": np.pad(drawn(1).astype(np.float32), 1, constant_values=np.inf),
    }  # fmt: skip


def test_odd_files_are_refused_or_have_warnings(detectors: Detectors, tmp_path: Path) -> None:
    reasons = dict.fromkeys(("dot.png", "even.png", "black.png", "even16.png"), "blank: all its pixels are near ")
    reasons |= dict.fromkeys(("nan.tif", "hole.tif"), "damaged: a pixel is not a number")
    for name, film in odd_films().items():
        Image.fromarray(film).save(tmp_path / name)
    names, scorer = list(odd_films()), Model(replace(model().system, detectors=detectors), model().forwards)
    paths = [str(tmp_path / name) for name in names]
    score_files(scorer, Inputs(names, paths), tmp_path / "out.csv", workers=1)
    for row in pd.read_csv(tmp_path / "out.csv", keep_default_na=False).itertuples():
        assert row.reason.startswith(reasons.get(row.image, "")) and bool(row.reason) == (row.image in reasons)
        assert bool(row.reason) != ("has the aspect ratio" in row.warnings), row.image


def test_real_radiographs(shared: Path) -> None:
    films = sorted((shared / "nih_mini" / "images").glob("*.png"))[::3]
    images = [cv2.resize(read_gray(path), (64, 64), interpolation=cv2.INTER_AREA) for path in films]
    found = fit(shown(images[:350]), shown(images[350:550]), STAGES)
    held = images[550:]
    assert share(found, held) < 0.1
    assert share(found, [255 - image for image in held]) > 0.98
    assert share(found, [image // 4 for image in held]) > 0.98
    for turns in (1, 2, 3):
        assert share(found, [np.rot90(image, turns) for image in held]) > 0.95
