"""Detectors find turned, inverted, bordered and foreign images, and seldom warn of images like the training ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cxr.errors import CxrError
from cxr.export.detectors import ALARMS, fit
from cxr.imaging.decode import read_gray
from cxr.use.api import create_app
from cxr.use.description import describe, read_system
from cxr.use.files import Inputs, score_files
from cxr.use.scoring import Model
from cxr.use.unusual import CHANGES, VALUES, Detectors, border, shrunk
from tests.use.made import model


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
    return fit([drawn(seed) for seed in range(120)], [drawn(seed) for seed in range(120, 320)])


def share(detectors: Detectors, images: list[np.ndarray]) -> float:
    return float(np.mean([bool(detectors.warnings(image)) for image in images]))


def test_images_like_those_of_the_training_seldom_have_warnings(detectors: Detectors) -> None:
    assert 0.03 <= detectors.false_alarms <= ALARMS
    assert share(detectors, [drawn(seed) for seed in range(120, 320)]) == pytest.approx(detectors.false_alarms)
    assert share(detectors, [drawn(seed) for seed in range(320, 620)]) <= 0.1


def test_rotations_and_inversions_are_named(detectors: Detectors) -> None:
    for seed in range(400, 420):
        for change, name in enumerate(CHANGES[1:], start=1):
            turned = np.rot90(drawn(seed), change % 4)
            image = 255 - turned if change >= 4 else turned
            assert f"looks {name}" in detectors.warnings(np.ascontiguousarray(image))


def test_noise_and_borders_are_found(detectors: Detectors) -> None:
    rng = np.random.default_rng(0)
    assert share(detectors, list(rng.integers(0, 256, (100, 64, 64), np.uint8))) == 1
    framed = cv2.copyMakeBorder(drawn(500), 0, 0, 16, 16, cv2.BORDER_CONSTANT, value=0)
    assert "has a wide border" in detectors.warnings(framed)
    assert border(framed) == pytest.approx(32 / 96) and border(drawn(500)) == 0
    assert border(np.full((8, 8), 7, np.uint8)) == 1


def test_the_distance_is_that_of_the_covariance_matrix(detectors: Detectors) -> None:
    axes, variance = np.array(detectors.axes), np.array(detectors.variance)
    covariance = axes.T @ np.diag(variance[:-1] - variance[-1]) @ axes + variance[-1] * np.eye(256)
    for image in (drawn(600), np.rot90(drawn(601)).copy()):
        away = shrunk(image) - np.array(detectors.mean)
        assert detectors.values(image)[1] == pytest.approx(away @ np.linalg.solve(covariance, away), rel=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("change", [[1.0] * 8]), ("mean", None), ("mean", ["1"] * 256), ("axes", []), ("axes", [[0.0] * 255]),
        ("variance", [0.0] * 21), ("thresholds", [1, 2]), ("thresholds", [1, 2, float("nan")]), ("false_alarms", {}),
        ("false_alarms", 10**400), ("axes", 3),
    ],
)  # fmt: skip
def test_detectors_that_export_does_not_write_are_refused(detectors: Detectors, key: str, value: Any) -> None:
    about = describe(replace(model().system, detectors=detectors))
    about["detectors"][key] = value
    with pytest.raises(CxrError, match="here is damaged: detectors is not what export writes"):
        read_system(about, "here")


def test_bundles_keep_their_detectors_and_earlier_ones_have_none(detectors: Detectors) -> None:
    about = describe(replace(model().system, detectors=detectors))
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
    for detector, threshold, words in zip(VALUES, detectors.thresholds, ("looks", "unlike", "border"), strict=True):
        assert (table[f"unusual:{detector}"] > threshold).tolist() == [words in warning for warning in found]
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
    found = fit(images[:350], images[350:550])
    held = images[550:]
    assert share(found, held) < 0.1
    assert share(found, [255 - image for image in held]) > 0.98
    for turns in (1, 2, 3):
        assert share(found, [np.rot90(image, turns).copy() for image in held]) > 0.95
