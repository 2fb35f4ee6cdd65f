"""Speed of the metrics beside scikit-learn and torchmetrics, on the same arrays, in one process on one core.

    python benchmarks/numbers_metrics.py [auroc_sklearn] [auroc_torchmetrics] [auroc_full] [bootstrap]

prints one JSON line a row: `row`, `ours`, `reference`, `ratio` (reference by ours, larger is better) and `unit`. Both
sides take turns, and medians are compared. A row fails if the values of both sides differ.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import json
import os
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import numpy as np  # noqa: E402
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]  # noqa: E402

from cxr.metrics.auroc import auroc  # noqa: E402
from cxr.metrics.bootstrap import Resampling, bootstrap_auroc, draws  # noqa: E402

TEST, WHOLE = 25_596, 112_120  # images in the official test list and in the whole data set
# Share of positives in ChestX-ray14 (Data_Entry_2017_v2020.csv), in alphabetical order of its 14 findings.
PREVALENCE = (
    0.1031, 0.0248, 0.0416, 0.0205, 0.1188, 0.0224, 0.0150, 0.0020, 0.1774, 0.0516, 0.0565, 0.0302, 0.0128, 0.0473
)  # fmt: skip
PATIENTS = 0.28  # patients by images: 30,805 by 112,120
RESAMPLES, RESAMPLES_OF_REFERENCE = 1000, 20

Row = dict[str, object]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def synthetic(images: int, seed: int = 0) -> Arrays:
    """Targets and probabilities (N, 14) float32 with an AUROC of about 0.8, and patients (N,) of like images."""
    rng = np.random.default_rng(seed)
    patients = int(PATIENTS * images)
    patient = np.append(np.arange(patients), rng.integers(patients, size=images - patients))
    rng.shuffle(patient)
    target = (rng.random((images, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
    noise = rng.normal(size=(patients, 14))[patient] * 0.5 + rng.normal(size=target.shape) * 0.75**0.5
    return target, (1 / (1 + np.exp(3 - noise - 1.2 * target))).astype(np.float32), patient


def seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def in_turns(ours: Callable[[], object], reference: Callable[[], object], turns: int) -> tuple[float, float]:
    """Median seconds of both, after one call of each that is not counted."""
    ours(), reference()
    times = [(seconds(ours), seconds(reference)) for _ in range(turns)]
    return median(one for one, _ in times), median(other for _, other in times)


def row(name: str, ours: float, reference: float, unit: str) -> Row:
    scale = 1000 if unit == "ms" else 1
    values = {"ours": round(scale * ours, 3), "reference": round(scale * reference, 3)}
    return {"row": name, **values, "ratio": round(reference / ours, 1), "unit": unit}


def by_sklearn(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    return np.array([roc_auc_score(t, s, sample_weight=weight) for t, s in zip(target.T, score.T, strict=True)])


def auroc_beside_sklearn(name: str, images: int, turns: int) -> Row:
    target, score, _ = synthetic(images)
    np.testing.assert_allclose(auroc(target, score), by_sklearn(target, score), rtol=0, atol=1e-12)
    return row(name, *in_turns(lambda: auroc(target, score), lambda: by_sklearn(target, score), turns), "ms")


def auroc_sklearn() -> Row:
    """The official test list's size, beside `sklearn.metrics.roc_auc_score` finding by finding."""
    return auroc_beside_sklearn("auroc_sklearn", TEST, 15)


def auroc_full() -> Row:
    """The same at the size of the whole data set."""
    return auroc_beside_sklearn("auroc_full", WHOLE, 7)


def auroc_torchmetrics() -> Row:
    """The official test list's size, beside `torchmetrics` with every score a threshold."""
    import torch
    from torchmetrics.functional.classification import multilabel_auroc

    torch.set_num_threads(1)
    target, score, _ = synthetic(TEST)
    labels, scores = torch.from_numpy(target).int(), torch.from_numpy(score)

    def theirs() -> torch.Tensor:
        return multilabel_auroc(scores, labels, num_labels=len(PREVALENCE), average=None, thresholds=None)

    np.testing.assert_allclose(auroc(target, score), theirs().numpy(), rtol=0, atol=1e-5)  # theirs is in float32
    return row("auroc_torchmetrics", *in_turns(lambda: auroc(target, score), theirs, 15), "ms")


def bootstrap() -> Row:
    """1,000 resamples of patients, beside scikit-learn in a loop with sample weights (20 resamples, times 50)."""
    target, score, patient = synthetic(TEST)
    plan = Resampling(RESAMPLES, seed=1, keep=True)
    names, number = np.unique(patient, return_inverse=True)
    times = next(draws(len(names), RESAMPLES_OF_REFERENCE, plan.seed))
    ours, reference, expected = [seconds(lambda: bootstrap_auroc(target, score, patient, plan))], [], []
    for done, drawn in enumerate(times):
        weight = drawn[number].astype(np.float64)
        began = perf_counter()
        expected.append(by_sklearn(target, score, weight))
        reference.append(perf_counter() - began)
        if done % 5 == 4:
            ours.append(seconds(lambda: bootstrap_auroc(target, score, patient, plan)))
    found = bootstrap_auroc(target, score, patient, plan).findings.resamples
    np.testing.assert_allclose(found[:RESAMPLES_OF_REFERENCE], expected, rtol=0, atol=1e-12)
    return row("bootstrap", median(ours), median(reference) * RESAMPLES, "s")


ROWS = {row.__name__: row for row in (auroc_sklearn, auroc_torchmetrics, auroc_full, bootstrap)}


def rows(names: list[str]) -> Iterator[Row]:
    """The rows of these names, or all of them; a generator, so that each is there as soon as it is measured."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        sys.exit(f"there is no row {', '.join(unknown)}; rows are {', '.join(ROWS)}")
    for name in names or ROWS:
        yield ROWS[name]()


if __name__ == "__main__":
    for measured in rows(sys.argv[1:]):
        print(json.dumps(measured), flush=True)
