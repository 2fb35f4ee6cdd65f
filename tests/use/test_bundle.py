"""Bundles score with ONNX Runtime alone, and what was changed in one is found."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from cxr.errors import CxrError
from cxr.imaging.decode import BadImage
from cxr.processes.cores import cores
from cxr.use import load_bundle
from cxr.use.bundle import forward_of
from tests.use.made import FINDINGS, bundle, model, network

FILM = np.random.default_rng(0).integers(40, 200, (32, 32), np.uint8)


def test_a_bundle_scores_an_image_a_file_and_an_array(tmp_path: Path) -> None:
    digest = bundle(tmp_path / "bundle")
    model = load_bundle(tmp_path / "bundle", digest)
    assert model.digest == digest
    small = cv2.resize(FILM, (16, 16), interpolation=cv2.INTER_AREA)
    means = [cv2.resize(cv2.resize(FILM, (side, side), interpolation=cv2.INTER_AREA), (side // 2,) * 2,
                        interpolation=cv2.INTER_AREA).mean() / 255 for side in (16, 8)]  # fmt: skip
    found = model.score_image(FILM)
    assert found.members[:, 0, 0] == pytest.approx(means, abs=1e-6)
    assert found.score[0] == pytest.approx([0.25 * means[0] + 0.75 * means[1], means[0]], abs=1e-6)
    assert found.maps[0] is not None and found.maps[0].shape == (1, 1, 8, 8) and found.maps[1] is None
    assert found.maps[0].mean() == pytest.approx(small.mean(), abs=0.5)
    cv2.imwrite(str(tmp_path / "film.png"), FILM)
    by_name = model.score_file(tmp_path / "film.png")
    odds = means[0] / (1 - means[0])
    calibrated = np.e * odds**2 / (1 + np.e * odds**2)  # slope 2, intercept 1
    assert by_name == pytest.approx({"Mass": float(found.score[0, 0]), "Effusion": calibrated}, abs=1e-5)
    with pytest.raises(BadImage, match="blank"):
        model.score_image(np.zeros((32, 32), np.uint8))


def test_macos_does_not_say_which_cores_a_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert load_bundle(tmp_path).score_image(FILM).score.shape == (1, 2) and cores() == os.cpu_count()


def test_changed_bytes_are_found_by_checksums_and_else_by_the_digest(tmp_path: Path) -> None:
    digest = bundle(tmp_path)
    file = tmp_path / "0.onnx"
    content = file.read_bytes()
    changed = content.replace(np.float32(1 / 255).tobytes(), np.float32(1 / 250).tobytes())
    assert changed != content
    file.write_bytes(changed)
    with pytest.raises(CxrError, match=r"0.onnx has another checksum than bundle.json says"):
        load_bundle(tmp_path)
    text = (tmp_path / "bundle.json").read_text()
    text = text.replace(sha256(content).hexdigest(), sha256(changed).hexdigest())
    (tmp_path / "bundle.json").write_text(text)
    load_bundle(tmp_path)
    with pytest.raises(CxrError, match=f"has the digest {sha256(text.encode()).hexdigest()}, not {digest}"):
        load_bundle(tmp_path, digest)
    (tmp_path / "MODEL_CARD.md").write_text("another card")
    with pytest.raises(CxrError, match=r"MODEL_CARD.md has another checksum"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../0.onnx", "/etc/passwd", "a/b.onnx", "", ".hidden", 3, None])
def test_files_outside_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    bundle(tmp_path / "b")
    about = json.loads((tmp_path / "b" / "bundle.json").read_text())
    about["members"][0]["file"] = name
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(CxrError, match="files of a bundle lie in its folder"):
        load_bundle(tmp_path / "b")


def without_maps() -> Any:
    """A network whose maps have no position."""
    model = network()
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "maps" else name for name in node.input]
        node.output[:] = ["pixels" if name == "maps" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "none"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "rows"))
    model.graph.node.append(helper.make_node("Slice", ["pixels", "none", "none", "rows"], ["maps"]))
    return model


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (network(gain=1.0), "returned no probabilities"),
        (network(("image", "attributes")), "has the inputs"),
        (network(size=9), "cannot be computed"),
        (without_maps(), "returned maps of the shape"),
        (b"\x3a\x00", "is refused by ONNX Runtime"),
    ],
)
def test_networks_that_export_does_not_write_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    bundle(tmp_path, content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(CxrError, match=rf"0.onnx {said}"):
        load_bundle(tmp_path).score_image(FILM)
    assert capfd.readouterr().err == "", "names in a network may have control characters"


def test_features_and_thresholds_have_the_order_and_number_of_the_bundle(tmp_path: Path) -> None:
    bundle(tmp_path, operating_points={"half": {"Effusion": 0.5, "Mass": 0.6}})
    with pytest.raises(CxrError, match="operating_points is not what export writes"):
        load_bundle(tmp_path)
    member = model().system.members[0]
    forward = forward_of(network().SerializeToString(), member, len(FINDINGS), "x", features=31)
    with pytest.raises(CxrError, match=r"x returned features of the shape \(1, 32\)"):
        forward(FILM[None, None, :8, :8], np.zeros((1, 5), np.float32))


def test_missing_or_unreadable_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"bundle.json is missing; is .* a bundle that export wrote"):
        load_bundle(tmp_path)
    bundle(tmp_path)
    with pytest.raises(CxrError, match=r"bundle.json is a file; give the folder of the bundle"):
        load_bundle(tmp_path / "bundle.json")
    (tmp_path / "1.onnx").unlink()
    with pytest.raises(CxrError, match=r"1.onnx is missing"):
        load_bundle(tmp_path)
    for text in ("{", "[" * 100_000, "null", '{"format": "x"}', '{"format": 2}'):
        (tmp_path / "bundle.json").write_text(text)
        newer = r"bundle.json has format 2, and this version reads 1; install the version"
        with pytest.raises(CxrError, match=newer if "2" in text else r"bundle.json is not"):
            load_bundle(tmp_path)


SMALL = st.lists(st.integers(-2, 2), max_size=3) | st.dictionaries(st.text(max_size=2), st.none(), max_size=2)
ODD = st.none() | st.booleans() | st.integers(-2, 5) | st.just(10**400) | st.floats() | st.text(max_size=3) | SMALL
KEYS = ["format", "name", "model", "findings", "parents", "members", "rule", "calibration", "operating_points", "files",
        "members/0", "members/0/preprocessing", "members/0/preprocessing/size", "members/0/attributes",
        "members/0/maps", "members/0/name", "members/0/sha256", "rule/kind", "rule/weights", "rule/weights/0",
        "rule/intercept", "calibration/slope", "calibration/findings", "operating_points/half",
        "operating_points/half/Mass", "findings/0", "parents/0"]  # fmt: skip


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), ODD)
def test_any_value_in_the_place_of_another_is_used_or_refused_in_one_sentence(
    tmp_path: Path, key: str, value: object
) -> None:
    bundle(tmp_path)
    about: Any = json.loads((tmp_path / "bundle.json").read_text())
    *above, last = [int(part) if part.isdigit() else part for part in key.split("/")]
    place = about
    for part in above:
        place = place[part]
    place[last] = value
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    try:
        model = load_bundle(tmp_path)
        found = model.score_image(FILM)
    except (CxrError, BadImage) as error:
        assert "\n" not in str(error)
    else:
        assert found.score.shape == (1, len(FINDINGS)) and ((found.score >= 0) & (found.score <= 1)).all()


def test_a_bundle_needs_neither_pytorch_nor_what_belongs_to_it(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    cv2.imwrite(str(tmp_path / "film.png"), FILM)
    program = (
        "import sys\nfrom cxr.cli.entry import run\n"
        "code = run('predict', ['bundle=bundle', 'images=film.png', 'out=out.csv'])\n"
        "print(code, sorted({'torch', 'timm', 'lightning', 'onnx', 'albumentations', 'matplotlib'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert ended.stdout.splitlines()[-1] == "0 []", ended.stderr
    assert (tmp_path / "out.csv").read_text().count("\n") == 2
