"""Trees of findings. A parent is a finding of the table, or virtual: present if one of its children is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cxr.data.catalog import COLUMNS, Catalog
from cxr.errors import CxrError
from cxr.findings import check_names

Parents = dict[str, str | None]  # the parent of each node, parents before their children; None for a root


def parents_of(tree: Any) -> Parents:
    """Reads a tree of nested mappings, with null or an empty mapping below a leaf.

    Raises:
        CxrError: it is not such a tree, or names a finding twice.
    """
    found: Parents = {}
    for name, parent in _edges(tree, None):
        if name in found:
            raise CxrError(f"task.hierarchy names {name} twice; a finding has one parent at most")
        found[name] = parent
    check_names(found, "finding", "task.hierarchy")
    return found


def with_virtual_parents(catalog: Catalog, tree: Any, known: Sequence[str]) -> Catalog:
    """Adds the nodes of a tree that the data set does not label, as findings after the others.

    The label is 1 if a finding below the node is present, 0 if all are absent, otherwise unknown. Nodes without a
    finding of the catalog below them are ignored.

    Args:
        catalog: after the choice of findings.
        tree: see `parents_of`.
        known: all findings of the data set, which are not virtual.

    Raises:
        CxrError: the tree is invalid, or a virtual parent has the name of a column.
    """
    parents, table = parents_of(tree), catalog.table.copy()
    virtual = []
    for name in parents:
        below = [finding for finding in catalog.findings if name in ancestors(finding, parents)]
        if name in known or not below:
            continue
        if name in (*COLUMNS, "split"):
            raise CxrError(f"task.hierarchy names {name}, which is a column of the catalog; rename this parent")
        labels = table[below].to_numpy(float)
        unknown = np.where(np.isnan(labels).any(axis=1), np.nan, 0.0)
        table[name] = np.where((labels == 1).any(axis=1), 1.0, unknown)
        virtual.append(name)
    return replace(catalog, table=table, findings=(*catalog.findings, *virtual))


def parent_columns(tree: Any, findings: Sequence[str]) -> list[int]:
    """(L,) the column of each finding's closest ancestor among the findings; -1 for a root."""
    parents = parents_of(tree)
    closest = [next((name for name in ancestors(finding, parents) if name in findings), None) for finding in findings]
    return [-1 if name is None else findings.index(name) for name in closest]


def violations(table: pd.DataFrame, findings: Sequence[str], parents: Sequence[int]) -> dict[tuple[str, str], int]:
    """The number of images that have a finding without its parent, by (finding, parent); zeros are omitted."""
    labels = table[list(findings)].to_numpy(float)
    counts = {
        (findings[child], findings[parent]): int(((labels[:, child] == 1) & (labels[:, parent] == 0)).sum())
        for child, parent in enumerate(parents)
        if parent >= 0
    }
    return {edge: count for edge, count in counts.items() if count}


def ancestors(name: str, parents: Mapping[str, str | None]) -> Iterator[str]:
    """Parent, grandparent and so on; empty for a finding that is not in the tree."""
    parent = parents.get(name)
    while parent is not None:
        yield parent
        parent = parents[parent]


def _edges(tree: Any, parent: str | None) -> Iterator[tuple[str, str | None]]:
    if not isinstance(tree, Mapping) or not all(isinstance(name, str) for name in tree):
        raise CxrError(
            f"task.hierarchy{f' below {parent}' if parent else ''} is {tree!r}; it must be nested names of findings, "
            "such as {Opacity: {Mass: null, Nodule: null}}"
        )
    for name, children in tree.items():
        yield name, parent
        yield from _edges(children or {}, name)
