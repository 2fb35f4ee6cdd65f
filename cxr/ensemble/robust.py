"""How much of searched weights to keep: moving them towards equal weights as far as their gain may be chance.

The best of many weight vectors on validation is worse on new images than equal weights where members are alike. The
rule of this module keeps the share

    s = sqrt(known) * max(0, 1 - M / 4 * (standard error / gain)^2)

of the way from equal weights to searched ones. `gain` is the validation objective of the searched weights less that of
equal ones, its standard error comes from resampled patients, and M is the number of members: more members find a
larger gain by chance. This is a positive-part shrinkage estimate (James and Stein, "Estimation with Quadratic Loss",
1961) along one direction; the constant M / 4 is ours. Findings with fewer than 5 patients with, or 5 without, the
finding are left out, since their objective is mostly noise. `known` is the share of the other findings.

Simulated members with normal scores, fourteen findings as frequent as in ChestX-ray14, 200 to 400 validation splits a
row. Mean change of the true macro AUROC against equal weights, times 10,000:

    members                               images   searched   s = 1 if gain > 1.64 SE, else 0   this rule
    3 alike, correlation 0.7 of errors       100      -57.0                             -21.2        -4.2
    3 alike                                  200      -34.0                              -7.5        -2.4
    5 alike                                  200      -52.3                             -11.9        -3.5
    3, one better, one worse                 200     +116.9                             +94.8      +111.7
    2, one better by little                  200      +38.7                             +12.2       +35.6
    5, one better, one worse                 200     +107.8                             +85.6       +92.9
    5, four nearly the same and another one  200     +204.2                            +190.1      +194.0

The rule is for a mean over several findings. One finding with 20 positive images says too little: with 3 alike members
it loses 14 (searched weights 85), and no constant that cuts this to 5 keeps half of the gain of unlike ones. Where
nearly all findings have fewer than 5 positive patients, two thirds of the gain of unlike members are kept.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr.ensemble.objective import Landscape, evaluate
from cxr.ensemble.resample import patient_counts, resampled_values
from cxr.ensemble.search import best_of
from cxr.ensemble.splits import Validation
from cxr.metrics.cells import patient_numbers
from cxr.metrics.patients import enough

RESAMPLES = 200

_Floats = NDArray[np.float64]


def learnt_share(gain: ArrayLike, error: ArrayLike, members: int, known: float = 1.0) -> _Floats:
    """The share of the way from equal to searched weights.

    Args:
        gain: of any shape, the objective of searched weights less that of equal ones; NaN where it is undefined.
        error: of the same shape, its standard error.
        members: M.
        known: share of the findings whose objective took part, in [0, 1].

    Returns:
        Of the same shape, in [0, 1]; 0 without a gain.
    """
    gains, errors = np.asarray(gain, np.float64), np.asarray(error, np.float64)
    ratio = np.divide(errors, gains, out=np.full(gains.shape, np.inf), where=gains > 0)
    kept = np.maximum(0, 1 - members / 4 * ratio**2)
    return np.sqrt(known) * np.where(np.isnan(kept), 0, kept)


def enough_patients(data: Validation) -> NDArray[np.bool_]:
    """(L,) whether a finding has enough patients with it and without it, see `cxr.metrics.patients`."""
    number, patients = patient_numbers(data.patient.astype(str), len(data))
    return enough(data.target, number, patients)


def best_on(seen: Landscape, findings: NDArray[np.bool_]) -> _Floats:
    """The best shared weights (M,) for the mean over some of the findings (L,); equal weights if there are none."""
    value = seen.value[:, findings]
    whole = ~np.isnan(value).any(axis=1)
    if not findings.any() or not whole.any():
        return np.full(seen.weights.shape[1], 1 / seen.weights.shape[1])
    return best_of(seen.weights[whole], value[whole].mean(axis=1))


def towards_equal(
    data: Validation, objective: str, shared: _Floats, own: _Floats | None, equal: _Floats, seed: int
) -> tuple[_Floats, _Floats, dict[str, Any]]:
    """Applies the rule to the shared weights and to those of each finding.

    Args:
        data: the members on validation.
        objective: that the weights were searched for.
        shared: (M,) searched weights.
        own: (L, M) searched weights of each finding, or none: then all are the shared ones.
        equal: (M,) what they are moved to.
        seed: of the resamples.

    Returns:
        Shared weights (M,), weights of each finding (L, M), and plain values for `metrics.json`.
    """
    used, members = enough_patients(data), int((equal > 0).sum())
    points = np.concatenate([equal[None], shared[None], np.empty((0, len(shared))) if own is None else own])
    value = evaluate(points, data, objective).value
    drawn = resampled_values(points, data, objective, patient_counts(data.patient, RESAMPLES, seed))
    gain, spread = value - value[0], drawn - drawn[:, :1]
    here, error = float(mean_over(gain[1], used)), float(deviation(mean_over(spread[:, 1], used)))
    share = float(learnt_share(here, error, members, used.mean()))
    moved = equal + share * (shared - equal)
    each = np.repeat(moved[None], len(data.findings), axis=0)
    for k in np.flatnonzero(used) if own is not None else []:
        kept = learnt_share(gain[2 + k, k], deviation(spread[:, 2 + k, k]), members)
        each[k] = equal + kept * (points[2 + k] - equal)
    said = {"share": share, "gain": _plain(here), "standard_error": _plain(error)}
    return moved, each, said | {"left_out": [f for f, known in zip(data.findings, used, strict=True) if not known]}


def mean_over(values: _Floats, findings: NDArray[np.bool_]) -> _Floats:
    """The mean (...) of values (..., L) over some findings, undefined ones left out; NaN where there are none."""
    used = values[..., findings]
    count = (~np.isnan(used)).sum(axis=-1)
    return np.divide(np.nansum(used, axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)


def deviation(values: _Floats) -> _Floats:
    """The deviation (...) of values (R, ...) over resamples, undefined ones left out; NaN with fewer than 2."""
    count = (~np.isnan(values)).sum(axis=0)
    mean = np.divide(np.nansum(values, axis=0), count, out=np.zeros(count.shape), where=count > 0)
    squares = np.nansum((values - mean) ** 2, axis=0)
    return np.sqrt(np.divide(squares, count - 1, out=np.full(count.shape, np.nan), where=count > 1))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value
