"""Weighted means whose weights are found on validation, for all findings together or each alone.

Searched weights are the best of many on the same images. By default they are moved towards equal weights as far as
their gain may be chance, see `cxr.ensemble.robust`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.ensemble.method import Fit, Method
from cxr.ensemble.objective import Landscape, check_objective, weighted_mean
from cxr.ensemble.robust import best_on, enough_patients, towards_equal
from cxr.ensemble.search import SEARCHES, Explorer, best_of, explore, greedy
from cxr.ensemble.splits import Validation
from cxr.errors import CxrError

KINDS = ("shared", "per_finding")


class WeightedMean(Method):
    """A weighted mean; what is common to the searches for its weights.

    Args:
        weights: `shared` or `per_finding`.
        objective: see `cxr.ensemble.objective`.
        shrinkage: positives at which a finding's own weights and the shared ones count alike.
        robust: whether searched weights are moved towards equal ones.
        seed: of what the search and the resamples draw.
    """

    def __init__(self, weights: str, objective: str, shrinkage: float, robust: bool, seed: int) -> None:
        if weights not in KINDS:
            raise CxrError(f"method.weights={weights} is unknown; choose {' or '.join(KINDS)}")
        if not _number(shrinkage) or not 0 <= shrinkage < np.inf:
            raise CxrError(f"method.shrinkage={shrinkage} must be a number, 0 or more")
        if type(robust) is not bool:
            raise CxrError(f"method.robust={robust} must be true or false")
        self.per_finding, self.objective = weights == "per_finding", check_objective(objective)
        self.shrinkage, self.robust, self.seed = float(shrinkage), robust, whole("seed", seed, 0)
        name = type(self).label
        self.label, self.other_label = (f"{name} (robust)", name) if robust else (name, f"{name} (robust)")

    def aims(self, findings: int) -> list[int | None]:
        """What is searched for: the mean over the findings and, for weights per finding, each of them."""
        return [None, *(range(findings) if self.per_finding else [])]

    def shrunk(
        self, own: NDArray[np.float64], shared: NDArray[np.float64], positives: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(L, M): the shared weights, or for weights per finding n / (n + k) own + k / (n + k) shared.

        n is the finding's number of positive validation images and k is `shrinkage`: the estimate of a mean under a
        prior worth k observations.
        """
        if not self.per_finding:
            return np.repeat(shared[None], len(own), axis=0)
        total = positives + self.shrinkage
        share = np.divide(positives, total, out=np.zeros(len(own)), where=total > 0)
        return share[:, None] * own + (1 - share[:, None]) * shared

    def robust_weights(
        self, data: Validation, own: NDArray[np.float64], shared: NDArray[np.float64], equal: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Searched weights after the rule of `cxr.ensemble.robust`, (L, M), and how they came about."""
        each = own if self.per_finding else None
        shared, own, said = towards_equal(data, self.objective, shared, each, equal, self.seed)
        return self.shrunk(own, shared, positives_of(data)), said

    def _fit(
        self,
        data: Validation,
        own: NDArray[np.float64],
        shared: NDArray[np.float64],
        reliable: NDArray[np.float64],
        seen: Landscape,
    ) -> Fit:
        """The result from searched weights: own (L, M), shared (M,), and the shared ones that `robust` starts from."""
        positives = positives_of(data)
        few = [f"{name} {n}" for name, n in zip(data.findings, positives, strict=True) if n < self.shrinkage]
        warnings = []
        if self.per_finding and few:
            warnings.append(
                f"few positive validation images, weights drawn towards the shared ones: {', '.join(few)} "
                f"(method.shrinkage={self.shrinkage:g})"
            )
        record: dict[str, Any] = {"objective": self.objective}
        if self.per_finding:
            counts = {name: int(count) for name, count in zip(data.findings, positives, strict=True)}
            record |= {"shrinkage": self.shrinkage, "positives": counts}
        weights = self.shrunk(own, shared, positives)
        other, said = self.robust_weights(data, own, reliable, np.full(data.members, 1 / data.members))
        if self.robust:
            weights, other, record = other, weights, record | {"robust": said}
        return Fit(weights, seen, shared, (self.other_label, other), warnings=tuple(warnings), record=record)

    def _combine(self, scores: NDArray[np.float32], fit: Fit, finding: int) -> NDArray[np.float32]:
        assert fit.weights is not None
        return weighted_mean(fit.weights[finding], scores)


class Weighted(WeightedMean):
    """A weighted mean, whose weights are the best on validation, or by default robust ones near them.

    Args:
        weights: `shared` for one set, found for the mean over the findings, or `per_finding`.
        step: of the grid over the simplex of weights; 1 must be a multiple of it.
        search: `grid`, `greedy`, `coordinate` or `differential_evolution`, see `cxr.ensemble.search`.
        objective: `macro_auroc`, `average_precision` or `brier`.
        shrinkage: for `per_finding`: positives at which a finding's own weights and the shared ones count alike.
        max_work: points times images times findings up to which `grid` looks at every point.
        robust: moves the best weights towards equal ones as far as their gain may be chance; false takes the best.
        seed: of differential evolution and of the resamples.
    """

    label = "weighted"

    def __init__(
        self, weights: str = "shared", step: float = 0.05, search: str = "grid", objective: str = "macro_auroc",
        shrinkage: float = 50, max_work: float = 5e8, robust: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(weights, objective, shrinkage, robust, seed)
        if not _number(step) or not 0 < step <= 1 or abs(round(1 / step) - 1 / step) > 1e-9:
            raise CxrError(f"method.step={step} must be above 0 and divide 1, such as 0.05")
        if search not in SEARCHES:
            raise CxrError(f"method.search={search} is unknown; choose {', '.join(SEARCHES)}")
        if not _number(max_work) or max_work < 0:
            raise CxrError(f"method.max_work={max_work} must be a number, 0 or more")
        self.steps, self.search, self.max_work = round(1 / step), search, max_work

    def _learn(self, data: Validation) -> Fit:
        aims = self.aims(len(data.findings))
        seen = explore(data, self.search, self.objective, self.steps, aims, self.max_work, self.seed)
        own, shared = best_rows(seen)
        return self._fit(data, own, shared, best_on(seen, enough_patients(data)), seen)


class Greedy(WeightedMean):
    """Greedy forward selection of members with replacement, repeated on random subsets of the members (bagging).

    Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004. The weights are
    how often each member was picked, averaged over the subsets.

    Args:
        weights: `shared` or `per_finding`.
        picks: in all, the sorted start among them.
        bags: random subsets of members to select from; 0 selects once from all.
        bag_share: share of the members in a subset (two at least).
        objective: see `Weighted`.
        shrinkage: see `Weighted`.
        robust: see `Weighted`; false is the paper's selection.
        seed: of the subsets and of the resamples.
    """

    label = "greedy"

    def __init__(
        self, weights: str = "shared", picks: int = 40, bags: int = 20, bag_share: float = 0.5,
        objective: str = "macro_auroc", shrinkage: float = 50, robust: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(weights, objective, shrinkage, robust, seed)
        if not _number(bag_share) or not 0 < bag_share <= 1:
            raise CxrError(f"method.bag_share={bag_share} must be above 0 and at most 1")
        self.picks, self.bags, self.bag_share = whole("picks", picks, 1), whole("bags", bags, 0), bag_share

    def _learn(self, data: Validation) -> Fit:
        explorer = Explorer(data, self.objective)
        found = {aim: self._select(explorer, aim) for aim in self.aims(len(data.findings))}
        shared = found[None]
        defined = {k for k, value in enumerate(explorer.landscape().value.T) if not np.isnan(value).all()}
        own = [found.get(k, shared) if k in defined else shared for k in range(len(data.findings))]
        explorer.look(np.stack([shared, *own]))
        return self._fit(data, np.stack(own), shared, shared, explorer.landscape())

    def _select(self, explorer: Explorer, aim: int | None) -> NDArray[np.float64]:
        members = explorer.data.members
        size = min(members, max(2, round(self.bag_share * members)))
        rng = np.random.default_rng([self.seed, 0xBA6])
        subsets = [np.sort(rng.choice(members, size, replace=False)) for _ in range(self.bags)]
        chosen = [
            greedy(lambda points: explorer.look(points, aim), [int(m) for m in subset], members, self.picks)
            for subset in subsets or [np.arange(members)]
        ]
        mean: NDArray[np.float64] = np.mean(chosen, axis=0)
        return mean


def best_rows(seen: Landscape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best weights for each finding, (L, M), the shared ones where it is undefined; and the shared ones, (M,)."""
    shared = best_of(seen.weights, seen.macro)
    own = [shared if np.isnan(value).all() else best_of(seen.weights, value) for value in seen.value.T]
    return np.stack(own), shared


def positives_of(data: Validation) -> NDArray[np.int64]:
    """(L,) positive images of each finding."""
    counts: NDArray[np.int64] = (data.target == 1).sum(axis=0)
    return counts


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of the method's options.

    Raises:
        CxrError: it is none, or less than `least`.
    """
    if type(value) is not int or value < least:
        raise CxrError(f"method.{name}={value} must be a whole number, {least} or more")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
