"""Report on overfitting: gap between validation and test, spread of the weights, and the value of each member."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.objective import Landscape, Resamples, evaluate, evaluate_resamples, weighted_mean
from cxr.ensemble.robust import best_shared, enough_patients, kept_share, mean_over
from cxr.ensemble.search import best_row, simple_points
from cxr.ensemble.splits import Validation
from cxr.ensemble.weighted import WeightedMean, positives_of, searched_weights
from cxr.figures.tables import Table
from cxr.metrics.auroc import auroc, macro
from cxr.metrics.interval import deviation

INTERVAL = (2.5, 97.5)  # percentiles
POINTS = 96  # random weight vectors among the candidates of a resample
_ALL = "all findings"
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """The tables of `overfitting.csv`.

    Attributes:
        gap: one row for each model or method: macro AUROC on `validation` and `test`, and `gap`, their difference.
        weights: one row for each finding and member: `weight`, and over the resamples `mean`, `sd`, `low`, `high`; None
            without weights.
        left_out: one row for each member: validation macro AUROC `without` it and its `value`, the loss; None if not
            computed.
        resamples: of validation patients.
    """

    gap: pd.DataFrame
    weights: pd.DataFrame | None
    left_out: pd.DataFrame | None
    resamples: int

    def table(self) -> pd.DataFrame:
        """All three in one, with the column `part`."""
        parts = {"gap": self.gap, "weight": self.weights, "left out": self.left_out}
        frames = [frame.assign(part=name) for name, frame in parts.items() if frame is not None]
        joined = pd.concat(frames, ignore_index=True)
        return joined[["part", *(column for column in joined if column != "part")]]

    def markdown(self) -> str:
        """The three as tables."""
        titles = {
            "Macro AUROC on validation and test": self.gap,
            f"Weights, and their spread over {self.resamples} resamples of validation patients": self.weights,
            "Validation macro AUROC without each member, and the loss": self.left_out,
        }
        made = (
            Table(title, list(map(str, frame)), frame.to_numpy(object).tolist())
            for title, frame in titles.items()
            if frame is not None
        )
        return "\n".join(table.as_markdown() for table in made)

    def record(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        frames = {"gap": self.gap, "weights": self.weights, "left_out": self.left_out}
        rows = {
            name: None if frame is None else frame.astype(object).where(frame.notna(), None).to_dict("records")
            for name, frame in frames.items()
        }
        return {**rows, "resamples": self.resamples if self.weights is not None else 0}

    def summary(self, label: str) -> list[str]:
        """Lines for the terminal about the method called `label`."""
        gaps = self.gap.set_index("model")["gap"]
        average = f" (average {_signed(gaps['average'])})" if label != "average" and "average" in gaps else ""
        lines = [f"validation - test macro AUROC: {label} {_signed(gaps[label])}{average}"]
        if self.weights is not None and (self.weights["finding"] == _ALL).all():
            rows = [
                f"{row.member} {row.weight:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in self.weights.itertuples()
            ]
            lines.append(f"weights, 95% of {self.resamples} resamples of patients: {', '.join(rows)}")
        elif self.weights is not None:
            widest = self.weights.groupby("finding", sort=False)["sd"].mean().sort_values(ascending=False)
            shown = ", ".join(f"{finding} (sd {sd:.2f})" for finding, sd in widest.head(3).items())
            lines.append(f"weights vary most over {self.resamples} resamples of patients for {shown}")
        if self.left_out is not None:
            lost = [f"{row['member']} {_signed(-row['value'])}" for row in self.left_out.to_dict("records")]
            lines.append(f"validation macro AUROC without a member: {', '.join(lost)}")
        return lines


def overfitting_report(
    method: Method,
    data: Validation,
    fit: Fit,
    names: Sequence[str],
    macros: Mapping[str, tuple[float, float]],
    resamples: int,
    leave_one_out: bool,
    seed: int,
) -> Report:
    """Examines a fitted method.

    Args:
        macros: validation and test macro AUROC by model or method.
        resamples: of validation patients; 0 skips the spread of the weights.
    """
    gap = pd.DataFrame([{"model": n, "validation": v, "test": t, "gap": v - t} for n, (v, t) in macros.items()])
    weights = _spread(method, data, fit, names, resamples, seed) if resamples else None
    left_out = None
    if leave_one_out:
        value = validation_macro(method, data, fit)
        without = [without_member(method, data, fit, member) for member in range(data.members)]
        rows = zip(names, without, strict=True)
        left_out = pd.DataFrame([{"member": name, "without": rest, "value": value - rest} for name, rest in rows])
    return Report(gap, weights, left_out, resamples)


def _spread(
    method: Method, data: Validation, fit: Fit, names: Sequence[str], resamples: int, seed: int
) -> pd.DataFrame | None:
    """The weights' mean, standard deviation and 95% interval over resamples; None for a method without weights."""
    if not isinstance(method, WeightedMean) or fit.weights is None or fit.landscape is None:
        return None
    findings = data.findings if method.per_finding else (_ALL,)
    drawn = refits(method, data, fit, resamples, seed)[:, : len(findings)]
    low, high = np.percentile(drawn, INTERVAL, axis=0)
    columns = {
        "weight": fit.weights[: len(findings)],
        "mean": drawn.mean(axis=0),
        "sd": drawn.std(axis=0, ddof=min(1, resamples - 1)),
        "low": low,
        "high": high,
    }
    index = pd.MultiIndex.from_product([findings, list(names)], names=["finding", "member"])
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index).reset_index()


