"""Values of a configuration against the annotations of a dataclass: what is taken, and what is said of the rest."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.configuration.kinds import Kind, checked, missing_keys
from cxr.errors import CxrError

Even = Annotated[int, Kind("an even number", lambda value: value % 2 == 0, maximum=100)]


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Even
    dir: str | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    flag: bool
    ratio: float
    count: Even | None
    word: Literal["one", "two", False]
    devices: Literal["auto"] | Even
    names: list[str]
    folder: Annotated[str, Kind("text", example="folder=DIR")]
    part: dict[str, Any]
    inner: Inner
    maybe: Inner | None
    late: bool = True


GOOD: dict[str, Any] = {
    "flag": True, "ratio": 0.5, "count": 2, "word": "one", "devices": "auto", "names": ["a"], "folder": "f",
    "part": {"_target_": "x"}, "inner": {"size": 0}, "maybe": None,
}  # fmt: skip


def test_missing_keys_get_their_defaults_at_every_depth_and_unknown_ones_stay() -> None:
    given = GOOD | {"own": [1], "maybe": {"size": 4, "more": 1}}
    filled = {"late": True, "inner": {"size": 0, "dir": None}, "maybe": {"size": 4, "more": 1, "dir": None}}
    assert checked(Options, given) == given | filled
    assert checked(Options, {"inner": {}}) == {"inner": {"dir": None}, "late": True}
    assert "late" not in given and given["inner"] == {"size": 0}  # what is given is not changed


def test_missing_keys_are_named_except_arguments_of_a_target() -> None:
    without = {key: value for key, value in GOOD.items() if key not in ("flag", "inner")}
    assert missing_keys(Options, checked(Options, without | {"inner": {}, "maybe": {"dir": "d"}})) == [
        "flag", "inner.size", "maybe.size"
    ]  # fmt: skip
    assert missing_keys(Options, checked(Options, GOOD | {"inner": {"_target_": "x"}})) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("flag", 1, "flag=1 must be true or false"),
        ("flag", None, "flag=null must be true or false"),
        ("flag", "true", "flag='true' must be true or false"),
        ("ratio", True, "ratio=true must be a finite number"),
        ("ratio", "0.5", "ratio='0.5' must be a finite number"),
        ("ratio", math.nan, "ratio=nan must be a finite number"),
        ("ratio", -math.inf, "ratio=-inf must be a finite number"),
        ("count", 3, "count=3 must be an even number"),
        ("count", 2.0, "count=2.0 must be an even number"),
        ("count", False, "count=false must be an even number"),
        ("count", 102, "count=102 must be at most 100"),
        ("count", 10**400, "count=1000000000"),
        ("word", "three", "word=three is unknown; choose one, two or false"),
        ("word", 0, "word=0 is unknown"),
        ("devices", "all", "devices=all must be auto or an even number"),
        ("names", "a", "names=a must be a list"),
        ("names", [1], "names=[1] must be a list"),
        ("folder", None, "folder is not set; pass folder=DIR"),
        ("folder", "???", "folder is not set; pass folder=DIR"),
        ("folder", 2017, "folder=2017 must be text; write 'folder=\"2017\"'"),
        ("part", ["x"], "part=[x] must be a group of options"),
        ("inner", 3, "inner=3 must be a group of options"),
        ("inner", {"size": 1}, "inner.size=1 must be an even number"),
        ("inner", {"size": ""}, "inner.size is empty; give it a value"),
        ("inner", {"size": 0, "dir": ""}, "inner.dir is empty; give it a value or null"),
        ("maybe", {"dir": 3}, "maybe.dir=3 must be text"),
    ],
)  # fmt: skip
def test_what_is_none_of_the_kind_is_named_with_its_value_and_what_is_expected(key: str, value: Any, said: str) -> None:
    with pytest.raises(CxrError) as caught:
        checked(Options, GOOD | {key: value})
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value) and len(str(caught.value)) < 130


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(GOOD)), value=ANYTHING)
def test_any_value_is_taken_as_it_is_or_refused(key: str, value: Any) -> None:
    try:
        found = checked(Options, GOOD | {key: value})[key]
    except CxrError as error:
        assert str(error).startswith(key)
    else:
        assert (
            {k: v for k, v in found.items() if k != "dir"} == value
            if key in ("inner", "maybe") and found
            else (found is value)
        )
