"""A user draws a public data set with the program `phantom`, inspects it and trains on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tests.end_to_end.conftest import SMALL
from tests.end_to_end.test_table import evaluate as program  # noqa: F401  # a fixture: `python -m cxr`


def test_phantoms_in_the_layout_of_chexpert_are_trained_on(
    train: Callable[..., Any],
    program: Callable[..., Any],  # noqa: F811
    here: Path,
) -> None:
    root = here / "chexpert"
    drawn = program("phantom", "layout=chexpert", f"root={root}", "images=90", "size=64", "processes=1")
    assert drawn.code == 0 and f"train with data=chexpert data.root={root}" in drawn.out
    assert "layout=nope is unknown" in program("phantom", "layout=nope", f"root={here / 'other'}").err
    options = ("data=chexpert", f"data.root={root}", "data.uncertain=smooth")
    seen = program("inspect", *options)
    assert seen.code == 0 and "90 images of" in seen.out
    small = [word for word in SMALL if word != "data.images=90"]
    done = train(*small, *options, "name=a", "trainer.max_epochs=1", plain=True)
    assert done.code == 0, done.err
    test = pd.read_parquet(here / "runs" / "a" / "predictions" / "test.parquet")
    assert sum(name.startswith("score:") for name in test) == 13
    listed = pd.read_csv(root / "test_labels.csv")
    listed = listed[listed["Path"].str.endswith("frontal.jpg")]
    assert (test["image"] == listed["Path"].str.removeprefix("CheXpert-v1.0/").to_numpy()).all()
    assert (test["target:Effusion"].to_numpy() == listed["Pleural Effusion"].to_numpy()).all()
