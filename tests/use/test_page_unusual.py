"""The page warns of what `predict` warns of, in the same words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.export.detectors import fit
from cxr.imaging.preprocessing import Preprocessing
from cxr.use.bundle import load_bundle
from cxr.use.description import describe
from cxr.use.files import Inputs, score_files
from cxr.use.page.runtime import Runtime
from cxr.use.page.write import write_page
from cxr.use.system import Member
from tests.use.made import bundle, features, model, network
from tests.use.pages import open_file
from tests.use.test_unusual import STAGES, drawn, odd_films, shown

pytestmark = pytest.mark.browser
SIDE = 64


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory, web: Runtime) -> Path:
    """A bundle with detectors, and its page."""
    folder = tmp_path_factory.mktemp("warned") / "bundle"
    detectors = fit(
        shown([drawn(seed) for seed in range(120)]), shown([drawn(seed) for seed in range(120, 320)]), STAGES
    )
    members = (Member("a", Preprocessing(SIDE, 2 * SIDE), maps="heads"), model().system.members[1])
    about = describe(replace(model().system, members=members, detectors=detectors))
    first = network(size=SIDE).SerializeToString()
    digest = bundle(folder, first, detectors=about["detectors"])
    text = json.loads((folder / "bundle.json").read_text())
    text["members"][0]["preprocessing"] = about["members"][0]["preprocessing"]
    (folder / "bundle.json").write_text(json.dumps(text))
    write_page(folder / "page.html", text, digest, web)
    return folder


def films() -> dict[str, np.ndarray]:
    plain = [drawn(seed, 200) for seed in (700, 701, 702)]
    rng = np.random.default_rng(0)
    found = {f"plain{number}": film for number, film in enumerate(plain)}
    found |= {f"turned{turns}": np.ascontiguousarray(np.rot90(plain[0], turns)) for turns in (1, 2, 3)}
    found |= {f"inverted{turns}": np.ascontiguousarray(255 - np.rot90(plain[1], turns)) for turns in range(4)}
    found["noise"] = rng.integers(0, 256, (150, 150), np.uint8)
    found["framed"] = cv2.copyMakeBorder(plain[2], 0, 0, 60, 60, cv2.BORDER_CONSTANT, value=0)
    found["long"] = np.tile(plain[0], (1, 3))
    found["wide"] = found["long"][:, :450]  # a ratio of 2.25, where rounding matters
    found["red"] = np.dstack([np.zeros_like(plain[0]), np.zeros_like(plain[0]), plain[0]])
    found["faint"] = np.dstack([plain[0], plain[0], plain[0] + np.uint8(1)])
    return found


def read(browser: Any) -> list[str]:
    box = browser.find_element("id", "warnings")
    return [item.text for item in box.find_elements("tag name", "li")] if box.is_displayed() else []


def test_warnings_are_those_of_predict(browser: Any, warned: Path, tmp_path: Path) -> None:
    browser.get((warned / "page.html").as_uri())
    paths = [tmp_path / f"{name}.png" for name in films()]
    for path, film in zip(paths, films().values(), strict=True):
        cv2.imwrite(str(path), film)
    scorer = load_bundle(warned)
    names = [path.name for path in paths]
    score_files(scorer, Inputs(names, [str(path) for path in paths]), tmp_path / "out.parquet", workers=1)
    expected = pd.read_parquet(tmp_path / "out.parquet")["warnings"].tolist()
    for path, said in zip(paths, expected, strict=True):
        status = open_file(browser, path)
        assert read(browser) == [word for word in said.split("; ") if word], path.name
        assert (f"Warnings: {said}." in status) == bool(said)
    kinds = ("looks rotated to the left", "looks upside down", "looks rotated to the right", "looks inverted",
             "looks inverted and upside down", "is unlike the training images", "in colour",
             "has the aspect ratio 3.0")  # fmt: skip
    assert set(kinds) <= {word for said in expected for word in said.split("; ")}
    assert expected[: len(paths)].count("") >= 3


def test_values_of_the_detectors_are_those_of_python(browser: Any, warned: Path) -> None:
    browser.get((warned / "page.html").as_uri())
    detectors = load_bundle(warned).system.detectors
    assert detectors is not None
    script = """
      const [shown, pooled, about] = [arguments[0], arguments[1], SYSTEM.detectors];
      const small = shrunk(shown, 64);
      return valuesOf(about, small, changesOf(about, small), pooled);
    """
    for film in films().values():
        view = cv2.resize(film if film.ndim == 2 else film[..., 0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pooled = features(view[None, None])[0]
        found = browser.execute_script(script, view.ravel().tolist(), pooled.tolist())
        assert found == pytest.approx(detectors.values(view, pooled).tolist(), rel=1e-6, abs=1e-6)


def test_odd_files_are_refused_as_predict_refuses_them(browser: Any, warned: Path, tmp_path: Path) -> None:
    browser.get((warned / "page.html").as_uri())
    for name, pixels in odd_films().items():
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        status = open_file(browser, path)
        score_files(load_bundle(warned), Inputs([name], [str(path)]), tmp_path / f"{name}.csv", workers=1)
        row = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False).iloc[0]
        assert ("is blank" in status) == row["reason"].startswith("blank"), name
        assert ("is not a DICOM, PNG or JPEG file" in status) == name.endswith(".tif"), name
        assert read(browser) == [word for word in row["warnings"].split("; ") if word], name
