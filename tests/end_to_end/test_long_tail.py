"""`make long-tail`: methods for rare findings do better on balanced test images than cross-entropy does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
SEEDS = 3


def reached(run: Path) -> float:
    frame = pd.read_parquet(run / "predictions" / "balanced_test.parquet")
    truth, score = (frame.filter(like=kind).to_numpy() for kind in ("target:", "score:"))
    assert (truth.sum(axis=0) == truth.sum(axis=0)[0]).all()
    return float(balanced_accuracy_score(truth.argmax(axis=1), score.argmax(axis=1)))


@pytest.mark.slow
def test_reweighting_and_classifier_retraining_beat_cross_entropy_by_more_than_the_seeds_differ(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "done-dev").touch()
    runs = tmp_path / "runs"
    subprocess.run(
        [
            "make", "long-tail", f"RUN={sys.executable}", f"DONE={tmp_path}/done", f"RUNS={runs}",
            "LONG_TAIL=softmax,rw", "DECOUPLED=crt,tau_norm", f"PHANTOMS={tmp_path}/phantoms",
        ],
        cwd=ROOT, env=environment, check=True,
    )  # fmt: skip
    values = {
        method: np.array([reached(runs / "long-tail" / f"holste_{method}-seed-{seed}") for seed in range(SEEDS)])
        for method in ("softmax", "rw", "crt")
    }
    plain = values.pop("softmax")
    for method, found in values.items():
        spread = max(found.std(ddof=1), plain.std(ddof=1))
        assert found.mean() - plain.mean() > spread, f"{method} {found} against softmax {plain}"
    table = (runs / "long-tail" / "comparison-balanced_test.md").read_text()
    assert all(f"experiment=holste_{method} (3 seeds)" in table for method in (*values, "softmax"))
