"""The catalog: its schema is held, findings are chosen over the whole table, missing images are counted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.data.catalog import Catalog, check, check_images_exist, choose_findings, parse_age, root_folder, some
from cxr.errors import CxrError

NAN = float("nan")


def catalog(**columns: object) -> Catalog:
    usual = {
        "image": ["a.png", "b.png", "c.png", "d.png"],
        "path": ["/x/a.png", "/x/b.png", "/x/c.png", "/x/d.png"],
        "patient": ["1", "1", "2", "3"],
        "followup": [0, 1, 0, 0],
        "age": [50.0, 51.0, NAN, 18.0],
        "sex": ["F", "F", "M", ""],
        "view": ["PA", "AP", "PA", ""],
        "Mass": [1.0, 0.0, 1.0, 1.0],
        "Edema": [0.0, 1.0, NAN, 1.0],
        "Hernia": [0.0, 0.0, 0.0, 1.0],
    }
    return Catalog(pd.DataFrame(usual | columns), ("Mass", "Edema", "Hernia"), "entries.csv")


def test_catalog_that_holds_is_returned_as_it_is() -> None:
    right = catalog()
    assert check(right) is right and len(right) == 4


@pytest.mark.parametrize("column", ["image", "path", "patient", "followup", "age", "sex", "view", "Edema"])
def test_missing_column_is_named(column: str) -> None:
    right = catalog()
    with pytest.raises(CxrError, match=f"entries.csv lacks the column {column};"):
        check(replace(right, table=right.table.drop(columns=column)))


def test_empty_table_is_refused() -> None:
    right = catalog()
    with pytest.raises(CxrError, match=r"entries.csv holds no image"):
        check(replace(right, table=right.table.iloc[:0]))


@pytest.mark.parametrize("column", ["image", "patient"])
@pytest.mark.parametrize("blank", ["", "  ", None, NAN])
def test_row_without_a_name_is_given_with_its_line(column: str, blank: object) -> None:
    values = ["a.png", blank, "c.png", "d.png"]
    with pytest.raises(CxrError, match=rf"1 rows without {column} \(line 3\)"):
        check(catalog(**{column: values}))


def test_duplicate_images_are_named_with_their_count() -> None:
    with pytest.raises(CxrError, match=r"a.png more than once \(1 duplicate rows\)"):
        check(catalog(image=["a.png", "b.png", "a.png", "d.png"]))


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, np.inf])
def test_label_that_is_none_is_given_with_image_and_value(value: float) -> None:
    with pytest.raises(CxrError, match=re.escape(f"entries.csv labels c.png Edema={value};")):
        check(catalog(Edema=[0.0, NAN, value, 1.0]))


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("57", 57), ("060Y", 60), ("018M", 1.5), ("002W", 14 / 365.25), ("005D", 5 / 365.25), ("012y", 12),
        ("100", 100), ("101", NAN), ("414", NAN), ("414Y", NAN), ("", NAN), ("-3", NAN), ("Y", NAN), ("old", NAN),
        ("  44 ", 44), ("57.0", 57), ("0", 0), ("1440M", NAN),
    ],
)  # fmt: skip
def test_age_is_read_in_years_and_unknown_over_a_hundred(text: str, years: float) -> None:
    np.testing.assert_allclose(parse_age(pd.Series([text])), [years], rtol=1e-12)


def test_age_is_read_from_numbers() -> None:
    np.testing.assert_array_equal(parse_age(pd.Series([58, 414, 0])), [58, NAN, 0])
    np.testing.assert_array_equal(parse_age(pd.Series([58.0, NAN])), [58, NAN])


def test_all_findings_are_kept_unless_asked() -> None:
    assert choose_findings(catalog(), None, [], 0).findings == ("Mass", "Edema", "Hernia")
    assert choose_findings(catalog(), [], [], 0).findings == ("Mass", "Edema", "Hernia")


def test_findings_stand_in_the_order_asked_for() -> None:
    chosen = choose_findings(catalog(), ["Hernia", "Mass"], [], 0)
    assert chosen.findings == ("Hernia", "Mass") and "Edema" not in chosen.table
    assert chosen.table["Hernia"].tolist() == [0, 0, 0, 1]


def test_excluded_findings_leave_the_table() -> None:
    chosen = choose_findings(catalog(), None, ["Hernia"], 0)
    assert chosen.findings == ("Mass", "Edema") and "Hernia" not in chosen.table and len(chosen) == 4


@pytest.mark.parametrize(("cases", "kept"), [(1, ("Mass", "Edema", "Hernia")), (2, ("Mass", "Edema")), (3, ("Mass",))])
def test_findings_with_exactly_min_cases_stay(cases: int, kept: tuple[str, ...]) -> None:
    assert choose_findings(catalog(), None, [], cases).findings == kept


def test_min_cases_counts_images_of_every_split() -> None:
    split = catalog(split=["train", "val", "test", "test"])
    assert choose_findings(split, None, [], 3).findings == ("Mass",)


def test_no_finding_left_is_told_with_both_options() -> None:
    with pytest.raises(CxrError, match=r"data.exclude=\['Mass'\] and data.min_cases=3.*3 cases"):
        choose_findings(catalog(), None, ["Mass"], 3)


def test_finding_listed_twice_is_refused() -> None:
    with pytest.raises(CxrError, match="twice"):
        choose_findings(catalog(), ["Mass", "Mass"], [], 0)


@pytest.mark.parametrize("option", ["data.findings", "data.exclude"])
def test_unknown_finding_is_told_which_option(option: str) -> None:
    named = {"data.findings": [], "data.exclude": []} | {option: ["Hermia"]}
    with pytest.raises(CxrError, match=f"{option} names an unknown finding 'Hermia'; did you mean Hernia"):
        choose_findings(catalog(), named["data.findings"], named["data.exclude"], 0)


def test_excluding_a_finding_that_was_not_chosen_is_harmless() -> None:
    assert choose_findings(catalog(), ["Mass"], ["Hernia"], 0).findings == ("Mass",)


def test_missing_images_fail_with_count_and_names() -> None:
    with pytest.raises(CxrError, match=r"2 of 4 images of entries.csv.*a.png, c.png"):
        check_images_exist(catalog(path=["", "/x", "", "/y"]), "fail")


def test_missing_images_that_are_left_out_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    kept = check_images_exist(catalog(path=["", "/x", "", "/y"]), "skip")
    assert kept.absent == ("a.png", "c.png")
    assert (
        "2 of 4 images of entries.csv are not on disk and are left out: a.png, c.png (report.csv"
        in capsys.readouterr().out
    )


def test_missing_images_are_left_out_on_request() -> None:
    rest = check_images_exist(catalog(path=["", "/x", "", "/y"]), "skip")
    assert rest.table["image"].tolist() == ["b.png", "d.png"] and rest.table.index.tolist() == [0, 1]
    assert rest.table["Hernia"].tolist() == [0, 1]


@pytest.mark.parametrize("on_missing", ["fail", "skip"])
def test_no_image_on_disk_is_never_skipped(on_missing: str) -> None:
    with pytest.raises(CxrError, match="none of the 4 images"):
        check_images_exist(catalog(path=[""] * 4), on_missing)


def test_targets_of_a_split_are_float32_in_the_tables_order() -> None:
    split = catalog(split=["test", "train", "test", ""])
    np.testing.assert_array_equal(split.targets("test"), [[1, 0, 0], [1, NAN, 0]])
    assert split.targets("train").dtype == np.float32
    assert split.rows("test")["image"].tolist() == ["a.png", "c.png"]


def changed(make: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
    right = catalog()
    return replace(right, table=make(right.table.copy())).labels_sha256


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.sample(frac=1, random_state=3),
        lambda t: t.assign(split="train"),
        lambda t: t.assign(age=1.0, view="AP", path="/elsewhere"),
        lambda t: t[t.columns[::-1]],
        lambda t: t.assign(Mass=t["Mass"].astype("float32")),
    ],
)
def test_labels_fingerprint_is_that_of_the_labels_alone(make: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert changed(make) == catalog().labels_sha256


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.assign(Mass=[1.0, 0.0, 1.0, 0.0]),
        lambda t: t.assign(Edema=[0.0, 1.0, 0.0, 1.0]),  # unknown is not absent
        lambda t: t.assign(Edema=[0.0, 1.0, 1.0, 1.0]),  # nor present
        lambda t: t.assign(patient=["1", "2", "2", "3"]),
        lambda t: t.assign(image=["a.png", "b.png", "c.png", "e.png"]),
        lambda t: t.iloc[:3],
        lambda t: t.assign(Mass=t["Hernia"], Hernia=t["Mass"]),
    ],
)
def test_labels_fingerprint_changes_with_any_label(make: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert changed(make) != catalog().labels_sha256


def test_labels_fingerprint_changes_with_the_findings() -> None:
    right = catalog(Hernia=[1.0, 0.0, 1.0, 1.0])  # the same labels as Mass
    prints = {replace(right, findings=f).labels_sha256 for f in [("Mass",), ("Hernia",), ("Mass", "Hernia")]}
    assert len(prints) == 3
    assert replace(right, findings=("Hernia", "Mass")).labels_sha256 not in prints


def test_root_that_is_unset_or_no_folder_is_told(tmp_path: Path) -> None:
    for root in (None, ""):
        with pytest.raises(CxrError, match=r"data.root is not set.*layout X"):
            root_folder(root, "layout X")
    with pytest.raises(CxrError, match=re.escape(f"data.root={tmp_path / 'absent'} is not a folder")):
        root_folder(str(tmp_path / "absent"), "layout X")
    (tmp_path / "file").write_text("")
    with pytest.raises(CxrError, match="is not a folder"):
        root_folder(str(tmp_path / "file"), "layout X")


def test_root_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "nih").mkdir()
    assert root_folder("~/nih", "layout X") == tmp_path / "nih"


def test_many_names_are_shortened() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(pd.Series(["a", "b", "c", "d", "e"])) == "a, b, c and 2 more"


def test_lines_and_headings_of_the_file_are_used_where_they_are_given() -> None:
    right = catalog(image=["a.png", "b/.png", "c.png", "d.png"])
    with pytest.raises(CxrError, match=r"entries.csv has the image 'b/.png' \(line 12, column 'File'\)"):
        check(right, [10, 12, 14, 16], {"image": "File"})
    with pytest.raises(CxrError, match=r"labels b.png Mass=7.0; .* \(line 3, column 'Mass'\)"):
        check(catalog(Mass=[1.0, 7.0, 0.0, 0.0]))
