"""Over-fitting shown: the gap from validation to test, how far weights move, and what each member is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.objective import Landscape, evaluate, weighted_mean
from cxr.ensemble.resample import patient_counts, resampled_values
from cxr.ensemble.robust import best_on, deviation, enough_patients, learnt_share, mean_over
from cxr.ensemble.search import best_place
from cxr.ensemble.splits import Validation
from cxr.ensemble.weighted import WeightedMean, best_rows, positives_of
from cxr.metrics.auroc import auroc, macro

INTERVAL = (2.5, 97.5)  # percentiles
POINTS = 96  # random weight vectors that a resample chooses from
_ALL = "all findings"


@dataclass(frozen=True)
class Report:
    """What `overfitting.csv` holds.

    Attributes:
        gap: a row a model or method: macro AUROC on `validation` and `test`, and `gap`, the first less the second.
        weights: a row a finding and member: `weight`, and over the resamples `mean`, `sd`, `low`, `high`; or none.
        left_out: a row a member: validation macro AUROC `without` it and its `value`, what is lost; or none.
        resamples: of the patients of validation.
    """

    gap: pd.DataFrame
    weights: pd.DataFrame | None
    left_out: pd.DataFrame | None
    resamples: int

    def table(self) -> pd.DataFrame:
        """All three in one, told apart by `part`."""
        parts = {"gap": self.gap, "weight": self.weights, "left out": self.left_out}
        frames = [frame.assign(part=name) for name, frame in parts.items() if frame is not None]
        whole = pd.concat(frames, ignore_index=True)
        return whole[["part", *(column for column in whole if column != "part")]]

    def markdown(self) -> str:
        """The three as tables."""
        text = ["Macro AUROC on validation and on test\n", _markdown(self.gap)]
        if self.weights is not None:
            text += [
                f"\nWeights, and over {self.resamples} resamples of validation patients\n",
                _markdown(self.weights),
            ]
        if self.left_out is not None:
            text += ["\nValidation macro AUROC without each member, and what it loses\n", _markdown(self.left_out)]
        return "\n".join(text)

    def record(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        frames = {"gap": self.gap, "weights": self.weights, "left_out": self.left_out}
        rows = {
            name: None if f is None else [_plain(row) for row in f.to_dict("records")] for name, f in frames.items()
        }
        return {**rows, "resamples": self.resamples if self.weights is not None else 0}

    def said(self, label: str) -> list[str]:
        """A few lines for a terminal about the method called `label`."""
        gaps = self.gap.set_index("model")["gap"]
        beside = f" (average {_signed(gaps['average'])})" if label != "average" and "average" in gaps else ""
        lines = [f"validation - test macro AUROC: {label} {_signed(gaps[label])}{beside}"]
        if self.weights is not None and (self.weights["finding"] == _ALL).all():
            moved = [
                f"{row.member} {row.weight:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in self.weights.itertuples()
            ]
            lines.append(f"weights, 95% of {self.resamples} resamples of patients: {', '.join(moved)}")
        elif self.weights is not None:
            widest = self.weights.groupby("finding", sort=False)["sd"].mean().sort_values(ascending=False)
            lines.append(
                f"weights move most over {self.resamples} resamples of patients for "
                + ", ".join(f"{finding} (sd {sd:.2f})" for finding, sd in widest.head(3).items())
            )
        if self.left_out is not None:
            lost = [f"{row['member']} {_signed(-row['value'])}" for row in self.left_out.to_dict("records")]
            lines.append(f"validation macro AUROC without a member: {', '.join(lost)}")
        return lines


def examine(
    method: Method,
    data: Validation,
    fit: Fit,
    names: Sequence[str],
    macros: Mapping[str, tuple[float, float]],
    resamples: int,
    leave_one_out: bool,
    seed: int,
) -> Report:
    """Looks at a fitted method from all three sides.

    Args:
        method: that was fitted.
        data: on which.
        fit: the result.
        names: of the members.
        macros: validation and test macro AUROC by model or method.
        resamples: of validation patients; 0 leaves the weights' spread out.
        leave_one_out: whether each member's value is computed.
        seed: of the resamples.
    """
    gap = pd.DataFrame([{"model": n, "validation": v, "test": t, "gap": v - t} for n, (v, t) in macros.items()])
    weights = spread(method, data, fit, names, resamples, seed) if resamples else None
    left_out = None
    if leave_one_out:
        whole = validation_macro(method, data, fit)
        without = [without_member(method, data, fit, member) for member in range(data.members)]
        rows = zip(names, without, strict=True)
        left_out = pd.DataFrame([{"member": n, "without": value, "value": whole - value} for n, value in rows])
    return Report(gap, weights, left_out, resamples)


def spread(
    method: Method, data: Validation, fit: Fit, names: Sequence[str], resamples: int, seed: int
) -> pd.DataFrame | None:
    """The weights' mean, standard deviation and 95% interval over resamples of patients; none if none were learnt."""
    if not isinstance(method, WeightedMean) or fit.weights is None or fit.landscape is None:
        return None
    drawn = refits(method, data, fit, resamples, seed)
    rows = []
    for k, finding in enumerate(data.findings if method.per_finding else [_ALL]):
        low, high = np.percentile(drawn[:, k], INTERVAL, axis=0)
        for m, name in enumerate(names):
            row = {"finding": finding, "member": name, "weight": fit.weights[k, m], "mean": drawn[:, k, m].mean()}
            rows.append({**row, "sd": drawn[:, k, m].std(ddof=min(1, resamples - 1)), "low": low[m], "high": high[m]})
    return pd.DataFrame(rows)


