"""Weighted means with weights from a search on validation, shared by all findings or for each one.

Searched weights are the best of many on the same images. By default they are moved towards equal weights, see
`cxr.ensemble.robust`.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Count, From0, Positive, Share
from cxr.ensemble.method import Fit, Method
from cxr.ensemble.objective import OBJECTIVES, Landscape, weighted_mean
from cxr.ensemble.robust import best_shared, enough_patients, shrink_to_equal
from cxr.ensemble.search import SEARCHES, Explorer, best_row, explore, greedy
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError

KINDS = ("shared", "per_finding")
_Floats = NDArray[np.float64]


class WeightedMean(Method):
    """A weighted mean; the base of the methods that search for its weights.

    Args:
        weights: `shared` or `per_finding`.
        objective: see `cxr.ensemble.objective`.
        shrinkage: number of positives at which a finding's own weights and the shared ones count equally.
        robust: whether searched weights are moved towards equal ones.
        seed: of the search and the resamples.
    """

    def __init__(self, weights: str, objective: str, shrinkage: float, robust: bool, seed: int) -> None:
        if weights not in KINDS:
            raise CxrError(f"method.weights={weights} is unknown; choose {' or '.join(KINDS)}")
        if objective not in OBJECTIVES:
            raise CxrError(f"method.objective={objective} is unknown; choose {', '.join(OBJECTIVES)}")
        self.per_finding, self.objective = weights == "per_finding", objective
        self.shrinkage = float(checked_option("method.shrinkage", shrinkage, From0))
        self.robust = checked_option("method.robust", robust, bool)
        self.seed = checked_option("method.seed", seed, Count)
        name = type(self).label
        self.label, self.other_label = (f"{name} (robust)", name) if robust else (name, f"{name} (robust)")

    def aims(self, findings: int) -> list[int | None]:
        """What to search for: the mean over the findings and, for weights per finding, each of them."""
        return [None, *(range(findings) if self.per_finding else [])]

    def shrunk(self, own: _Floats, shared: _Floats, positives: NDArray[np.int64]) -> _Floats:
        """(L, M): the shared weights, or for weights per finding n / (n + k) own + k / (n + k) shared.

        n is the finding's number of positive validation images and k is `shrinkage`: the estimate of a mean under a
        prior worth k observations.
        """
        if not self.per_finding:
            return np.repeat(shared[None], len(own), axis=0)
        total = positives + self.shrinkage
        share = np.divide(positives, total, out=np.zeros(len(own)), where=total > 0)[:, None]
        return share * own + (1 - share) * shared

    def robust_weights(
        self, data: Validation, own: _Floats, shared: _Floats, equal: _Floats
    ) -> tuple[_Floats, dict[str, Any]]:
        """Searched weights after the rule of `cxr.ensemble.robust`, (L, M), and its record for `metrics.json`."""
        each = own if self.per_finding else None
        shared, own, record = shrink_to_equal(data, self.objective, shared, each, equal, self.seed)
        return self.shrunk(own, shared, positives_of(data)), record

    def _fit(self, data: Validation, own: _Floats, shared: _Floats, reliable: _Floats, seen: Landscape) -> Fit:
        """The result from searched weights: own (L, M), shared (M,), and the shared ones that `robust` starts from."""
        positives = positives_of(data)
        counts = {name: int(count) for name, count in zip(data.findings, positives, strict=True)}
        few = [f"{name} {count}" for name, count in counts.items() if count < self.shrinkage]
        warnings: tuple[str, ...] = ()
        record: dict[str, Any] = {"objective": self.objective}
        if self.per_finding:
            record |= {"shrinkage": self.shrinkage, "positives": counts}
        if self.per_finding and few:
            warnings = (
                f"few positive validation images, weights moved towards the shared ones: {', '.join(few)} "
                f"(method.shrinkage={self.shrinkage:g})",
            )
        weights = self.shrunk(own, shared, positives)
        other, rule = self.robust_weights(data, own, reliable, np.full(data.members, 1 / data.members))
        if self.robust:
            weights, other, record = other, weights, record | {"robust": rule}
        return Fit(weights, seen, shared, (self.other_label, other), warnings=warnings, record=record)

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        assert fit.weights is not None
        return weighted_mean(fit.weights[finding], scores)


class Weighted(WeightedMean):
    """A weighted mean with the best weights on validation, by default moved towards equal weights.

    Args:
        weights: `shared` for one set, found for the mean over the findings, or `per_finding`.
        step: of the grid over the simplex of weights; 1 must be a multiple of it.
        search: `grid`, `greedy`, `coordinate` or `differential_evolution`, see `cxr.ensemble.search`.
        objective: `macro_auroc`, `average_precision` or `brier`.
        shrinkage: for `per_finding`: positives at which a finding's own weights and the shared ones count equally.
        max_work: points times images times findings up to which `grid` evaluates every point.
        robust: moves the best weights towards equal ones, as far as their gain may be due to chance.
        seed: of differential evolution and of the resamples.
    """

    label = "weighted"

    def __init__(
        self, weights: str = "shared", step: float = 0.05, search: str = "grid", objective: str = "macro_auroc",
        shrinkage: float = 50, max_work: float = 5e8, robust: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(weights, objective, shrinkage, robust, seed)
        if type(step) not in (int, float) or not 0 < step <= 1 or abs(round(1 / step) - 1 / step) > 1e-9:
            raise CxrError(f"method.step={step} must be above 0 and divide 1, such as 0.05")
        if search not in SEARCHES:
            raise CxrError(f"method.search={search} is unknown; choose {', '.join(SEARCHES)}")
        self.steps, self.search = round(1 / step), search
        self.max_work = checked_option("method.max_work", max_work, From0)

    def _learn(self, data: Validation) -> Fit:
        aims = self.aims(len(data.findings))
        seen = explore(data, self.search, self.objective, self.steps, aims, self.max_work, self.seed)
        return self._fit(data, *searched_weights(seen), best_shared(seen, enough_patients(data)), seen)


class Greedy(WeightedMean):
    """Greedy forward selection of members with replacement, repeated on random subsets of the members (bagging).

    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004. The weights are
    how often each member was picked, averaged over the subsets.

    Args:
        weights: `shared` or `per_finding`.
        picks: in all, including the sorted start.
        bags: random subsets of members to select from; 0 selects once from all.
        bag_share: share of the members in a subset (at least two).
        objective, shrinkage, robust: see `Weighted`; the paper's selection is `robust=False`.
        seed: of the subsets and of the resamples.
    """

    label = "greedy"

    def __init__(
        self, weights: str = "shared", picks: int = 40, bags: int = 20, bag_share: float = 0.5,
        objective: str = "macro_auroc", shrinkage: float = 50, robust: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(weights, objective, shrinkage, robust, seed)
        self.picks = checked_option("method.picks", picks, Positive)
        self.bags = checked_option("method.bags", bags, Count)
        self.bag_share = checked_option("method.bag_share", bag_share, Share)

    def _learn(self, data: Validation) -> Fit:
        explorer = Explorer(data, self.objective)
        found = {aim: self._select(explorer, aim) for aim in self.aims(len(data.findings))}
        shared = found[None]
        undefined = np.all(np.isnan(explorer.landscape().value), axis=0).tolist()
        own = np.stack([shared if undefined[k] else found.get(k, shared) for k in range(len(data.findings))])
        explorer.values(np.concatenate([shared[None], own]))
        return self._fit(data, own, shared, shared, explorer.landscape())

    def _select(self, explorer: Explorer, aim: int | None) -> _Floats:
        members = explorer.data.members
        size = min(members, max(2, round(self.bag_share * members)))
        rng = np.random.default_rng([self.seed, 0xBA6])
        subsets = [np.sort(rng.choice(members, size, replace=False)) for _ in range(self.bags)] or [np.arange(members)]
        values = partial(explorer.values, aim=aim)
        chosen = [greedy(values, subset.tolist(), members, self.picks) for subset in subsets]
        return np.asarray(np.mean(chosen, axis=0))


def searched_weights(seen: Landscape) -> tuple[_Floats, _Floats]:
    """The best weights for each finding, (L, M), the shared ones where it is undefined; and the shared ones, (M,)."""
    shared = seen.weights[best_row(seen.weights, seen.macro)]
    own = [shared if np.isnan(value).all() else seen.weights[best_row(seen.weights, value)] for value in seen.value.T]
    return np.stack(own), shared


def positives_of(data: Validation) -> NDArray[np.int64]:
    """(L,) positive images of each finding."""
    counts: NDArray[np.int64] = (data.target == 1).sum(axis=0)
    return counts
