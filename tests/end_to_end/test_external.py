"""A run evaluated on another data set: common findings, the run's own operating points, no training image."""

import csv
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.phantom import write_phantoms


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 phantoms that no run is trained with."""
    root = tmp_path_factory.mktemp("others")
    write_phantoms(root, images=60, seed=1, size=64, processes=1)
    return root


@pytest.fixture
def hospital(here: Path, others: Path) -> Path:
    """A table of 60 films with three findings of the run and one that it does not know."""
    entries = pd.read_csv(others / "Data_Entry_2017.csv")
    folder = here / "hospital"
    (folder / "films").mkdir(parents=True)
    with (folder / "films.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "Effusion", "Mass", "Fracture", "Edema"])
        for number, row in enumerate(entries.itertuples()):
            shutil.copy(others / "images" / row[1], folder / "films" / f"h{number:02d}.png")
            labels = row[2].split("|")
            writer.writerow(
                [f"films/h{number:02d}.png", f"H{row[4]}", *(int(n in labels) for n in ("Effusion", "Mass")),
                 number % 2, int("Edema" in labels)]
            )  # fmt: skip
    return folder


def test_a_run_is_evaluated_on_another_data_set(
    train: Callable[..., Any], program: Callable[..., Any], here: Path, hospital: Path, phantoms: Path
) -> None:
    assert train("name=a", "trainer.max_epochs=1", "cache.size=64", f"cache.dir={here / 'caches'}").code == 0
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
    trained = json.loads((here / "runs" / "a" / "metrics.json").read_text())
    for key in ("split_fingerprint", "labels_sha256"):
        assert metrics[key] != trained[key] and metrics[key][:16] in done.out
    named = "all images of data=table, scored by a"
    assert metrics["split"] == named and f"Split: {named} (split {metrics['split_fingerprint'][:16]}" in done.out
    images = "\n".join(f"films/h{number:02d}.png\ttest" for number in range(60))
    assert metrics["split_fingerprint"] == sha256(images.encode()).hexdigest()
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

    own = program(
        "evaluate", "run=runs/a", "data=phantom", f"data.root={phantoms}", "data.images=90", "data.phantom_size=64",
        "images=all",
    )  # fmt: skip
    assert own.code == 1 and "of the test split" in own.err
    listed = program("transfer", "runs=runs/*", f"out={here / 'again'}")
    assert listed.code == 0 and (here / "again.csv").read_text() == (here / "runs" / "transfer.csv").read_text()
    unknown = program("evaluate", "run=runs/a", *other, "external=../b")
    assert unknown.code == 1 and "external=../b is not a name" in unknown.err
    for option in ("images=all", "cache.on_error=skip"):
        alone = program("evaluate", "run=runs/a", option)
        assert alone.code == 1 and f"{option} is for another data set" in alone.err
    assert not (here / "runs" / "b").exists()
    films_of_the_training_are_refused_or_left_out(program, here, hospital, phantoms)


def films_of_the_training_are_refused_or_left_out(
    program: Callable[..., Any], here: Path, hospital: Path, phantoms: Path
) -> None:
    """Under other names, with all films of their patients; a check that cannot be made is said."""
    val = pd.read_parquet(here / "runs" / "a" / "predictions" / "val.parquet")
    copied = val["image"][0]
    film = Image.open(phantoms / "images" / copied).resize((80, 80))
    film.save(hospital / "films" / "h07.png")  # another size of a film that selected the weights
    table = pd.read_csv(hospital / "films.csv")
    patient = table["patient"][7]
    kept = int((table["patient"] != patient).sum())
    arguments = ("evaluate", "run=runs/a", f"data.root={hospital}", "data=table", "data.file=films.csv", "images=all")
    refused = program(*arguments, "resamples=50")
    assert refused.code == 1
    assert f"runs/a was trained with 1 of 60 images of {hospital}/films.csv under other names" in refused.err
    assert f"films/h07.png ({copied}); evaluate it on other images, or pass cache.on_error=skip" in refused.err
    done = program(*arguments, "resamples=50", "cache.on_error=skip")
    assert done.code == 0, done.err
    assert f"left out, with all of such patients: {60 - kept} image" in done.out
    test = pd.read_parquet(here / "runs" / "a" / "external" / "table" / "predictions" / "test.parquet")
    assert len(test) == kept and patient not in set(test["patient"])

    (here / "caches").rename(here / "elsewhere")
    unknown = program(*arguments, "resamples=50", "external=again")
    assert unknown.code == 0, unknown.err
    said = "WARNING: whether images of table are training images under other names was not checked: the images of"
    assert said in unknown.out
    again = pd.read_parquet(here / "runs" / "a" / "external" / "again" / "predictions" / "test.parquet")
    assert len(again) == 60
