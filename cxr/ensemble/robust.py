"""Robust weights: searched weights moved towards equal weights, as far as their gain may be due to chance.

The best of many weight vectors on validation is worse on new images than equal weights if the members are alike. The
rule of this module keeps the share

    s = sqrt(known) * max(0, 1 - M / 4 * (standard error / gain)^2)

of the way from equal weights to searched ones. `gain` is the validation objective of the searched weights minus that of
equal ones, its standard error comes from resampled patients, and M is the number of members: more members find a
larger gain by chance. This is a positive-part shrinkage estimate (James and Stein, "Estimation with Quadratic Loss",
1961) along one direction, with a constant M / 4 chosen by simulation. Findings with fewer than 5 patients with, or 5
without, the finding are left out, since their objective is mostly noise; `known` is the share of the other findings.

Simulated members with normal scores, fourteen findings as frequent as in ChestX-ray14, 200 to 400 validation splits for
each row. Mean change of the true macro AUROC compared with equal weights, times 10,000:

    members                               images   searched   s = 1 if gain > 1.64 SE, else 0   this rule
    3 alike, correlation 0.7 of errors       100      -57.0                             -21.2        -4.2
    3 alike                                  200      -34.0                              -7.5        -2.4
    5 alike                                  200      -52.3                             -11.9        -3.5
    3, one better, one worse                 200     +116.9                             +94.8      +111.7
    2, one better by little                  200      +38.7                             +12.2       +35.6
    5, one better, one worse                 200     +107.8                             +85.6       +92.9
    5, four nearly the same and another one  200     +204.2                            +190.1      +194.0

The rule is for a mean over several findings. For a single finding with 20 positive images, three alike members lose 14
(searched weights 85); constants that reduce this to 5 keep less than half of the gain of unlike members. Where nearly
all findings have fewer than 5 positive patients, two thirds of the gain of unlike members are kept.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.ensemble.objective import Landscape, Resamples, evaluate, evaluate_resamples
from cxr.ensemble.search import best_row
from cxr.ensemble.splits import Validation
from cxr.metrics.cells import patient_numbers
from cxr.metrics.interval import deviation
from cxr.metrics.patients import enough
from cxr.metrics.plain import number

RESAMPLES = 200

_Floats = NDArray[np.float64]


def kept_share(gain: ArrayLike, error: ArrayLike, members: int, known: float = 1.0) -> _Floats:
    """The share of the way from equal to searched weights.

    Args:
        gain: of any shape, the objective of searched weights minus that of equal ones; NaN where it is undefined.
        error: of the same shape, its standard error.
        members: M.
        known: share of the findings in the objective, in [0, 1].

    Returns:
        Of the same shape, in [0, 1]; 0 without a gain.
    """
    gains, errors = np.asarray(gain, np.float64), np.asarray(error, np.float64)
    ratio = np.divide(errors, gains, out=np.full(gains.shape, np.inf), where=gains > 0)
    return np.sqrt(known) * np.nan_to_num(np.maximum(0, 1 - members / 4 * ratio**2))


def enough_patients(data: Validation) -> NDArray[np.bool_]:
    """(L,) whether a finding has enough patients with it and without it, see `cxr.metrics.patients`."""
    return enough(data.target, *patient_numbers(data.patient.astype(str), len(data)))


def best_shared(seen: Landscape, findings: NDArray[np.bool_]) -> _Floats:
    """The best weights (M,) for the mean over some of the findings (L,); equal weights if there are none."""
    value = seen.value[:, findings]
    complete = ~np.isnan(value).any(axis=1)
    if not findings.any() or not complete.any():
        return np.full(seen.weights.shape[1], 1 / seen.weights.shape[1])
    points = seen.weights[complete]
    return points[best_row(points, value[complete].mean(axis=1))]


def shrink_to_equal(
    data: Validation, objective: str, shared: _Floats, own: _Floats | None, equal: _Floats, seed: int
) -> tuple[_Floats, _Floats, dict[str, Any]]:
    """Applies the rule to the shared weights and to those of each finding.

    Args:
        objective: that the weights were searched for.
        shared: (M,) searched weights.
        own: (L, M) searched weights of each finding; None if all findings share theirs.
        equal: (M,) what they are moved to.
        seed: of the resamples.

    Returns:
        Shared weights (M,), weights of each finding (L, M), and plain values for `metrics.json`.
    """
    used, members = enough_patients(data), int((equal > 0).sum())
    points = np.concatenate([equal[None], shared[None], np.empty((0, len(shared))) if own is None else own])
    value = evaluate(points, data, objective).value
    drawn = evaluate_resamples(points, data, objective, Resamples.draw(data.patient, RESAMPLES, seed))
    gain, drawn_gain = value - value[0], drawn - drawn[:, :1]
    mean_gain, error = float(mean_over(gain[1], used)), float(deviation(mean_over(drawn_gain[:, 1], used)))
    share = float(kept_share(mean_gain, error, members, used.mean()))
    moved = equal + share * (shared - equal)
    each = np.repeat(moved[None], len(data.findings), axis=0)
    for k in np.flatnonzero(used) if own is not None else []:
        kept = kept_share(gain[2 + k, k], deviation(drawn_gain[:, 2 + k, k]), members)
        each[k] = equal + kept * (points[2 + k] - equal)
    left_out = [finding for finding, known in zip(data.findings, used, strict=True) if not known]
    record = {"share": share, "gain": number(mean_gain), "standard_error": number(error), "left_out": left_out}
    return moved, each, record


def mean_over(values: _Floats, findings: NDArray[np.bool_]) -> _Floats:
    """The mean (...) of values (..., L) over some findings, without undefined ones; NaN if there are none."""
    used = values[..., findings]
    count = (~np.isnan(used)).sum(axis=-1)
    return np.divide(np.nansum(used, axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
