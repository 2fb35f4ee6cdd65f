"""How good files are spoilt for fuzzing: bytes, lines and cells are cut, doubled, exchanged and made odd."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = pytest.mark.parametrize("examples", [150, pytest.param(10_000, marks=pytest.mark.slow)])

ODD = [
    "", " ", "nan", "NaN", "None", "inf", "-inf", "1e400", "-1", "0", "1", "0.5", "1e-320", "9" * 400, "2", "True",
    "../../x", "/etc/passwd", "a\\b", "..", "=cmd|' /C calc'!A0", "+1", "-a", "@x", "<script>alert(1)</script>", "a|b",
    "a\nb", "a\rb", "a\tb", "a\x00b", "\x1b[2J", "\u2028", "\u202e", "\ufeff", "é", "𝟛", "٣", "\xa0", '"', '"a', "a,b",
    "Mass|Mass", "No Finding|Mass", "|", "Infiltrate", "${oc.env:HOME}", "!!python/name:os.system", "[", "{", "x" * 999,
]  # fmt: skip

odd = st.one_of(st.sampled_from(ODD), st.text(max_size=8))


Edits = bytes | list[tuple[str, int, int, bytes]]


def edits_of(length: int) -> st.SearchStrategy[Edits]:
    """One to five changes of a file of so many bytes, or other bytes in its place; `edited` makes them."""
    kinds = st.sampled_from(["put", "put", "insert", "remove", "double", "cut"])
    spans = st.sampled_from([0, 1, 2, 4, 8, 64, 1000])
    change = st.tuples(kinds, st.integers(0, length), spans, st.binary(min_size=1, max_size=8))
    changes = st.lists(change, min_size=1, max_size=5)
    return st.integers(0, 9).flatmap(lambda kind: changes if kind else st.binary(max_size=200))


def edited(good: bytes, edits: Edits) -> bytes:
    """The good bytes after the edits."""
    if isinstance(edits, bytes):
        return edits
    for kind, start, span, new in edits:
        start = min(start, len(good))
        end = min(len(good), start + span)
        good = {
            "put": good[:start] + new + good[start + len(new) :],
            "insert": good[:start] + new + good[start:],
            "remove": good[:start] + good[end:],
            "double": good[:end] + good[start:],
            "cut": good[:start],
        }[kind]
    return good


def bytes_of(good: bytes) -> st.SearchStrategy[bytes]:
    """A small file, spoilt; hypothesis keeps each example, and of a large file it should keep the edits alone."""
    return edits_of(len(good)).map(lambda edits: edited(good, edits))


@st.composite
def rows_of(draw: st.DrawFn, good: list[list[str]]) -> list[list[str]]:
    """Rows of cells after one to four changes."""
    rows = [list(row) for row in good]
    for _ in range(draw(st.integers(1, 4))):
        if not rows:
            break
        row = draw(st.integers(0, len(rows) - 1))
        kind = draw(st.sampled_from(["cell", "cell", "cell", "remove", "double", "longer", "shorter", "exchange"]))
        if kind == "cell" and rows[row]:
            rows[row][draw(st.integers(0, len(rows[row]) - 1))] = draw(odd)
        elif kind == "remove":
            del rows[row]
        elif kind == "double":
            rows.insert(row, list(rows[row]))
        elif kind == "longer":
            rows[row].append(draw(odd))
        elif kind == "shorter":
            rows[row] = rows[row][:-1]
        elif kind == "exchange" and rows[row]:
            other = draw(st.integers(0, len(rows) - 1))
            column = draw(st.integers(0, min(len(rows[row]), len(rows[other])) - 1)) if rows[other] else 0
            if rows[other]:
                rows[row][column], rows[other][column] = rows[other][column], rows[row][column]
    return rows


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def tree_of(draw: st.DrawFn, good: Any, replacement: st.SearchStrategy[Any] = json_values) -> Any:
    """A tree of dictionaries and lists with one to three of its nodes replaced, removed or doubled."""

    def change(node: Any) -> Any:
        if isinstance(node, dict | list) and node and draw(st.integers(0, 5)):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys))
            copy = dict(node) if isinstance(node, dict) else list(node)
            if draw(st.integers(0, 9)) == 0:
                del copy[key]
            elif isinstance(copy, list) and draw(st.integers(0, 5)) == 0:
                copy.append(copy[key])
            else:
                copy[key] = change(node[key])
            return copy
        return draw(replacement)

    for _ in range(draw(st.integers(1, 3))):
        good = change(good)
    return good


def fuzz(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
    """Runs `check` on that many examples; one that takes longer than ten seconds hangs."""
    limits = settings(max_examples=examples, deadline=10_000, suppress_health_check=list(HealthCheck))
    limits(given(strategy)(lambda example: check(example)))()
