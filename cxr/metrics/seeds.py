"""Means and differences of configurations that were trained with one or several seeds, on the same images.

The mean over seeds varies with the patients and with the seeds. The variance of its resamples, with all seeds kept, is
the part of patients; s^2 / S of S seeds with standard deviation s is the part of seeds. The variation of single seeds
over patients, which differs from seed to seed, is in both and is subtracted once. Student's t has the degrees of
freedom of Welch (Biometrika 34, 1947) and Satterthwaite (Biometrics Bulletin 2, 1946): S - 1 for the seeds, infinitely
many for the patients. How often two equal configurations differ at a nominal 5% (1,500 simulations each, 60 patients,
S seeds per side), by the source of variation:

    S    seeds   patients   patients by seed   all three
    2    .053    .045       .037               .052
    3    .039    .062       .035               .051
    5    .047    .054       .047               .057

Without the subtraction, patients by seed give .009 to .017. Resampling the seeds gives .37, .22 and .16 where seeds
vary most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr, stdtrit

from cxr.metrics.interval import DEFAULT, DIFFERENCE, UNIT, Interval, Resampling, logit_scale

_Floats = NDArray[np.float64]
_NORMAL = 1e12  # degrees of freedom at which Student's t is the normal distribution


@dataclass(frozen=True)
class Seeds:
    """A metric of one configuration.

    Attributes:
        values: (S,), of each seed.
        resamples: (S, R), of each seed in the same resamples of patients; NaN where undefined.
    """

    values: _Floats
    resamples: _Floats

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.values.mean())

    @property
    def shared_variance(self) -> float:
        """The part of the variance of the mean that is both in its resamples and between seeds: patients by seed."""
        defined = self.resamples[:, ~np.isnan(self.resamples).any(axis=0)]
        if len(self.values) < 2 or defined.shape[1] < 2:
            return 0.0
        variance = (defined - defined.mean(axis=0)).var(axis=1, ddof=1).sum() / (len(self.values) - 1)
        return float(variance) / len(self.values)


def mean_over_seeds(one: Seeds, plan: Resampling = DEFAULT) -> Interval:
    """The mean with an interval for other patients and, with several seeds, for other seeds.

    Args:
        one: values in (0, 1).
    """
    return _estimate(one.mean, one.resamples.mean(axis=0), [one], plan, UNIT)[0]


def difference_over_seeds(first: Seeds, second: Seeds, plan: Resampling = DEFAULT) -> tuple[Interval, float]:
    """First mean minus second, and its two-sided p-value; the variation between seeds is unknown for a single seed.

    Args:
        first, second: of the same resamples.

    Returns:
        The interval, which excludes 0 exactly where p is below 1 - level, and p: 1 where no resample differs, NaN where
        all differ by the same amount or fewer than two are defined.
    """
    resamples = first.resamples.mean(axis=0) - second.resamples.mean(axis=0)
    return _estimate(first.mean - second.mean, resamples, [first, second], plan, DIFFERENCE)


def _estimate(
    value: float, resamples: _Floats, sides: list[Seeds], plan: Resampling, bounds: tuple[float, float]
) -> tuple[Interval, float]:
    """The interval, and the p-value that the true value is the middle of the range."""
    width = bounds[1] - bounds[0]
    centre, spread = (float(part) for part in logit_scale(np.asarray(value), resamples, bounds))
    defined = resamples[~np.isnan(resamples)]
    low = high = p = float("nan")
    if spread > 0:
        share = (value - bounds[0]) / width
        slope = 1 / (share * (1 - share) * width)  # of the logit scale
        several = [side for side in sides if len(side.values) > 1]
        seeds = [slope**2 * float(side.values.var(ddof=1)) / len(side.values) for side in several]
        patients = max(spread**2 - slope**2 * sum(side.shared_variance for side in several), 0.0)
        total = patients + sum(seeds)
        by_freedom = sum(part**2 / (len(side.values) - 1) for part, side in zip(seeds, several, strict=True))
        freedom = min(total**2 / by_freedom, _NORMAL) if by_freedom > 0 else _NORMAL
        reach = float(stdtrit(freedom, (1 + plan.level) / 2)) * total**0.5
        low, high = (bounds[0] + width * float(expit(centre + end)) for end in (-reach, reach))
        p = 2 * float(stdtr(freedom, -abs(centre) / total**0.5)) if total > 0 else float("nan")
    elif value == 0 and len(defined) and not defined.any():
        p = 1.0
    missing = np.asarray(len(resamples) - len(defined))
    return Interval(np.asarray(value), np.asarray(low), np.asarray(high), missing), p
