"""The wheel of `cxr-use`, in an environment of its own, scores radiographs as the run that was exported did."""

import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from cxr.export.bundle import export_bundle
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.training.run import train
from tests.export.test_bundle import DATA
from tests.training.conftest import TINY, composed

ROOT = Path(__file__).parents[2]


def trained(shared: Path, folder: Path) -> Run:
    """A small network on 120 radiographs, and its bundle."""
    root, lists = shared / "nih_mini", []
    for split, count in (("train", 80), ("val", 20), ("test", 20)):
        names = (root / f"{split}_list.txt").read_text().split()[:count]
        (folder / f"{split}.txt").write_text("\n".join(names))
        lists.append(f"data.{split}_list={folder / split}.txt")
    made = composed(
        *TINY, f"data.root={root}", *lists, f"cache.dir={folder / 'cache'}", "backbone=custom",
        "+backbone.channels=[4,8,8]", "data.findings=[Effusion,Infiltration]",
    )  # fmt: skip
    run = Run(folder / "runs" / "mine")
    train(made, run)
    export_bundle({"run": str(run.path), "out": str(folder / "bundle"), "data": DATA, "cache": {"dir": None},
                   "int8": False, "page": False})  # fmt: skip
    return run


@pytest.mark.slow
def test_the_wheel_scores_as_the_run_did(shared: Path, tmp_path: Path) -> None:
    run = trained(shared, tmp_path)
    (tmp_path / "done-dev").touch()
    subprocess.run(
        ["make", "-s", "use-wheel", f"RUN={sys.executable}", f"DONE={tmp_path}/done", f"DIST={tmp_path}"],
        cwd=ROOT, check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("cxr_use-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python, command = (str(tmp_path / "venv" / "bin" / name) for name in ("python", "cxr-use"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, "-c", str(ROOT / "requirements.lock"), f"{wheel}[serve]"], env=environment)
    assert installed.returncode == 0
    unwanted = (
        "import importlib.util as u; print([n for n in ('torch', 'timm', 'lightning', 'hydra') if u.find_spec(n)])"
    )
    assert subprocess.run([python, "-c", unwanted], env=environment, capture_output=True, text=True).stdout == "[]\n"

    stored = read_predictions(run.predictions("test"))
    (tmp_path / "films").mkdir()
    for name in stored.image:
        shutil.copy(shared / "nih_mini" / "images" / name, tmp_path / "films")
    words = ["bundle=bundle", "images=films", "out=scores.parquet"]
    subprocess.run([command, "predict", *words], cwd=tmp_path, env=environment, check=True)
    table = pd.read_parquet(tmp_path / "scores.parquet").set_index("image").loc[list(stored.image)]
    scores = table[[f"score:{name}" for name in stored.findings]].to_numpy()
    np.testing.assert_allclose(scores, stored.score, atol=1e-5, rtol=0)

    serve = [command, "serve", "bundle=bundle", "port=0"]
    with subprocess.Popen(serve, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split(": ")[0]
        film = (tmp_path / "films" / stored.image[0]).read_bytes()
        answer = httpx.post(f"{address}/v1/predict", files={"file": film}, timeout=60).json()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    np.testing.assert_allclose(list(answer["score"].values()), stored.score[0], atol=1e-5, rtol=0)
