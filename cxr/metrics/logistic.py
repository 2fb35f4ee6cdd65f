"""Logistic regression with a Gaussian prior, for calibration and stacking."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

_Floats = NDArray[np.float64]


def fit_logistic(
    design: _Floats, target: NDArray[Any], penalty: _Floats, prior: _Floats, start: _Floats | None = None
) -> _Floats:
    """Minimises the sum of log losses plus the sum of penalty_j (beta_j - prior_j)^2 / 2.

    Args:
        design: (N, D).
        target: (N,), 1 or 0.
        penalty: (D,), 0 for a free coefficient.
        prior: (D,).
        start: (D,), the prior if not given.

    Returns:
        (D,) coefficients; large but finite where the minimum is at infinity.
    """
    from scipy.optimize import minimize  # imported here, since a training that only evaluates does not need it

    truth = target.astype(np.float64)

    def loss(beta: _Floats) -> tuple[float, _Floats]:
        linear, distance = design @ beta, beta - prior
        value = np.logaddexp(0, linear).sum() - truth @ linear + 0.5 * (penalty * distance**2).sum()
        return float(value), design.T @ (expit(linear) - truth) + penalty * distance

    def hessian(beta: _Floats) -> _Floats:
        chance = expit(design @ beta)
        curvature: _Floats = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        return curvature

    first = prior if start is None else start
    found = minimize(loss, first, jac=True, hess=hessian, method="Newton-CG", options={"xtol": 1e-10})
    return np.asarray(found.x)
