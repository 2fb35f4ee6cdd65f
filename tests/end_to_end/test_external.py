"""A run evaluated on another data set: common findings, the run's own operating points, no training image."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]


@pytest.fixture
def hospital(here: Path, phantoms: Path) -> Path:
    """A table of 60 films with three findings of the run and one that it does not know."""
    entries = pd.read_csv(phantoms / "Data_Entry_2017.csv").head(60)
    folder = here / "hospital"
    (folder / "films").mkdir(parents=True)
    with (folder / "films.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "Effusion", "Mass", "Fracture", "Edema"])
        for number, row in enumerate(entries.itertuples()):
            shutil.copy(phantoms / "images" / row[1], folder / "films" / f"h{number:02d}.png")
            labels = row[2].split("|")
            writer.writerow(
                [f"films/h{number:02d}.png", f"H{row[4]}", *(int(n in labels) for n in ("Effusion", "Mass")),
                 number % 2, int("Edema" in labels)]
            )  # fmt: skip
    return folder


def test_a_run_is_evaluated_on_another_data_set(
    train: Callable[..., Any], program: Callable[..., Any], here: Path, hospital: Path, phantoms: Path
) -> None:
    assert train("name=a", "trainer.max_epochs=1").code == 0
    other = (f"data.root={hospital}", "data=table", "data.file=films.csv")
    done = program("evaluate", "run=runs/a", *other, "images=all", "resamples=50", "external=hospital")
    assert done.code == 0, done.err
    folder = here / "runs" / "a" / "external" / "hospital"
    test = pd.read_parquet(folder / "predictions" / "test.parquet")
    assert len(test) == 60
    assert {name for name in test if name.startswith("score:")} == {"score:Effusion", "score:Mass", "score:Edema"}
    metrics = json.loads((folder / "metrics.json").read_text())
    area = metrics["test"]["auroc"]["Effusion"]
    area = area["value"] if isinstance(area, dict) else area
    assert np.isclose(area, roc_auc_score(test["target:Effusion"], test["score:Effusion"]))
    assert metrics["external"] == {"run": "a", "data": "table", "images": "all"}
    own = pd.read_parquet(here / "runs" / "a" / "predictions" / "val.parquet").set_index("image")
    val = pd.read_parquet(folder / "predictions" / "val.parquet").set_index("image")
    assert np.array_equal(val["score:Mass"], own.loc[val.index, "score:Mass"])
    threshold = metrics["test"]["operating_points"]["sensitivity"]["threshold"]["Mass"]
    positive = val["score:Mass"][val["target:Mass"] == 1]
    assert (positive >= threshold).mean() >= 0.9

    table = program("transfer", "runs=runs/*")
    assert table.code == 0, table.err
    own_test = pd.read_parquet(here / "runs" / "a" / "predictions" / "test.parquet")
    rows = pd.read_csv(here / "runs" / "transfer.csv")
    places = rows[["run", "evaluated_on", "images"]].values.tolist()
    assert places == [["a", "own test", len(own_test)], ["a", "hospital", 60]]
    areas = [roc_auc_score(test[f"target:{name}"], test[f"score:{name}"]) for name in ("Effusion", "Mass", "Edema")]
    assert np.isclose(rows["macro_auroc"][1], np.mean(areas))

    trained = program(
        "evaluate", "run=runs/a", "data=phantom", f"data.root={phantoms}", "data.images=90", "data.phantom_size=64",
        "images=all",
    )  # fmt: skip
    assert trained.code == 1 and "of the test split" in trained.err
    listed = program("transfer", "runs=runs/*", f"out={here / 'again'}")
    assert listed.code == 0 and (here / "again.csv").read_text() == (here / "runs" / "transfer.csv").read_text()
    unknown = program("evaluate", "run=runs/a", *other, "external=../b")
    assert unknown.code == 1 and "external=../b is not a name" in unknown.err
    alone = program("evaluate", "run=runs/a", "images=all")
    assert alone.code == 1 and "images=all is for another data set" in alone.err
    assert not (here / "runs" / "b").exists()