def refits(method: WeightedMean, data: Validation, fit: Fit, resamples: int, seed: int) -> NDArray[np.float64]:
    """The weights that a cheap search would choose on resampled patients.

    The search chooses the best of `candidates`: the exact objective of each is computed on every resample. Where the
    method is robust so are these weights; their standard errors are the spread of the same resamples.

    Args:
        method: gives objective, shrinkage and whether it is robust.
        data: the members on validation.
        fit: of the method, with weights.
        resamples: R.
        seed: of the draws.

    Returns:
        (R, L, M).
    """
    assert fit.weights is not None and fit.shared is not None
    points = candidates(fit.weights, fit.shared, seed)
    counts = patient_counts(data.patient, resamples, seed)
    values = resampled_values(points, data, method.objective, counts)
    positives = np.stack([counts[row].sum(axis=0, dtype=np.int64) for row in (data.target == 1).T])  # (L, R)
    rows = [best_rows(Landscape(points, value, method.objective)) for value in values]
    own, shared = np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])  # (R, L, M), (R, M)
    if method.robust:
        enough = enough_patients(data)
        known = float(enough.mean())
        shared = _robust_choice(points, mean_over(values, enough), known)
        choices = [_robust_choice(points, values[:, :, k], float(enough[k])) for k in range(len(enough))]
        own = np.stack(choices, axis=1)
    return np.stack([method.shrunk(own[r], shared[r], positives[:, r]) for r in range(resamples)])


def _robust_choice(points: NDArray[np.float64], value: NDArray[np.float64], known: float) -> NDArray[np.float64]:
    """The best of points (P, M) by values (R, P) on each resample, moved towards equal weights; (R, M)."""
    members = points.shape[1]
    equal = np.full(members, 1 / members)
    gain = value - value[:, [int(((points - equal) ** 2).sum(axis=1).argmin())]]
    error = deviation(gain)
    result = np.repeat(equal[None], len(value), axis=0)
    for r in np.flatnonzero(~np.isnan(gain).any(axis=1)):
        best = best_place(points, value[r])
        result[r] += learnt_share(gain[r, best], error[best], members, known) * (points[best] - equal)
    return result


