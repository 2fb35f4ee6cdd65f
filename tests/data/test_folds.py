"""Folds of a cross-validation: patients stay whole, every image validates once, findings are spread evenly."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.data.catalog import Catalog
from cxr.data.split import split_catalog
from cxr.errors import CxrError

FINDINGS = ("Mass", "Edema")


def people(patients: int) -> Catalog:
    rng = np.random.default_rng(3)
    owner = np.repeat([f"p{k:04d}" for k in range(patients)], 1 + np.arange(patients) % 4)
    table = pd.DataFrame({"image": [f"{name}_{k}.png" for k, name in enumerate(owner)], "patient": owner})
    table["Mass"], table["Edema"] = (rng.random(len(table)) < 0.3) * 1.0, (rng.random(len(table)) < 0.08) * 1.0
    table["split"] = np.where(table["patient"].str[1:].astype(int) < patients // 5, "test", "train")
    return Catalog(table, FINDINGS, "films.csv")


def fold(
    of: Catalog, folds: int | None, number: int | None, val_list: str | None = None, seed: int = 0
) -> pd.DataFrame:
    return split_catalog(of, "", None, val_list, None, 0.1, seed, folds=folds, fold=number).table


@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_that_is_not_test_validates_in_one_fold_and_trains_in_the_others(folds: int) -> None:
    given = people(400)
    tables = [fold(given, folds, number) for number in range(folds)]
    roles = pd.concat([table.set_index("image")["split"] for table in tables], axis=1)
    test = given.table.set_index("image")["split"] == "test"
    assert (roles[test] == "test").all().all()
    assert ((roles[~test] == "val").sum(axis=1) == 1).all()
    assert ((roles[~test] == "train").sum(axis=1) == folds - 1).all()
    for table in tables:
        assert (table.groupby("patient")["split"].nunique() == 1).all()
        val, free = table[table["split"] == "val"], table[table["split"] != "test"]
        assert abs(len(val) - len(free) / folds) < 0.05 * len(free) / folds
        for finding in FINDINGS:
            assert abs(val[finding].sum() - free[finding].sum() / folds) < 3
    pd.testing.assert_frame_equal(tables[1], fold(given, folds, 1))
    assert not tables[1]["split"].equals(fold(given, folds, 1, seed=1)["split"])


@pytest.mark.parametrize(
    ("folds", "number", "val_list", "message"),
    [
        (5, None, None, r"data\.folds=5: pass both"),
        (None, 2, None, r"data\.fold=2: pass both"),
        (5, 5, None, r"data\.folds=5 data\.fold=5"),
        (60, 0, None, r"40 training patients cannot be divided into data\.folds=60"),
    ],
)
def test_wrong_folds_are_refused(folds: int | None, number: int | None, val_list: str | None, message: str) -> None:
    with pytest.raises(CxrError, match=message):
        fold(people(50), folds, number, val_list)


def test_a_validation_list_beside_folds_is_refused(tmp_path: Path) -> None:
    given = people(50)
    images = {name: given.table["image"][given.table["split"] == name].tolist() for name in ("train", "test")}
    (tmp_path / "train.txt").write_text("\n".join(images["train"][5:]))
    (tmp_path / "val.txt").write_text("\n".join(images["train"][:5]))
    (tmp_path / "test.txt").write_text("\n".join(images["test"]))
    with pytest.raises(CxrError, match=r"data\.val_list=val\.txt and data\.folds=2 both choose"):
        split_catalog(given, tmp_path, "train.txt", "val.txt", "test.txt", 0.1, 0, folds=2, fold=0)
