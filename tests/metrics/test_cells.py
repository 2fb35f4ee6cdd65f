"""Names of what is undefined, and patients as numbers."""

import numpy as np
import pytest

from cxr.metrics.cells import patient_numbers, undefined


def test_undefined_findings_are_named_in_order() -> None:
    assert undefined([0.5, float("nan"), 0.0, float("nan")], ["A", "B", "C", "D"]) == ["B", "D"]


def test_names_must_be_as_many_as_values() -> None:
    with pytest.raises(ValueError):
        undefined([0.5], ["A", "B"])


@pytest.mark.parametrize("ids", [["b", "a", "b"], [70, 3, 70], np.array([2.5, 1.0, 2.5])])
def test_patients_of_any_kind_are_numbered_from_zero(ids) -> None:
    number, patients = patient_numbers(ids, 3)
    assert number.tolist() == [1, 0, 1] and patients == 2