def refits(method: WeightedMean, data: Validation, fit: Fit, resamples: int, seed: int) -> _Floats:
    """The weights that a small search chooses on resampled patients.

    The search takes the best of `candidates` by the exact objective on each resample. If the method is robust, so are
    these weights; their standard errors come from the same resamples.

    Args:
        resamples: R.

    Returns:
        (R, L, M).
    """
    assert fit.weights is not None and fit.shared is not None
    points = candidates(fit.weights, fit.shared, seed)
    drawn = Resamples.draw(data.patient, resamples, seed)
    values = evaluate_resamples(points, data, method.objective, drawn)
    if method.robust:
        used = enough_patients(data)
        shared = _robust_choice(points, mean_over(values, used), float(used.mean()))
        each = [_robust_choice(points, values[:, :, k], float(used[k])) for k in range(len(used))]
        own = np.stack(each, axis=1)
    else:
        searched = [searched_weights(Landscape(points, value, method.objective)) for value in values]
        own, shared = (np.stack(weights) for weights in zip(*searched, strict=True))  # (R, L, M), (R, M)
    positives = drawn.times[:, drawn.number] @ (data.target == 1)  # (R, L)
    return np.stack([method.shrunk(own[r], shared[r], positives[r]) for r in range(resamples)])


def _robust_choice(points: _Floats, value: _Floats, known: float) -> _Floats:
    """The best of points (P, M) by values (R, P) on each resample, moved towards equal weights; (R, M)."""
    members = points.shape[1]
    equal = np.full(members, 1 / members)
    gain = value - value[:, [int(((points - equal) ** 2).sum(axis=1).argmin())]]
    error = deviation(gain)
    chosen = np.repeat(equal[None], len(value), axis=0)
    for r in np.flatnonzero(~np.isnan(gain).any(axis=1)):
        best = best_row(points, value[r])
        chosen[r] += kept_share(gain[r, best], error[best], members, known) * (points[best] - equal)
    return chosen


def candidates(weights: _Floats, shared: _Floats, seed: int) -> _Floats:
    """The points that resamples choose from, (P, M), in lexical order.

    Equal weights, each member alone, the weights (L, M) and (M,) of the fit, and mixtures of the shared ones with a
    random point of the simplex: many close to the fit, few far from it.
    """
    anywhere = np.random.default_rng([seed, 0xC10D]).dirichlet(np.ones(len(shared)), POINTS)
    share = np.linspace(0, 1, POINTS + 1)[1:, None]
    mixtures = (1 - share) * shared + share * anywhere
    return np.unique(np.concatenate([simple_points(len(shared)), shared[None], weights, mixtures]).round(12), axis=0)


def validation_macro(method: Method, data: Validation, fit: Fit) -> float:
    """Macro AUROC on validation, of the scores of left-out patients where the fit has them."""
    if fit.validation_scores is not None:
        return macro(auroc(data.target, fit.validation_scores))
    return _macro(data, lambda scores, k: method.combine(scores, fit, k))


def without_member(method: Method, data: Validation, fit: Fit, member: int) -> float:
    """Validation macro AUROC of the ensemble fitted without a member.

    Searched weights are the best of the points that the search evaluated without the member and of its own weights with
    the member's share given to the others, and made robust again if they were. Other methods are fitted again.
    """
    if not isinstance(method, WeightedMean) or fit.landscape is None or fit.weights is None:
        fewer = data.without(member)
        kept = None if fit.weights is None else np.delete(fit.weights, member, axis=1)
        if kept is not None and (kept.sum(axis=1) > 0).all():
            return validation_macro(method, fewer, Fit(kept / kept.sum(axis=1, keepdims=True)))
        return validation_macro(method, fewer, method.fit(fewer))
    equal = np.full(data.members, 1 / (data.members - 1))
    equal[member] = 0
    rest = np.where(np.arange(data.members) == member, 0, fit.weights)
    rest[rest.sum(axis=1) <= 0] = equal
    extra = evaluate(np.unique(rest / rest.sum(axis=1, keepdims=True), axis=0), data, method.objective)
    free = fit.landscape.weights[:, member] == 0
    seen = Landscape(
        np.concatenate([fit.landscape.weights[free], extra.weights]),
        np.concatenate([fit.landscape.value[free], extra.value]),
        method.objective,
    )
    own, shared = searched_weights(seen)
    if method.robust:
        weights, _ = method.robust_weights(data, own, best_shared(seen, enough_patients(data)), equal)
    else:
        weights = method.shrunk(own, shared, positives_of(data))
    return _macro(data, lambda scores, k: weighted_mean(weights[k], scores))


def _macro(data: Validation, combine: Callable[[NDArray[np.float32], int], NDArray[np.float32]]) -> float:
    """Macro AUROC of a function of the scores (M, N) and the number of a finding."""
    scores = [combine(data.scores[k], k) for k in range(len(data.findings))]
    return macro(auroc(data.target, np.stack(scores, axis=1)))


def _signed(value: Any) -> str:
    return "undefined" if np.isnan(value) else f"{value:+.4f}"
