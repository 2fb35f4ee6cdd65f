"""What `metrics.json` says of one split, from targets and probabilities alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxr.metrics.auroc import auroc, macro

THRESHOLD = 0.5


def accuracy(target: NDArray[np.floating], score: NDArray[np.floating]) -> NDArray[np.float64]:
    """Binary accuracy of every finding at 0.5 (a score of 0.5 says present).

    Args:
        target: (N, L), NaN unknown (left out).
        score: (N, L), probabilities.

    Returns:
        (L,) float64; NaN where nothing is known.
    """
    known = ~np.isnan(target)
    right = ((score >= THRESHOLD) == (target == 1)) & known
    counts = known.sum(axis=0)
    return np.where(counts > 0, right.sum(axis=0) / np.maximum(counts, 1), np.nan)


def summarise(target: NDArray[np.floating], score: NDArray[np.floating], findings: Sequence[str]) -> dict[str, object]:
    """The metrics of one split as plain values for JSON, with null for what is undefined.

    Args:
        target: (N, L), 1, 0 or NaN for unknown.
        score: (N, L) float32 probabilities, as stored in the predictions.
        findings: L names.

    Returns:
        `macro_auroc`, `auroc` (finding to number or None), `macro_accuracy`, `accuracy`, `n`, `positives`, `unknown`,
        and `left_out_of_macro_auroc`, the findings without a positive or without a negative image.
    """
    area, right = auroc(target, score), accuracy(target, score)
    return {
        "macro_auroc": _number(macro(area)),
        "auroc": {name: _number(value) for name, value in zip(findings, area, strict=True)},
        "macro_accuracy": _number(macro(right)),
        "accuracy": {name: _number(value) for name, value in zip(findings, right, strict=True)},
        "n": len(target),
        "positives": {name: int(count) for name, count in zip(findings, (target == 1).sum(axis=0), strict=True)},
        "unknown": {name: int(count) for name, count in zip(findings, np.isnan(target).sum(axis=0), strict=True)},
        "left_out_of_macro_auroc": [name for name, value in zip(findings, area, strict=True) if np.isnan(value)],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
