"""Findings of a table: a column each with labels, or one column of joined names."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.catalog import some
from cxr.data.soft import SOFT
from cxr.data.sources import cells
from cxr.data.sources.roles import Roles
from cxr.data.sources.tabular import Sheet
from cxr.errors import CxrError, counted
from cxr.findings import canonical, plain

UNCERTAIN = ("ignore", "zeros", "ones", "mixed", "smooth")
# Irvin et al., "CheXpert", AAAI 2019, found ones or zeros better for these; `mixed` leaves other findings unknown.
_MIXED = {"edema": 1.0, "atelectasis": 1.0, "cardiomegaly": 0.0, "consolidation": 0.0, "effusion": 0.0,
          "pleuraleffusion": 0.0}  # fmt: skip
_SMOOTH = (0.55, 0.85)  # Pham et al., "Interpreting chest X-rays via CNNs that exploit hierarchical disease", 2021
BLANK = {"unknown": np.nan, "zeros": 0.0}
_NO_FINDING = ("no finding", "no findings", "normal", "healthy", "none", "0")
_MOST_FINDINGS = 200
_DEVICES = "supportdevices"  # may be present where No Finding is 1 (Irvin et al., "CheXpert", AAAI 2019)


def find_labels(sheet: Sheet, roles: Roles, uncertain: str, blank: str, notes: list[str]) -> pd.DataFrame:
    """The labels of a table: a float column per finding, and `soft:<finding>` where it has cells between 0 and 1.

    Args:
        sheet: the table.
        roles: of its columns.
        uncertain: one of `UNCERTAIN`.
        blank: one of `BLANK`.
        notes: lines of the report are added to it.

    Raises:
        CxrError: a cell is no label; or a finding is present where there is none.
    """
    if roles.labels is not None:
        return _joined(sheet, roles, blank, notes)
    return _columns(sheet, roles, uncertain, blank, notes)


def _columns(sheet: Sheet, roles: Roles, uncertain: str, blank: str, notes: list[str]) -> pd.DataFrame:
    """Labels and soft targets where each finding has a column.

    Where the column `no_finding` is 1, a blank cell is 0: no finding was seen; devices may be there.
    """
    origin, made = str(sheet.path), {}
    normal = _normal(sheet, roles)
    for name, heading in roles.findings.items():
        label, target = cells.labels(sheet.columns[heading], heading, origin, sheet.rows)
        is_blank = np.isnan(label) & np.isnan(target)
        if plain(name) != _DEVICES:
            _check_normal(sheet, roles, heading, normal & ((label == 1) | (target >= 0.5)))
            label[is_blank & normal] = 0
            is_blank &= ~normal
        unsure = label == cells.UNCERTAIN
        if uncertain == "smooth":
            target[unsure] = drawn_targets(name, sheet.text(roles.columns["image"])[unsure])
        label[unsure] = {"zeros": 0.0, "ones": 1.0, "mixed": _MIXED.get(plain(name), np.nan)}.get(uncertain, np.nan)
        label[is_blank] = BLANK[blank]
        made[name] = label
        soft = ~np.isnan(target)
        if soft.any():
            made[f"{SOFT}{name}"] = target
            number = counted(int(soft.sum()), "cell")
            notes.append(f"soft training targets, unknown in evaluation: {number} of {heading!r}")
    return pd.DataFrame(made)


def _normal(sheet: Sheet, roles: Roles) -> NDArray[np.bool_]:
    """The rows (N,) in which the column `no_finding` is 1."""
    if "no_finding" not in roles.columns:
        return np.zeros(len(sheet.rows), bool)
    heading = roles.columns["no_finding"]
    label: NDArray[np.bool_] = cells.labels(sheet.columns[heading], heading, str(sheet.path), sheet.rows)[0] == 1
    return label


def _check_normal(sheet: Sheet, roles: Roles, heading: str, both: NDArray[np.bool_]) -> None:
    """Raises CxrError for rows (N,) with a finding in which the column `no_finding` is 1."""
    if both.any():
        raise CxrError(
            f"{sheet.path} row {some([str(sheet.rows[k]) for k in np.flatnonzero(both)])}: "
            f"{roles.columns['no_finding']!r} is 1 and {heading!r} has a finding; correct the row, or write "
            "`no_finding: null` into data.roles=FILE"
        )


def drawn_targets(finding: str, images: pd.Series) -> NDArray[np.float32]:
    """A training target in [0.55, 0.85) for each image (N,), a function of its name and the finding alone."""
    keys = np.array([f"{finding}\t{image}" for image in images], object)
    low, high = _SMOOTH
    return (low + (high - low) * (pd.util.hash_array(keys, categorize=False) / 2.0**64)).astype(np.float32)


def _joined(sheet: Sheet, roles: Roles, blank: str, notes: list[str]) -> pd.DataFrame:
    """Labels from one column of joined names: 1 for each name of a row, 0 for the others."""
    contradictory = list[str]()

    def names_in(cell: str) -> tuple[str, ...] | None:
        if cell.casefold() in ("", "nan", "na", "n/a", "unknown"):
            return None if blank == "unknown" else ()
        whole = cell[1:-1] if cell.startswith("[") and cell.endswith("]") else cell
        parts = [" ".join(part.strip(" '\"").split()) for part in whole.split(roles.separator)]
        names = tuple(canonical(part) for part in parts if part and part.casefold() not in _NO_FINDING)
        if any(part.casefold() in _NO_FINDING for part in parts) and any(plain(name) != _DEVICES for name in names):
            contradictory.append(cell)
        return names

    codes, texts, read = cells.each(sheet.text(str(roles.labels)), names_in)
    if contradictory:
        at = np.flatnonzero(np.isin(codes, [texts.index(cell) for cell in contradictory]))
        raise CxrError(
            f"{sheet.path} row{'s' * (len(at) > 1)} {some([str(sheet.rows[k]) for k in at])}, column {roles.labels!r}: "
            f"{some([repr(cell) for cell in contradictory])} names a finding and none; correct the cell"
        )
    counts = pd.Series(np.bincount(codes, minlength=len(texts)))
    spelled = pd.DataFrame(
        [(name, count) for names, count in zip(read, counts, strict=True) for name in names or ()],
        columns=["name", "count"],
    )
    total = spelled.groupby("name")["count"].sum().sort_values(ascending=False, kind="stable")
    spelling: dict[str, str] = {}
    for name in total.index:  # the most frequent first
        first = spelling.setdefault(str(name).casefold(), str(name))
        if first != name:
            notes.append(f"{name!r} of the column {roles.labels!r} counts as {first!r}")
    findings = sorted(spelling.values())
    if not 0 < len(findings) <= _MOST_FINDINGS:
        raise CxrError(
            f"the column {roles.labels!r} has {counted(len(findings), 'different name')} of findings, such as "
            f"{some([repr(name) for name in total.index])}; it must hold 1 to {_MOST_FINDINGS}, joined by "
            f"{roles.separator!r} (`separator` in data.roles=FILE); is it free text?"
        )
    values = np.zeros((len(texts), len(findings)), np.float32)
    for row, names in enumerate(read):
        if names is None:
            values[row] = np.nan
        for name in names or ():
            values[row, findings.index(spelling[name.casefold()])] = 1
    labels, normal = values[codes], _normal(sheet, roles)
    others = np.array([plain(name) != _DEVICES for name in findings])
    _check_normal(sheet, roles, str(roles.labels), normal & (labels[:, others] == 1).any(axis=1))
    labels[np.outer(normal, others) & np.isnan(labels)] = 0
    return pd.DataFrame(labels, columns=findings)
