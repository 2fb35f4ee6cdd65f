"""The scores of an ensemble's members on one split; validation and test are different types."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import CxrError


@dataclass(frozen=True)
class Split:
    """The members' scores of one split, with rows in the same order.

    The split is part of the type and not a field, so that test scores cannot be relabelled as validation.

    Attributes:
        patient: (N,) ids.
        findings: L names.
        target: (N, L) float32; 1, 0, or NaN for unknown.
        scores: (L, M, N) float32, probabilities of M members.
        image: (N,) file names.
        attributes: N rows of further columns of the images, see `Predictions`.
    """

    name: ClassVar[str] = ""
    patient: NDArray[np.object_]
    findings: tuple[str, ...]
    target: NDArray[np.float32]
    scores: NDArray[np.float32]
    image: NDArray[np.object_]
    attributes: pd.DataFrame | None = None

    @property
    def members(self) -> int:
        """M."""
        return self.scores.shape[1]

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def stacked(
        cls, scores: NDArray[np.float32], target: NDArray[np.float32], patient: Sequence[str] | None = None
    ) -> Self:
        """A split from arrays in memory: scores (M, N, L), target (N, L); without `patient`, each image has its own."""
        if scores.ndim != 3 or scores.shape[1:] != target.shape:
            raise ValueError(f"scores {scores.shape} and target {target.shape} must be (M, N, L) and (N, L)")
        names = np.array([f"image{i}" for i in range(len(target))], object)
        patients = names if patient is None else np.array(patient, object)
        findings = tuple(f"finding{k}" for k in range(target.shape[1]))
        return cls(patients, findings, target, scores.transpose(2, 0, 1), names)

    def without(self, member: int) -> Self:
        """The same split without a member."""
        return replace(self, scores=np.delete(self.scores, member, axis=1))


@dataclass(frozen=True)
class Validation(Split):
    """The split that ensembles may learn from."""

    name: ClassVar[str] = "val"


@dataclass(frozen=True)
class Test(Split):
    """The split that ensembles are evaluated on."""

    name: ClassVar[str] = "test"
    __test__: ClassVar[bool] = False  # pytest collects classes of this name


def only_validation(data: Split, learner: str) -> Validation:
    """`data` if it is validation itself.

    Raises:
        CxrError: it is anything else, such as the test split, arrays or a subclass.
    """
    if type(data) is not Validation:
        what = f"the {data.name} split" if isinstance(data, Split) else f"a {type(data).__name__}"
        raise CxrError(f"{learner} cannot learn from {what}; ensembles learn from the validation split only")
    return data
