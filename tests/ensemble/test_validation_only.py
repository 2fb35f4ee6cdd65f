"""Methods learn from validation only: attempts to fit other data."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cxr.ensemble.combine import Average, Greedy, MaxVote, Method, Stacking, Weighted
from cxr.ensemble.method import Fit
from cxr.ensemble.splits import Split, Test, Validation
from cxr.errors import CxrError

RNG = np.random.default_rng(0)
SCORES = RNG.random((2, 60, 2)).astype(np.float32)
TARGET = RNG.integers(0, 2, (60, 2)).astype(np.float32)
METHODS = [Weighted(), Stacking(), Greedy(), Average(), MaxVote()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_no_method_learns_from_the_test_split(method: Method) -> None:
    test = cast(Any, Test.stacked(SCORES, TARGET))
    with pytest.raises(CxrError, match="cannot learn from the test split; ensembles learn from the validation split"):
        method.fit(test)


def test_a_test_split_cannot_be_renamed() -> None:
    test = Test.stacked(SCORES, TARGET)
    with pytest.raises(TypeError):
        dataclasses.replace(test, name="val")  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        test.name = "val"  # type: ignore[misc]
    with pytest.raises(CxrError, match="test split"):
        Weighted().fit(cast(Any, dataclasses.replace(test)))
    with pytest.raises(CxrError, match="test split"):
        Weighted().fit(cast(Any, test.without(0)))


def test_lookalikes_are_refused() -> None:
    class Renamed(Test):
        name = "val"

    class Wider(Validation):
        pass

    validation = Validation.stacked(SCORES, TARGET)
    fields = {field.name: getattr(validation, field.name) for field in dataclasses.fields(validation)}
    others = [
        Renamed.stacked(SCORES, TARGET), Wider.stacked(SCORES, TARGET), Split.stacked(SCORES, TARGET),
        SimpleNamespace(**fields, name="val"), SCORES, None, "val",
    ]  # fmt: skip
    for other in others:
        with pytest.raises(CxrError, match="cannot learn from"):
            Weighted().fit(cast(Any, other))


def test_a_method_cannot_define_its_own_fit() -> None:
    with pytest.raises(TypeError, match="defines fit"):

        class Careless(Average):
            def fit(self, data: Any) -> Fit:  # type: ignore[misc]
                return Fit()


def test_without_a_member_validation_stays_validation() -> None:
    validation = Validation.stacked(SCORES, TARGET)
    fewer = validation.without(0)
    assert type(fewer) is Validation and fewer.members == 1
    np.testing.assert_array_equal(fewer.scores[1], SCORES[1:, :, 1])
    assert Weighted().fit(fewer).weights is not None


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        Validation.stacked(SCORES, TARGET[:5])