def candidates(weights: NDArray[np.float64], shared: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The points that resamples choose from, (P, M), in lexical order.

    Equal weights, each member alone, the weights (L, M) and (M,) of the fit, and random mixtures of the shared ones
    with a point anywhere on the simplex: many close to the fit, few far from it.
    """
    members = len(shared)
    anywhere = np.random.default_rng([seed, 0xC10D]).dirichlet(np.ones(members), POINTS)
    share = np.linspace(0, 1, POINTS + 1)[1:, None]
    mixtures = (1 - share) * shared + share * anywhere
    simple = np.concatenate([np.full((1, members), 1 / members), np.eye(members), shared[None], weights])
    return np.unique(np.concatenate([simple, mixtures]).round(12), axis=0)


def validation_macro(method: Method, data: Validation, fit: Fit) -> float:
    """Macro AUROC on validation, by the scores of left-out patients where the fit has them."""
    if fit.validation_scores is not None:
        return macro(auroc(data.target, fit.validation_scores))
    areas = []
    for k in range(len(data.findings)):
        combined = method.combine(data.read(k), fit, k)
        areas.append(auroc(data.target[:, [k]], combined[:, None])[0])
    return macro(areas)


def without_member(method: Method, data: Validation, fit: Fit, member: int) -> float:
    """Validation macro AUROC of the ensemble fitted without a member.

    Searched weights are the best of what the search has seen without the member and of its weights with the member's
    share given to the others, and made robust again if they were; anything else is fitted again.
    """
    if not isinstance(method, WeightedMean) or fit.landscape is None or fit.weights is None:
        fewer = data.without(member)
        kept = None if fit.weights is None else np.delete(fit.weights, member, axis=1)
        if kept is not None and (kept.sum(axis=1) > 0).all():
            return validation_macro(method, fewer, Fit(kept / kept.sum(axis=1, keepdims=True)))
        return validation_macro(method, fewer, method.fit(fewer))
    rest = np.unique(_given_away(fit.weights, member), axis=0)
    extra = evaluate(rest, data, method.objective)
    free = fit.landscape.weights[:, member] == 0
    seen = Landscape(
        np.concatenate([fit.landscape.weights[free], rest]),
        np.concatenate([fit.landscape.value[free], extra.value]),
        method.objective,
    )
    own, shared = best_rows(seen)
    if method.robust:
        equal = np.full(data.members, 1 / (data.members - 1))
        equal[member] = 0
        weights, _ = method.robust_weights(data, own, best_on(seen, enough_patients(data)), equal)
    else:
        weights = method.shrunk(own, shared, positives_of(data))
    areas = []
    for k in range(len(data.findings)):
        combined = weighted_mean(weights[k], data.read(k))
        areas.append(auroc(data.target[:, [k]], combined[:, None])[0])
    return macro(areas)


def _given_away(weights: NDArray[np.float64], member: int) -> NDArray[np.float64]:
    """Weights (L, M) with the member's share on the others in proportion; equal where it had all."""
    rest = weights.copy()
    rest[:, member] = 0
    equal = np.full(weights.shape[1], 1 / (weights.shape[1] - 1))
    equal[member] = 0
    rest[rest.sum(axis=1) <= 0] = equal
    shares: NDArray[np.float64] = rest / rest.sum(axis=1, keepdims=True)
    return shares


def _markdown(frame: pd.DataFrame) -> str:
    numbers = frame.select_dtypes("number").columns
    lines = [
        f"| {' | '.join(map(str, frame))} |",
        "|" + "".join(" ---: |" if c in numbers else " --- |" for c in frame),
    ]
    for row in frame.itertuples(index=False):
        cells = [f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|") for value in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    finite = {str(k): float(v) if isinstance(v, float) else v for k, v in row.items()}
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in finite.items()}


def _signed(value: Any) -> str:
    return "undefined" if np.isnan(value) else f"{value:+.4f}"
