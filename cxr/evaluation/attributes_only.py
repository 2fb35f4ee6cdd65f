"""The attributes-only baseline of a run that is given age, sex and view: how well these predict the findings alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxr.data.attributes import attributes
from cxr.errors import CxrError
from cxr.metrics.auroc import auroc
from cxr.metrics.bootstrap import bootstrap_auroc
from cxr.metrics.interval import Resampling
from cxr.metrics.logistic import fit_logistic
from cxr.metrics.plain import with_mean
from cxr.run.predictions import Predictions

_INPUTS = 8
_PRIOR = np.array([0.0] + [1.0] * (_INPUTS - 1))  # a weak prior on all coefficients but the intercept


def fit_attributes(rows: pd.DataFrame, target: ArrayLike, findings: Sequence[str]) -> dict[str, list[float]]:
    """Logistic regression of each finding on age, its square, sex and view, with indicators of unknown ones.

    Args:
        rows: N rows of the training split, with `age`, `sex` and `view`.
        target: (N, L), NaN unknown, which is left out.
        findings: L names.

    Returns:
        Coefficients by finding, for `attributes_only`; all 0 for a finding without a positive or a negative image.
    """
    design, found = _design(rows), {}
    for name, truth in zip(findings, np.asarray(target).T, strict=True):
        known = ~np.isnan(truth)
        start = np.zeros(_INPUTS)
        fits = len(np.unique(truth[known])) == 2
        found[name] = (fit_logistic(design[known], truth[known], _PRIOR, start) if fits else start).tolist()
    return found


def attributes_only(
    p: Predictions, coefficients: Mapping[str, Any], resampling: Resampling | None = None
) -> dict[str, Any] | None:
    """The AUROC of age, sex and view alone on a split, as plain values.

    Returns:
        `auroc` by finding and `macro_auroc`; none if the predictions have no attributes.

    Raises:
        CxrError: the coefficients are not those of the findings.
    """
    if p.attributes is None or not {"age", "sex", "view"} <= set(p.attributes):
        return None
    try:
        weights = np.array([coefficients[name] for name in p.findings], np.float64).reshape(len(p.findings), _INPUTS)
    except (KeyError, TypeError, ValueError):
        raise CxrError(
            "train.attributes_only in metrics.json does not have the coefficients of every finding; remove this key"
        ) from None
    score = _design(p.attributes) @ weights.T
    found = bootstrap_auroc(p.target, score, p.patient, resampling) if resampling else auroc(p.target, score)
    return with_mean("auroc", p.findings, found)


def _design(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(N, 8): 1; age in units of 25 years from 50, its square, unknown age; female, unknown sex; PA, AP."""
    age, male, female, pa, ap = attributes(rows).astype(np.float64).T
    unknown, known = np.isnan(age), np.nan_to_num(4 * (age - 0.5))
    return np.stack([np.ones(len(age)), known, known**2, unknown, female, male + female == 0, pa, ap], axis=1)
