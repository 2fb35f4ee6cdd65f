"""Trainings on a table of a hospital's kind: other names of columns and findings, nested folders, unknown cells."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra

from cxr.cli.entry import main
from tests.end_to_end.conftest import SMALL, Result

FINDINGS = {"Fluid (pleural)": "Effusion", "Opacity": "Infiltration"}


@pytest.fixture
def evaluate(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`python -m cxr` with its arguments."""

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["cxr", *words])
        GlobalHydra.instance().clear()
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def hospital(tmp_path: Path, phantoms: Path) -> Path:
    """The phantoms as a hospital keeps them: folders by patient, semicolons, Latin-1, names without suffix."""
    root = tmp_path / "hospital"
    entries = pd.read_csv(phantoms / "Data_Entry_2017.csv", index_col=False, dtype=str)
    table = pd.DataFrame({"File#": "p" + entries["Patient ID"] + "/" + entries["Image Index"].str.removesuffix(".png")})
    table["MRN"], table["Größe"] = entries["Patient ID"].str.zfill(6), "43x43"
    table["Age[years]"], table["Sex"] = (
        entries["Patient Age"] + ",5",
        entries["Patient Gender"].map({"F": "f", "M": "male"}),
    )
    for place, (name, finding) in enumerate(FINDINGS.items()):
        present = entries["Finding Labels"].str.contains(finding)
        table[name] = np.where(np.arange(len(table)) % 7 == place, "", np.where(present, "yes", "no"))
    for image, source in zip(table["File#"], entries["Image Index"], strict=True):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(phantoms / "images" / source, root / f"{image}.png")
    (root / "films.csv").write_bytes(table.to_csv(index=False, sep=";").encode("latin-1"))
    (root / "roles.yaml").write_text('image: "File#"\nage: "Age[years]"\n')
    return root


def test_a_table_trains_resumes_and_is_evaluated_where_it_was_moved(
    train: Callable[..., Any], evaluate: Callable[..., Any], here: Path, hospital: Path
) -> None:
    small = [word for word in SMALL if not word.startswith("data.images")]
    places = (f"data.root={hospital}", f"data.file={hospital / 'films.csv'}", "data.roles=roles.yaml")
    done = train(*small, "data=table", *places, "name=a", "trainer.max_epochs=1", plain=True)
    assert done.code == 0, done.err
    run = here / "runs" / "a"
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["test"]["auroc"]) == set(FINDINGS)
    parts = [pd.read_parquet(run / "predictions" / f"{split}.parquet") for split in ("val", "test")]
    written = pd.read_csv(hospital / "films.csv", sep=";", encoding="latin-1", dtype=str, keep_default_na=False)
    written = written.set_index("File#")
    for part in parts:
        rows = written.loc[part["image"]]
        assert part["patient"].tolist() == rows["MRN"].tolist()
        for name in FINDINGS:
            truth = rows[name].map({"yes": 1.0, "no": 0.0, "": np.nan})
            np.testing.assert_array_equal(part[f"target:{name}"], truth.to_numpy())
    assert not set(parts[0]["patient"]) & set(parts[1]["patient"])
    resumed = train("name=a", "resume=true", "trainer.max_epochs=2", plain=True)
    assert resumed.code == 0, resumed.err
    moved = hospital.rename(hospital.with_name("moved"))
    before = pd.read_parquet(run / "predictions" / "test.parquet")
    shutil.rmtree(run / "predictions")
    words = ("evaluate", "run=runs/a", "resamples=10", f"data.root={moved}", "accelerator=cpu")
    refused = evaluate(*words)
    assert refused.code == 1 and f"data.file={hospital / 'films.csv'}" in refused.err
    told = evaluate(*words, f"data.file={moved / 'films.csv'}")
    assert told.code == 0, told.err
    after = pd.read_parquet(run / "predictions" / "test.parquet")
    assert after["image"].tolist() == before["image"].tolist()
    np.testing.assert_allclose(after["score:Opacity"], before["score:Opacity"], atol=1e-5)
