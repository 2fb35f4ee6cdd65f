"""Vocabularies: the published spellings, the aliases of the box file, and what an unknown name is told."""

import csv
from pathlib import Path

import pytest

from cxr.errors import CxrError
from cxr.findings import NIH8, NIH14, NO_FINDING, canonical, check_known, unified


def test_fourteen_findings_without_no_finding() -> None:
    assert len(set(NIH14)) == len(NIH14) == 14
    assert set(NIH8) < set(NIH14) and len(set(NIH8)) == 8
    assert NO_FINDING not in NIH14


def test_vocabulary_is_that_of_the_published_table(shared: Path) -> None:
    with (shared / "nih_metadata" / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        names = {name for row in list(csv.reader(file))[1:] for name in row[1].split("|")}
    assert names == {*NIH14, NO_FINDING}


def test_boxed_findings_are_those_of_the_box_file(shared: Path) -> None:
    with (shared / "nih_mini" / "BBox_List_2017.csv").open(newline="") as file:
        names = {row[1] for row in list(csv.reader(file))[1:]}
    assert "Infiltrate" in names and {canonical(name) for name in names} == set(NIH8)


@pytest.mark.parametrize(
    ("spelt", "right"),
    [
        ("Infiltrate", "Infiltration"),
        ("Pleural Thickening", "Pleural_Thickening"),
        ("Mass", "Mass"),
        ("Unheard", "Unheard"),
    ],
)
def test_canonical_is_the_tables_spelling(spelt: str, right: str) -> None:
    assert canonical(spelt) == right


def test_unknown_name_is_reported_with_option_closest_and_all() -> None:
    with pytest.raises(CxrError) as caught:
        check_known(["Mass", "Effusoin"], NIH14, "data.exclude")
    message = str(caught.value)
    assert "data.exclude" in message and "'Effusoin'" in message and "did you mean Effusion" in message
    assert all(name in message for name in NIH14)


def test_name_like_nothing_gets_no_hint() -> None:
    with pytest.raises(CxrError) as caught:
        check_known(["xyzzy"], NIH14, "data.findings")
    assert "did you mean" not in str(caught.value) and "'xyzzy'" in str(caught.value)


def test_known_names_pass() -> None:
    check_known([], NIH14, "data.findings")
    check_known(NIH14, NIH14, "data.findings")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("pleural effusion", "Effusion"), ("PLEURAL_THICKENING", "Pleural_Thickening"), ("Infiltrate", "Infiltration"),
        ("pericardial effusion", "pericardial effusion"), ("Pseudonodule", "Pseudonodule"),
        ("Lung lesion", "Lung Lesion"), ("Pleural other", "Pleural Other"), ("Nodule / Mass", "Nodule or Mass"),
    ],
)  # fmt: skip
def test_names_are_unified_whole(written: str, name: str) -> None:
    assert unified(written) == name and all(unified(finding) == finding for finding in NIH14)
