"""Ancestry of weights: kept over generations, found by patient and by image, and refused in evaluation."""

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.errors import CxrError
from cxr.run.ancestry import Ancestry, read_ancestry

GRAND = Ancestry().extended((["1", "2"], ["1_0.png", "2_0.png"]), (["3"], ["3_0.png"]))
PARENT = GRAND.extended((["4"], ["4_0.png"]), (["5"], ["5_0.png"]))


def refused(ancestry: Ancestry, patients: list[str], images: list[str], split: str = "test") -> str:
    try:
        ancestry.check("runs/a", split, patients, images)
    except CxrError as error:
        return str(error)
    return ""


def test_a_hash_is_eight_bytes_of_sha256() -> None:
    expected = {
        int.from_bytes(sha256(f"{kind}\t{name}".encode()).digest()[:8], "little", signed=True)
        for kind, name in (("patient", "3"), ("image", "3_0.png"))
    }
    assert set(GRAND.selected.tolist()) == expected and GRAND.selected.dtype == np.int64


@pytest.mark.parametrize("patient", ["1", "2", "3", "4", "5"])
def test_patients_of_every_generation_are_found(patient: str) -> None:
    said = refused(PARENT, ["9", patient, "8"], ["x.png", "y.png", "z.png"])
    assert said.startswith(
        "the weights of runs/a, or weights they started from, were trained or selected with 1 patient of the"
    )
    assert f"such as {patient};" in said


def test_images_are_found_under_another_patient() -> None:
    assert "1 image of the test split, such as 1_0.png" in refused(PARENT, ["9", "9"], ["1_0.png", "new.png"])


@pytest.mark.parametrize("patient", ["001", "01 ", " 1"])
def test_zeros_and_spaces_make_no_other_patient(patient: str) -> None:
    assert refused(PARENT, [patient], ["x.png"])
    assert refused(PARENT.extended((["Ab"], []), ([], [])), ["aB"], ["x.png"])


def test_others_are_let_through() -> None:
    assert refused(PARENT, ["6", "10", "0"], ["6_0.png", "10_0.png", "0.png"]) == ""


def test_validation_may_have_selected_ancestors_but_not_trained_them() -> None:
    for patient in ("3", "5"):
        assert refused(PARENT, [patient], [f"{patient}_0.png"], "val") == ""
        assert refused(PARENT, [patient], [f"{patient}_0.png"], "balanced_test")
    for patient in ("1", "2", "4"):
        assert "of the val split" in refused(PARENT, [patient], ["x.png"], "val")


@given(st.lists(st.text("abc019", min_size=1, max_size=3)), st.lists(st.text("abc019", min_size=1, max_size=3)))
def test_exactly_the_common_patients_are_refused(learnt: list[str], judged: list[str]) -> None:
    ancestry = Ancestry().extended((learnt, []), ([], []))
    common = {p.lstrip("0") for p in learnt} & {p.lstrip("0") for p in judged}
    assert bool(refused(ancestry, judged, [])) == bool(common)


def plain(ancestry: Ancestry) -> dict[str, Any]:
    return {"trained": ancestry.trained, "selected": ancestry.selected, "unknown": list(ancestry.unknown)}


def test_it_is_read_as_it_was_written() -> None:
    read = read_ancestry(plain(PARENT), "x")
    assert np.array_equal(read.trained, PARENT.trained) and np.array_equal(read.selected, PARENT.selected)
    assert read_ancestry(None, "x").unknown == ("a checkpoint of an earlier version",)


@pytest.mark.parametrize(
    "about",
    [
        5, {}, [], {"trained": [], "selected": []},
        plain(PARENT) | {"trained": np.zeros(3)}, plain(PARENT) | {"selected": np.zeros((2, 2), np.int64)},
        plain(PARENT) | {"unknown": "all"}, plain(PARENT) | {"unknown": [3]}, plain(PARENT) | {"unknown": ["a\nb"]},
        plain(PARENT) | {"more": 1},
    ],
)  # fmt: skip
def test_anything_else_is_refused(about: object) -> None:
    with pytest.raises(CxrError, match=r"^x "):
        read_ancestry(about, "x")
