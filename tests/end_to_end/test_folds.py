"""A cross-validation: a sweep over folds, its summary, an ensemble of the folds, and a comparison of two."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from cxr.evaluation.compare import compare_runs

ONE = ("trainer.max_epochs=1", "data.folds=2")


def test_folds_are_trained_summarised_and_combined(
    train: Callable[..., Any], ensemble: Callable[..., Any], here: Path
) -> None:
    swept = train("-m", *ONE, "data.fold=0,1", "sweep=cv")
    assert swept.code == 0, swept.err
    cv = here / "runs" / "cv"
    parts = [pd.read_parquet(cv / f"fold-{k}" / "predictions" / "val.parquet") for k in (0, 1)]
    assert not set(parts[0]["patient"]) & set(parts[1]["patient"])
    assert not list(cv.glob("fold-*/predictions/test.parquet"))
    whole = pd.concat(parts).set_index("image")
    table = pd.read_csv(cv / "folds.csv").set_index("finding")
    defined = [name for name in table.index[:-1] if not np.isnan(table["out_of_fold"][name])]
    assert len(defined) >= 8
    for name in defined:
        expected = roc_auc_score(whole[f"target:{name}"], whole[f"score:{name}"])
        assert np.isclose(table["out_of_fold"][name], expected)
    stored = pd.read_parquet(cv / "out_of_fold" / "folds.parquet").set_index("image")
    pd.testing.assert_frame_equal(stored.sort_index(), whole.sort_index())

    refused = ensemble("runs=runs/cv/*")
    assert refused.code == 1 and "is fitted on validation images that all members score" in refused.err
    incomplete = ensemble("runs=[runs/cv/fold-0,runs/cv/fold-0/../fold-0]", "method=average")
    assert incomplete.code == 1 and "more than once" in incomplete.err
    combined = ensemble("runs=runs/cv/*", "method=average", "name=both")
    assert combined.code == 0, combined.err
    val = pd.read_parquet(here / "runs" / "both" / "predictions" / "val.parquet").set_index("image")
    scores = [name for name in whole if name.startswith("score:")]
    assert np.allclose(val.loc[whole.index, scores], whole[scores], atol=1e-6)

    other = train("-m", *ONE, "data.fold=0,1", "sweep=other", "loss=mae")
    assert other.code == 0, other.err
    options = {"split": "val", "metric": "auroc", "resamples": 50, "seed": 0, "out": str(here / "out")}
    compare_runs({"runs": ["runs/cv/*", "runs/other/*"], **options})
    ranked = pd.read_csv(here / "out.csv")
    assert {name[3:] for name in ranked["configuration"]} == {"loss=bce (2 folds)", "loss=mae (2 folds)"}
    assert ranked["runs"].tolist() == [1, 1]
