"""The catalog: its schema is held, findings are chosen over the whole table, missing images are counted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.data.catalog import (
    Catalog,
    check,
    check_images_exist,
    choose_findings,
    parse_age,
    root_folder,
    single_finding,
    some,
)
from cxr.data.soft import soft_targets
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


def test_a_valid_catalog_is_returned_unchanged() -> None:
    right = catalog()
    assert check(right) is right and len(right) == 4


@pytest.mark.parametrize("column", ["image", "path", "patient", "followup", "age", "sex", "view", "Edema"])
def test_missing_column_is_named(column: str) -> None:
    right = catalog()
    with pytest.raises(CxrError, match=f"entries.csv lacks the column {column};"):
        check(replace(right, table=right.table.drop(columns=column)))


def test_empty_table_is_refused() -> None:
    right = catalog()
    with pytest.raises(CxrError, match=r"entries.csv has no images"):
        check(replace(right, table=right.table.iloc[:0]))


@pytest.mark.parametrize("column", ["image", "patient"])
@pytest.mark.parametrize("blank", ["", "  ", None, NAN])
def test_row_without_a_name_is_given_with_its_line(column: str, blank: object) -> None:
    values = ["a.png", blank, "c.png", "d.png"]
    with pytest.raises(CxrError, match=rf"1 row without {column} \(line 3\)"):
        check(catalog(**{column: values}))


def test_duplicate_images_are_named_with_their_count() -> None:
    with pytest.raises(CxrError, match=r"a.png more than once \(1 duplicate row\)"):
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


def test_all_findings_are_kept_by_default() -> None:
    assert choose_findings(catalog(), None, [], 0).findings == ("Mass", "Edema", "Hernia")
    assert choose_findings(catalog(), [], [], 0).findings == ("Mass", "Edema", "Hernia")


def test_findings_have_the_chosen_order() -> None:
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


def test_no_finding_left_is_reported_with_both_options() -> None:
    with pytest.raises(CxrError, match=r"data.exclude=\['Mass'\] and data.min_cases=3.*3 cases"):
        choose_findings(catalog(), None, ["Mass"], 3)


def test_finding_listed_twice_is_refused() -> None:
    with pytest.raises(CxrError, match="twice"):
        choose_findings(catalog(), ["Mass", "Mass"], [], 0)


@pytest.mark.parametrize("option", ["data.findings", "data.exclude"])
def test_unknown_finding_is_reported_with_its_option(option: str) -> None:
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


def test_root_that_is_unset_or_no_folder_is_reported(tmp_path: Path) -> None:
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
    right = catalog(image=["a.png", "b/", "c.png", "d.png"])
    with pytest.raises(CxrError, match=r"entries.csv has the image 'b/' \(line 12, column 'File'\)"):
        check(right, [10, 12, 14, 16], {"image": "File"})
    with pytest.raises(CxrError, match=r"labels b.png Mass=7.0; .* \(line 3, column 'Mass'\)"):
        check(catalog(Mass=[1.0, 7.0, 0.0, 0.0]))


def boxes(*rows: tuple[object, ...]) -> pd.DataFrame:
    columns = ["image", "finding", "x", "y", "width", "height", "image_width", "image_height"]
    return pd.DataFrame(list(rows), columns=columns)


GOOD = ("a.png", "Mass", 1.5, 2, 30, 40, 100, 200)
FULL = replace(
    catalog(**{"soft:Mass": [0.9, NAN, 0.25, 0.5], "soft:Edema": [NAN, NAN, 0.75, NAN]}),
    tests={"other": ("d.png", "a.png"), "old": ("c.png",)},
    boxes=boxes(GOOD, ("c.png", "Edema", 0, 0, 5, 5, 10, 10), ("d.png", "Hernia", 0, 0, 1, 1, 1, 1)),
)


def test_a_catalog_with_everything_optional_is_valid() -> None:
    assert check(FULL) is FULL


@pytest.mark.parametrize("on_missing", ["skip", "single"])
def test_rows_that_are_left_out_take_their_boxes_test_splits_and_soft_targets_along(on_missing: str) -> None:
    if on_missing == "skip":  # a.png and d.png stay
        some_absent = replace(FULL, table=FULL.table.assign(path=["/x", "", "", "/y"]))
        kept = check_images_exist(some_absent, "skip")
    else:  # one finding of two: a.png, b.png stay; c.png has an unknown one, d.png has two
        kept = single_finding(replace(FULL, table=FULL.table.assign(Hernia=0.0)))
    images = ["a.png", "d.png"] if on_missing == "skip" else ["a.png", "b.png"]
    assert kept.table["image"].tolist() == images and kept.table.index.tolist() == [0, 1]
    assert kept.tests == {"other": tuple(name for name in ("d.png", "a.png") if name in images), "old": ()}
    assert kept.boxes["image"].tolist() == [name for name in ("a.png", "d.png") if name in images]
    assert kept.table["soft:Mass"].tolist()[0] == 0.9 and check(replace(kept, tests={})) is not None


def test_findings_that_are_left_out_take_their_boxes_and_soft_targets_along() -> None:
    chosen = choose_findings(FULL, ["Hernia", "Mass"], [], 0)
    assert chosen.boxes["finding"].tolist() == ["Mass", "Hernia"] and chosen.boxes.index.tolist() == [0, 1]
    assert [name for name in chosen.table if name.startswith("soft:")] == ["soft:Mass"]
    assert check(chosen) is chosen and chosen.tests == FULL.tests


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("x.png", "Mass", *GOOD[2:]), r"boxes of entries.csv name the image 'x.png' \(row 2\), which its table lacks"),
        (("a.png", "Masses", *GOOD[2:]), r"boxes of entries.csv names an unknown finding 'Masses'; did you mean Mass"),
        ((5, *GOOD[1:]), r"name the image '5' \(row 2\)"),
        (("a.png", None, *GOOD[2:]), r"an unknown finding '(None|nan)'"),
        ((*GOOD[:2], NAN, *GOOD[3:]), r"have x=nan, .* for Mass of a.png \(row 2\)"),
        ((*GOOD[:4], 0, *GOOD[5:]), r"width=0"),
        ((*GOOD[:5], -4, *GOOD[6:]), r"height=-4"),
        ((*GOOD[:2], -5, *GOOD[3:6], 0, 200), r"image_width=0"),
        ((*GOOD[:7], np.inf), r"image_height=inf"),
        ((*GOOD[:2], "left", *GOOD[3:]), r"x=left"),
        ((*GOOD[:2], 100, *GOOD[3:]), r"x=100.*expected a box that overlaps its image"),
        ((*GOOD[:3], -40, *GOOD[4:]), r"y=-40"),
    ],
)
def test_a_box_that_does_not_fit_is_given_with_its_row(row: tuple[object, ...], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        check(replace(catalog(), boxes=boxes(GOOD, row)))


def test_boxes_may_reach_over_the_edge_and_need_all_columns() -> None:
    over = boxes(GOOD, ("a.png", "Mass", -20, 190, 30, 40, 100, 200))
    assert len(check(replace(catalog(), boxes=over)).boxes) == 2
    with pytest.raises(CxrError, match=r"the boxes of entries\.csv lack the column image_width, image_height"):
        check(replace(catalog(), boxes=boxes(GOOD).drop(columns=["image_width", "image_height"])))


KINDS: list[Any] = [pd.Series([0.5, None, 1, 0], dtype=kind) for kind in ("object", "float64", "Float64", "category")]


@pytest.mark.parametrize("values", [*KINDS, pd.Series(["0.5", pd.NA, 1, False], dtype=object)])
def test_soft_targets_are_the_same_numbers_in_whichever_kind_of_column(values: pd.Series) -> None:
    soft = check(catalog(**{"soft:Edema": values}))
    np.testing.assert_array_equal(soft_targets(soft.table, ("Mass", "Edema"))[:, 0], [NAN] * 4)
    np.testing.assert_array_equal(soft_targets(soft.table, ("Mass", "Edema"))[:, 1], [0.5, NAN, 1, 0])
    assert soft.labels_sha256 == catalog(**{"soft:Edema": [0.5, NAN, 1.0, 0.0]}).labels_sha256


@pytest.mark.parametrize("value", [-0.001, 1.001, np.inf, -np.inf, "high", ""])
def test_a_soft_target_outside_its_range_is_given_with_row_and_column(value: object) -> None:
    column = {"soft:Edema": pd.Series([0.0, 1.0, value, NAN], dtype=object)}
    said = rf"entries.csv gives c.png soft:Edema={value}; soft targets are numbers.*line 4, column 'soft:Edema'"
    with pytest.raises(CxrError, match=said):
        check(catalog(**column))


def test_a_soft_column_of_no_finding_is_reported_with_the_closest() -> None:
    with pytest.raises(CxrError, match=r"a column soft:<finding> of entries.csv .* 'mass'; did you mean Mass"):
        check(catalog(**{"soft:mass": 0.5}))


@pytest.mark.parametrize("name", ["soft:Mass", "split", "age"])
def test_no_finding_is_called_like_another_column(name: str) -> None:
    right = catalog(**{"soft:Mass": 1.0, "split": 1.0, "age": 1.0})
    with pytest.raises(CxrError, match=f"the finding '{name}', which is the name of another column"):
        check(replace(right, findings=(*right.findings, name)))


def test_a_split_that_is_unknown_is_empty_and_another_word_is_refused() -> None:
    right = check(catalog(split=["train", None, NAN, "test"]))
    assert right.table["split"].tolist() == ["train", "", "", "test"]
    said = (
        r"entries.csv puts c.png into the split 'valid'; it must be train, val, test or empty \(line 4, column 'split'"
    )
    with pytest.raises(CxrError, match=said):
        check(catalog(split=["train", "", "valid", "test"]))


def test_a_test_split_of_a_source_names_images_of_its_table() -> None:
    with pytest.raises(CxrError, match=r"the test split other of entries\.csv names images that its table lacks: x"):
        check(replace(catalog(), tests={"other": ("a.png", "x.png")}))


def test_labels_fingerprint_is_that_of_earlier_versions_where_nothing_is_new() -> None:
    assert catalog().labels_sha256 == "fd2be54732d595606ad79e1464de57d3e70896c5d349bbfaac8962da9c18c9da"


def test_labels_fingerprint_covers_soft_targets_and_test_splits_where_there_are_any() -> None:
    plain = catalog().labels_sha256
    assert changed(lambda t: t.assign(**{"soft:Mass": NAN, "soft:Edema": None})) == plain
    assert replace(catalog(), tests={}).labels_sha256 == plain
    further = [{"other": ("a.png",)}, {"other": ("a.png", "b.png")}, {"old": ("a.png",)}]
    different = [
        plain,
        changed(lambda t: t.assign(**{"soft:Mass": t["Mass"]})),  # as hard as the labels, and still given
        changed(lambda t: t.assign(**{"soft:Mass": [1.0, 0.0, 1.0, 0.9]})),
        changed(lambda t: t.assign(**{"soft:Hernia": t["Mass"]})),
        *(replace(catalog(), tests=tests).labels_sha256 for tests in further),
    ]
    assert len(set(different)) == len(different)
    turned = replace(FULL, table=FULL.table.iloc[::-1], tests=dict(reversed(FULL.tests.items())))
    assert turned.labels_sha256 == FULL.labels_sha256
