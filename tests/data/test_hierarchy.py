"""Trees of findings: virtual parents, their labels, and labels that contradict a tree."""

from math import nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cxr.data.catalog import Catalog
from cxr.data.hierarchy import parent_columns, parents_of, violations, with_virtual_parents
from cxr.errors import CxrError
from cxr.metrics.tree import at_most_parents
from cxr.task.multi_label import MultiLabel

TREE = {"Opacity": {"Consolidation": {"Pneumonia": None}, "Mass": None}, "Chronic": {"Fibrosis": None}, "Hernia": None}
LABELS = {"Mass": [1, 0, nan, 0], "Pneumonia": [0, 0, 1, 1], "Consolidation": [0, nan, 0, 1], "Hernia": [0, 0, 0, 0]}


def catalog(*findings: str) -> Catalog:
    return Catalog(pd.DataFrame({name: LABELS[name] for name in findings}, dtype=float), findings, "a table")


def test_a_virtual_parent_is_present_with_any_child_and_absent_with_none() -> None:
    found = with_virtual_parents(catalog("Mass", "Pneumonia", "Consolidation", "Hernia"), TREE, [*LABELS, "Fibrosis"])
    assert found.findings == ("Mass", "Pneumonia", "Consolidation", "Hernia", "Opacity")
    np.testing.assert_array_equal(found.table["Opacity"], [1, nan, 1, 1])
    assert parent_columns(TREE, found.findings) == [4, 2, 4, -1, -1]


def test_findings_that_were_left_out_are_skipped_and_no_virtual_parents() -> None:
    found = with_virtual_parents(catalog("Pneumonia", "Mass"), TREE, list(LABELS))
    assert found.findings == ("Pneumonia", "Mass", "Opacity"), "neither Consolidation nor Chronic"
    assert parent_columns(TREE, found.findings) == [2, 2, -1]


def test_a_tree_lists_parents_before_their_children() -> None:
    assert list(parents_of(TREE).items()) == [
        ("Opacity", None), ("Consolidation", "Opacity"), ("Pneumonia", "Consolidation"), ("Mass", "Opacity"),
        ("Chronic", None), ("Fibrosis", "Chronic"), ("Hernia", None),
    ]  # fmt: skip


def test_labels_that_contradict_a_tree_are_counted_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    table = catalog(*LABELS)
    parents = parent_columns(TREE, table.findings)
    assert violations(table.table, table.findings, parents) == {("Pneumonia", "Consolidation"): 1}
    MultiLabel(TREE).check(table)
    said = "task.hierarchy: 1 of 2 images with Pneumonia are labelled without Consolidation\n"
    assert capsys.readouterr().out == said
    MultiLabel({"Mass": {"Hernia": None}}).check(table)
    assert capsys.readouterr().out == "task.hierarchy: no label contradicts it\n"


def test_nih_labels_contradict_pneumonia_below_consolidation(published: Catalog) -> None:
    counted = violations(published.table, ("Consolidation", "Pneumonia"), [-1, 0])
    both = (published.table["Consolidation"] == 1) & (published.table["Pneumonia"] == 1)
    cases = int((published.table["Pneumonia"] == 1).sum())
    assert counted == {("Pneumonia", "Consolidation"): cases - int(both.sum())} and cases > 1000


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"a": {"b": None}, "c": {"b": None}}, r"task\.hierarchy names b twice; a finding has one parent at most"),
        ({"a": {"b": 3}}, r"task\.hierarchy below b is 3; it must be nested names of findings"),
        (["a", "b"], r"task\.hierarchy is \['a', 'b'\]; it must be nested names"),
        ({"=a": None}, r"task\.hierarchy has the finding '=a'"),
    ],
)
def test_what_is_no_tree_is_refused(tree: Any, said: str) -> None:
    with pytest.raises(CxrError, match=said):
        parents_of(tree)


def test_a_virtual_parent_called_like_a_column_is_refused() -> None:
    with pytest.raises(CxrError, match=r"task\.hierarchy names age, which is a column of the catalog"):
        with_virtual_parents(catalog("Mass"), {"age": {"Mass": None}}, ["Mass"])


@st.composite
def forests(draw: st.DrawFn) -> list[int]:
    """Parents of up to eight findings in any order of the columns."""
    order = draw(st.permutations(range(draw(st.integers(1, 8)))))
    parents = [-1] * len(order)
    for place, column in enumerate(order):
        parents[column] = draw(st.sampled_from([-1, *order[:place]]))
    return parents


@settings(max_examples=150, deadline=None)
@given(forests(), st.data())
def test_no_score_is_above_its_parent_and_each_is_the_smallest_on_its_path(
    parents: list[int], data: st.DataObject
) -> None:
    shape = (3, len(parents))
    score = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
    before, found = score.copy(), at_most_parents(score, parents)
    np.testing.assert_array_equal(score, before)
    for column, parent in enumerate(parents):
        path = [column]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        np.testing.assert_array_equal(found[:, column], score[:, path].min(axis=1))
        assert parent < 0 or (found[:, column] <= found[:, parent]).all()
    np.testing.assert_array_equal(at_most_parents(found, parents), found)
