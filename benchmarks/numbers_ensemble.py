"""The ensemble stage beside its peers: `python benchmarks/numbers_ensemble.py [ROW ...]`.

Rows are `sweep`, `search`, `stage` and `memory`; each is one JSON line on standard output, what lies behind it goes to
standard error. Both sides of a row are measured in one process, on scores that are drawn for the purpose.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import json
import os
import subprocess
import tempfile
import time
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cxr.ensemble import objective
from cxr.ensemble.objective import evaluate
from cxr.ensemble.search import simplex_grid
from cxr.ensemble.splits import Validation
from cxr.ensemble.weighted import Weighted
from cxr.findings import NIH14
from cxr.run.predictions import Predictions

ROOT = Path(__file__).resolve().parents[1]
VAL, TEST, WHOLE = 11_212, 25_596, 112_120  # images: a tenth of the data set, its official test list, all
PREVALENCE = np.geomspace(0.002, 0.18, len(NIH14))
LIMIT_S, LIMIT_MB = 20.0, 1000.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def row(name: str, ours: float, reference: float, ratio: float, unit: str) -> None:
    values = {"ours": ours, "reference": reference, "ratio": ratio}
    print(json.dumps({"row": name, **{k: round(v, 6) for k, v in values.items()}, "unit": unit}), flush=True)


def drawn(images: int, members: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (M, N, L) of members that share most of their mistakes, some better than others; targets (N, L)."""
    rng = np.random.default_rng(seed)
    target = (rng.random((images, len(NIH14))) < PREVALENCE).astype(np.float32)
    common = rng.normal(size=target.shape).astype(np.float32)
    scores = np.empty((members, *target.shape), np.float32)
    for member in range(members):
        own = rng.normal(size=target.shape).astype(np.float32)
        scores[member] = 1 / (1 + np.exp(3 - common - (0.7 + 0.1 * (member % 5)) * own - 1.2 * target))
    return scores, target


def by_scikit_learn(
    weights: NDArray[np.float64], scores: NDArray[np.float32], target: NDArray[np.float32]
) -> list[float]:
    mixed = np.zeros(target.shape)
    for weight, member in zip(weights, scores, strict=True):
        mixed += weight * member.astype(np.float64)
    mixed32 = mixed.astype(np.float32)
    return [float(roc_auc_score(target[:, k], mixed32[:, k])) for k in range(target.shape[1])]


def sweep() -> None:
    """Seconds for 1,326 weight vectors of three members, one thread; scikit-learn does 20 of them."""
    objective.THREADS = 1
    scores, target = drawn(VAL, 3)
    grid = simplex_grid(3, 50)
    evaluate(grid[:20], Validation.stacked(scores, target))
    began = time.perf_counter()
    found = evaluate(grid, Validation.stacked(scores, target))
    ours = time.perf_counter() - began
    chosen = np.linspace(0, len(grid) - 1, 20).astype(int)
    began = time.perf_counter()
    expected = [by_scikit_learn(grid[i], scores, target) for i in chosen]
    reference = (time.perf_counter() - began) * len(grid) / len(chosen)
    difference = float(np.abs(found.value[chosen] - np.array(expected)).max())
    say(f"{len(grid)} points x {len(NIH14)} findings x {VAL} images; largest difference {difference:.1e}")
    if not difference <= 1e-12:
        raise SystemExit(f"values differ by {difference}")
    row("sweep", ours, reference, reference / ours, "s")


def by_sorting(mixed: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """AUROC by sorted negatives and searched positives: no code of the framework."""
    negative, positive = np.sort(mixed[target == 0]), np.sort(mixed[target == 1])
    below = np.searchsorted(negative, positive, "left").sum() + np.searchsorted(negative, positive, "right").sum()
    return float(below / (2 * len(negative) * len(positive)))


def search() -> None:
    """Best validation macro AUROC of the default search and of its whole grid, by independent code; five members."""
    scores, target = drawn(VAL, 5, seed=1)
    data = Validation.stacked(scores, target)
    began = time.perf_counter()
    fit = Weighted(robust=False).fit(data)
    assert fit.landscape is not None and fit.weights is not None
    say(f"default search: {time.perf_counter() - began:.1f} s, {len(fit.landscape.weights)} points")
    ours = float(np.mean(by_scikit_learn(fit.weights[0], scores, target)))
    steps = 20
    began = time.perf_counter()
    points = [(*p, steps - sum(p)) for p in product(range(steps + 1), repeat=4) if sum(p) <= steps]
    totals = np.zeros(len(points))
    for k in range(len(NIH14)):
        products = [[(i / steps) * member[:, k].astype(np.float64) for i in range(steps + 1)] for member in scores]
        for row_, point in enumerate(points):
            mixed = products[0][point[0]] + products[1][point[1]]
            for member in range(2, 5):
                mixed = mixed + products[member][point[member]]
            totals[row_] += by_sorting(mixed.astype(np.float32), target[:, k])
    reference = float(totals.max() / len(NIH14))
    say(f"whole grid: {time.perf_counter() - began:.1f} s, {len(points)} points")
    row("search", ours, reference, ours / reference, "macro AUROC")


def predictions(root: Path, members: int, images: dict[str, int]) -> str:
    """Writes runs that hold nothing but predictions; returns the option that names them."""
    for split, count in images.items():
        names = np.array([f"{split}{i:06}.png" for i in range(count)], object)
        patient = np.array([f"{split}{i // 4:06}" for i in range(count)], object)
        scores, target = drawn(count, members, seed=len(split))
        for member in range(members):
            table = Predictions(names, patient, NIH14, scores[member], target)
            table.write(root / f"m{member}" / "predictions" / f"{split}.parquet")
    return f"runs=[{','.join(f'{root}/m{m}' for m in range(members))}]"


MEASURED = (
    "import sys; sys.argv[0] = 'ensemble.py'\n"
    "import atexit\n"
    "peak = lambda: [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]\n"
    "atexit.register(lambda: print('peak', peak(), file=sys.stderr))\n"
    "from cxr.cli.entry import start; start('ensemble')\n"
)


def run(root: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak megabytes of `ensemble.py` in a process of its own."""
    command = [sys.executable, "-c", MEASURED, *arguments, f"runs_dir={root / 'out'}"]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if result.returncode:
        raise SystemExit(result.stderr)
    return seconds, int(result.stderr.rsplit("peak ", 1)[1].split()[0]) / 1024


def stage() -> None:
    """Seconds from stored predictions to tables and figures: five members, 11,212 and 25,596 images."""
    with tempfile.TemporaryDirectory() as folder:
        given = predictions(Path(folder), 5, {"val": VAL, "test": TEST})
        seconds, peak = run(Path(folder), "method=weighted", given)
    say(f"{seconds:.1f} s, {peak:.0f} MB")
    row("stage", seconds, LIMIT_S, LIMIT_S / seconds, "s")


def memory() -> None:
    """Peak megabytes of the stage with twenty members on as many images as the data set has."""
    with tempfile.TemporaryDirectory() as folder:
        pieces = predictions(Path(folder), 20, {"val": VAL, "test": WHOLE - VAL})
        seconds, peak = run(Path(folder), "method=weighted", pieces)
    say(f"{seconds:.1f} s, {peak:.0f} MB")
    row("memory", peak, LIMIT_MB, LIMIT_MB / peak, "MB")


ROWS = {"sweep": sweep, "search": search, "stage": stage, "memory": memory}

if __name__ == "__main__":
    for name in sys.argv[1:] or ROWS:
        ROWS[name]()
