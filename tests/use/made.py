"""A model whose scores are known: the mean and the largest gray value of an image, and a shifted copy of both."""

import numpy as np

from cxr.imaging.preprocessing import Preprocessing
from cxr.metrics.scaling import Scaling
from cxr.use.scoring import Floats, Model
from cxr.use.system import Member, Rule, System

FINDINGS = ("Mass", "Effusion")


def forward(image: np.ndarray, attributes: Floats) -> tuple[Floats, Floats | None]:
    values = image.astype(np.float32) / 255
    maps = values.reshape(len(image), 1, 4, -1).mean(axis=3).reshape(len(image), 1, 2, 2)
    return np.stack([values.mean(axis=(1, 2, 3)), values.max(axis=(1, 2, 3))], axis=1), maps


def second(image: np.ndarray, attributes: Floats) -> tuple[Floats, Floats | None]:
    return forward(image, attributes)[0] / 2 + np.nan_to_num(attributes[:, :1]), None


def model(**changes: object) -> Model:
    """Two members of 8 and 4 px; `changes` are of the system."""
    about = {
        "name": "made", "model": "0" * 64, "findings": FINDINGS, "parents": (-1, -1),
        "members": (Member("a", Preprocessing(8, 16), maps="heads"), Member("b", Preprocessing(4, 8), attributes=True)),
        "rule": Rule("mean", ((0.25, 0.75), (1.0, 0.0))),
        "scaling": Scaling("platt", FINDINGS, (1.0, 2.0), (0.0, 1.0), ("Mass",)),
        "points": {"half": (0.5, None), "youden": (0.25, 0.5)},
    }  # fmt: skip
    return Model(System(**{**about, **changes}), (forward, second))  # type: ignore[arg-type]
