"""Splits: lists are held to the table, patients stay whole, the draw is balanced and seeded, leaks are refused."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_nih
from cxr.data.split import check_split, read_list, split_catalog, split_fingerprint
from cxr.errors import CxrError
from cxr.metrics.stratification import assign_patients, draw_patients

FINDINGS = ("Mass", "Edema", "Hernia", "Nodule", "Fibrosis")
Folder = Callable[..., Path]


def population(patients: int, seed: int) -> pd.DataFrame:
    """Images of patients with one to twenty films each, whose findings run in the patient; the last one is rare."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        risk = rng.random(5) < [0.4, 0.2, 0.1, 0.04, 0.02]
        for film in range(min(int(rng.geometric(0.3)), 20)):
            labels = (rng.random(5) < 0.5) & risk
            rows.append([f"{patient:05d}_{film}.png", f"{patient:05d}", *labels.astype(float)])
    return pd.DataFrame(rows, columns=["image", "patient", *FINDINGS])


def catalog(images: Mapping[str, str]) -> Catalog:
    """Image to patient; every image has a mass."""
    table = pd.DataFrame({"image": list(images), "patient": list(images.values()), "Mass": 1.0})
    return Catalog(table, ("Mass",), "entries.csv")


TEN = {f"{patient}{film}.png": f"P{patient}" for patient in "abcde" for film in range(2)}


def split(root: Path, lists: Mapping[str, Sequence[str]], of: Catalog | None = None, **options: Any) -> Catalog:
    """Writes the lists `train`, `test` and perhaps `val` below `root` and splits by them."""
    for name, images in lists.items():
        (root / f"{name}.txt").write_text("\n".join(images))
    names = {f"{name}_list": f"{name}.txt" if name in lists else None for name in ("train", "val", "test")}
    arguments = names | {"val_share": 0.4, "seed": 0} | options
    return split_catalog(catalog(TEN) if of is None else of, root, **arguments)


def sides(result: Catalog) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for image, side in zip(result.table["image"], result.table["split"], strict=True):
        found[side].add(image)
    return dict(found)


THREE = {"train": ["a0.png", "a1.png", "b0.png"], "val": ["c0.png"], "test": ["d0.png", "d1.png"]}


def test_images_go_where_the_lists_say_and_nowhere_else(tmp_path: Path) -> None:
    result = sides(split(tmp_path, THREE))
    assert result.pop("") == {"b1.png", "c1.png", "e0.png", "e1.png"}
    assert result == {name: set(images) for name, images in THREE.items()}


def test_validation_is_drawn_from_the_training_list_by_patient(tmp_path: Path) -> None:
    listed = [image for image in TEN if image[0] in "abcd"]
    result = sides(split(tmp_path, {"train": listed, "test": ["e0.png", "e1.png"]}, val_share=0.25))
    assert result["test"] == {"e0.png", "e1.png"} and result["train"] | result["val"] == set(listed)
    assert len({image[0] for image in result["val"]}) == 1 and len(result["val"]) == 2


def test_validation_list_is_taken_out_of_the_official_training_list(tmp_path: Path) -> None:
    (tmp_path / "train_val_list.txt").write_text("a0.png\na1.png\nb0.png\nb1.png")
    lists = {"val": ["b0.png", "b1.png"], "test": ["c0.png"]}
    result = sides(split(tmp_path, lists, train_list="train_val_list.txt", val_list="val.txt"))
    assert result["train"] == {"a0.png", "a1.png"} and result["val"] == {"b0.png", "b1.png"}


def test_image_in_two_lists_is_named_with_both(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"a0.png is in data.train_list and in data.test_list"):
        split(tmp_path, THREE | {"test": ["d0.png", "a0.png"]})
    with pytest.raises(CxrError, match=r"b0.png is in data.train_list and in data.val_list"):
        split(tmp_path, THREE | {"val": ["b0.png"]})


def test_unknown_images_of_a_list_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"data.test_list names 2 images that entries.csv lacks: x.png, y.png"):
        split(tmp_path, THREE | {"test": ["d0.png", "x.png", "y.png"]})


def test_images_left_out_on_purpose_may_stand_in_a_list(tmp_path: Path) -> None:
    lists = THREE | {"test": ["d0.png", "x.png"], "train": ["y.png", "a0.png"]}
    assert sides(split(tmp_path, lists, skipped=["x.png", "y.png"]))["test"] == {"d0.png"}
    with pytest.raises(CxrError, match=r"names 1 image .* lacks: y.png"):
        split(tmp_path, lists, skipped=["x.png"])


@pytest.mark.parametrize(
    ("lists", "patient", "where"),
    [
        ({"test": ["d0.png", "a1.png"], "train": ["a0.png"]}, "Pa", "test and train"),
        ({"val": ["b1.png"]}, "Pb", "train and val"),
        ({"val": ["d1.png"], "test": ["d0.png"]}, "Pd", "test and val"),
    ],
)
def test_patient_on_both_sides_is_refused_with_the_id(
    tmp_path: Path, lists: dict[str, list[str]], patient: str, where: str
) -> None:
    with pytest.raises(CxrError, match=rf"the split leaks: patient {patient} has images in {where} \(1 such patient"):
        split(tmp_path, THREE | lists)


def test_leaking_lists_are_refused_when_validation_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="the split leaks: patient Pa"):
        split(tmp_path, {"train": ["a0.png", "b0.png", "c0.png"], "test": ["a1.png"]})


def test_every_leaking_patient_is_counted() -> None:
    leaking = catalog(TEN)
    table = leaking.table.assign(split=["train", "test"] * 3 + ["train"] * 2 + ["val"] * 2)
    with pytest.raises(CxrError, match=r"patient Pa .*\(3 such patients\)"):
        check_split(replace(leaking, table=table))


def test_images_outside_the_split_do_not_leak() -> None:
    whole = catalog(TEN)
    check_split(replace(whole, table=whole.table.assign(split=["train", ""] * 3 + ["val"] * 2 + ["test"] * 2)))


@pytest.mark.parametrize("empty", ["train", "val", "test"])
def test_empty_split_is_named(empty: str) -> None:
    whole = catalog(TEN)
    names = ["train"] * 4 + ["val"] * 4 + ["test"] * 2
    table = whole.table.assign(split=["" if name == empty else name for name in names])
    with pytest.raises(CxrError, match=f"the {empty} split of entries.csv has no images"):
        check_split(replace(whole, table=table))


@pytest.mark.parametrize("option", ["train_list", "test_list"])
def test_one_of_the_two_lists_alone_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(
        CxrError, match=rf"^data\.{option} must name a file .*pass data\.{option}=FILE, or let the source"
    ):
        split(tmp_path, THREE, **{option: None})
    said = rf"^data\.{option} must name .*or omit all lists to use the column split of entries\.csv"
    with pytest.raises(CxrError, match=said):
        split(tmp_path, THREE, of=sided("rrvvttttt-"), **{option: None})


def sided(letters: str) -> Catalog:
    """The ten images with a split from their source, a letter an image."""
    names = {"r": "train", "v": "val", "t": "test", "-": ""}
    whole = catalog(TEN)
    return replace(whole, table=whole.table.assign(split=[names[letter] for letter in letters]))


def test_without_lists_the_split_is_that_of_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sided("rrrrvvtt--")
    result = split(tmp_path, {}, of=source)
    assert result.table["split"].tolist() == source.table["split"].tolist() and capsys.readouterr().out == ""
    numbered = replace(source, table=source.table.set_index(pd.Index(range(5, 15))))  # of a source that left rows out
    assert split(tmp_path, {}, of=numbered).table.index.tolist() == list(range(10))


@settings(max_examples=50)
@given(letters=st.lists(st.sampled_from("rvt-"), min_size=5, max_size=5), seed=st.integers(0, 3))
def test_a_split_of_the_source_is_taken_or_validation_drawn_from_train_by_patient(
    tmp_path_factory: pytest.TempPathFactory, letters: list[str], seed: int
) -> None:
    source = sided("".join(letter * 2 for letter in letters))
    before = sides(source)
    try:
        after = sides(split(tmp_path_factory.mktemp("s"), {}, of=source, seed=seed))
    except CxrError:
        assert not before.get("train") or not before.get("test") or ("v" not in letters and letters.count("r") < 2)
        return
    assert after["test"] == before["test"] and after.get("") == before.get("")
    assert after["train"] | after["val"] == before["train"] | before.get("val", set())
    assert "v" not in letters or after["val"] == before["val"]
    assert not {image[0] for image in after["train"]} & {image[0] for image in after["val"]}


def test_a_draw_from_the_column_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split(tmp_path, {}, of=sided("rrrrrrtttt"))
    assert "entries.csv has no val split: it is drawn from train by patient" in capsys.readouterr().out


def test_lists_win_over_the_column_and_say_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = sides(split(tmp_path, THREE, of=sided("ttvvrrrrrr")))
    assert {name: result[name] for name in THREE} == {name: set(images) for name, images in THREE.items()}
    assert capsys.readouterr().out.count("the column split of entries.csv is not used") == 1


@pytest.mark.parametrize("empty", [None, "----------"])
def test_without_lists_and_column_both_remedies_are_named(tmp_path: Path, empty: str | None) -> None:
    said = r"pass data\.train_list=FILE data\.test_list=FILE, or let the source return a column split for entries\.csv"
    with pytest.raises(CxrError, match=said):
        split(tmp_path, {}, of=sided(empty) if empty else None)


def test_a_validation_list_needs_the_two_others(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"^data\.train_list and data\.test_list must name"):
        split(tmp_path, {"val": ["a0.png"]}, of=sided("rrvvtttttt"))


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ("rtvvtttttt", "patient Pa has images in test and train"),
        ("rrrrtttttv", "patient Pe has images in test and val"),
        ("vvvvtttttt", "the train split of entries.csv has no images"),
        ("rrrrrrvvvv", "the test split of entries.csv has no images"),
        ("tttttttttt", "the train split of entries.csv has no images"),
    ],
)
def test_a_split_of_the_source_is_guarded_like_lists(tmp_path: Path, letters: str, said: str) -> None:
    with pytest.raises(CxrError, match=said):
        split(tmp_path, {}, of=sided(letters))


def with_tests(root: Path, tests: Mapping[str, Sequence[str]], of: Catalog | None = None, **options: Any) -> Catalog:
    """The three lists, and a list for each further test split."""
    for name, images in tests.items():
        (root / f"of {name}.txt").write_text("\n".join(images))
    return split(root, THREE, of, test_lists={name: f"of {name}.txt" for name in tests}, **options)


def test_further_test_splits_share_images_with_test_and_with_each_other(tmp_path: Path) -> None:
    tests = {"other": ["e1.png", "d0.png", "e0.png"], "ward-2": ["e0.png"]}
    result = with_tests(tmp_path, tests)
    assert result.test_splits == ("test", "other", "ward-2")
    for name, images in tests.items():
        assert result.rows(name)["image"].tolist() == sorted(images)  # in the table's order
    assert sides(result)[""] >= {"e0.png", "e1.png"} and sides(result)["test"] == set(THREE["test"])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (["e0.png", "a0.png"], "patient Pa has images in other and train"),  # the image itself
        (["e0.png", "b1.png"], "patient Pb has images in other and train"),  # another one of the patient
        (["c1.png"], "patient Pc has images in other and val"),
        (["a0.png", "b1.png", "c1.png"], r"patient Pa .*\(3 such patients\)"),
    ],
)
def test_a_patient_of_a_further_test_split_in_train_or_val_is_refused(
    tmp_path: Path, images: list[str], said: str
) -> None:
    with pytest.raises(CxrError, match=f"the split leaks: {said}"):
        with_tests(tmp_path, {"other": images})
    source = replace(catalog(TEN), tests={"other": tuple(images)})  # likewise where the source names them
    with pytest.raises(CxrError, match=f"the split leaks: {said}"):
        split(tmp_path, THREE, of=source)


def test_a_patient_drawn_for_validation_is_kept_out_of_further_test_splits(tmp_path: Path) -> None:
    lists = {"train": [image for image in TEN if image[0] in "abc"], "test": ["d0.png"]}
    (tmp_path / "o.txt").write_text("a0.png")
    for seed in range(4):
        with pytest.raises(CxrError, match=r"patient Pa has images in other and (train|val)"):
            split(tmp_path, lists, test_lists={"other": "o.txt"}, seed=seed)


def test_unknown_images_of_a_further_list_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"data\.test_lists\.other names 1 image .* lacks: x\.png \(.*other\.txt line 2"):
        with_tests(tmp_path, {"other": ["e0.png", "x.png"]})
    assert with_tests(tmp_path, {"other": ["e0.png", "x.png"]}, skipped=["x.png"]).tests == {"other": ("e0.png",)}
    with pytest.raises(CxrError, match=r"the other split of entries\.csv has no images; check data\.test_lists\.other"):
        with_tests(tmp_path, {"other": ["x.png"]}, skipped=["x.png"])


@pytest.mark.parametrize(
    "name",
    [
        *["train", "val", "test", "Test", "split", "steps", "a_calibrated"],  # other results of a run
        *["a@b", "a/b", "..", ".a", "", "-a", "_a", "a b", "a ", "a.b", "ä", "a\n", "x" * 61],
    ],
)
def test_the_name_of_a_further_test_split_is_valid_and_not_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "o.txt").write_text("e0.png")
    with pytest.raises(CxrError, match=re.escape(f"a test split cannot be called {name!r}: use at most")):
        split(tmp_path, THREE, test_lists={name: "o.txt"})
    with pytest.raises(CxrError, match=re.escape(f"a test split cannot be called {name!r}: use at most")):
        split(tmp_path, THREE, of=replace(catalog(TEN), tests={name: ("e0.png",)}))


@pytest.mark.parametrize("wrong", ["o.txt", ["o.txt"], {"other": None}, {"other": 5}, {"other": ["o.txt"]}])
def test_further_lists_are_files_by_name(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(CxrError, match=r"data\.test_lists.* must "):
        split(tmp_path, THREE, test_lists=wrong)


def test_a_list_takes_no_name_of_the_sources_test_splits(tmp_path: Path) -> None:
    source = replace(catalog(TEN), tests={"other": ("e0.png",)})
    assert with_tests(tmp_path, {"more": ["e1.png"]}, of=source).tests == {"other": ("e0.png",), "more": ("e1.png",)}
    with pytest.raises(CxrError, match=r"data\.test_lists\.other: entries\.csv has a test split of that name"):
        with_tests(tmp_path, {"other": ["e1.png"]}, of=source)


def test_zeros_in_front_of_a_patient_of_a_further_test_split_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = catalog(TEN | {"e0.png": "7", "e1.png": "7", "a0.png": "007", "a1.png": "007"})
    with_tests(tmp_path, {"other": ["e0.png"]}, of=whole)
    assert "patients 007 (in train) and 7 (in other) of entries.csv differ only by" in capsys.readouterr().out


def test_catalog_that_is_split_is_left_as_it_was(tmp_path: Path) -> None:
    whole = catalog(TEN)
    result = split(tmp_path, THREE, of=whole)
    assert "split" not in whole.table
    pd.testing.assert_frame_equal(result.table.drop(columns="split"), whole.table)


def test_list_is_a_path_or_a_name_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "below.txt").write_text("below.png")
    (tmp_path / "own.txt").write_text("own.png")
    assert read_list(tmp_path / "root", "below.txt") == ["below.png"]
    assert read_list(tmp_path / "root", str(tmp_path / "own.txt")) == ["own.png"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_list(tmp_path / "root", "~/own.txt") == ["own.png"]


def test_list_is_found_below_a_root_that_begins_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "test_list.txt").write_text("a.png")
    assert read_list("~/nih", "test_list.txt") == ["a.png"]


@pytest.mark.parametrize(
    "content",
    [
        b"a.png\nb.png",
        b"a.png\nb.png\n",
        b"\xef\xbb\xbfa.png\nb.png\n",
        b"a.png\r\nb.png\r\n",
        b"\n  a.png \n\n\tb.png\n \n\n",
    ],
)
def test_list_may_have_marks_and_blanks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_list(tmp_path, "list.txt") == ["a.png", "b.png"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty_list_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(CxrError, match=re.escape(f"the list {tmp_path / 'list.txt'} is empty")):
        read_list(tmp_path, "list.txt")


def test_list_that_names_an_image_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\nb.png\nc.png\nb.png\nb.png")
    with pytest.raises(CxrError, match=r"names b.png 3 times"):
        read_list(tmp_path, "list.txt")


def test_list_that_is_nowhere_is_refused_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=re.escape(f"the list absent.txt is neither a file nor in {tmp_path}")):
        read_list(tmp_path, "absent.txt")


def test_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(CxrError, match="not a readable text file"):
        read_list(tmp_path, "list.png")


def worst_distance(table: pd.DataFrame, drawn: set[str], share: float) -> float:
    """How far any finding's drawn images are from its share, in images of the patient who has most of them."""
    rows = table.to_dict("records")
    worst = 0.0
    for finding in [*FINDINGS, "none", "all"]:
        counts: dict[str, int] = defaultdict(int)
        for row in rows:
            healthy = not any(row[name] for name in FINDINGS)
            counts[row["patient"]] += finding == "all" or (healthy if finding == "none" else row[finding] == 1)
        had = sum(count for patient, count in counts.items() if patient in drawn)
        worst = max(worst, abs(had - share * sum(counts.values())) / max(counts.values()))
    return worst


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_finding_gets_its_share_to_within_one_patient(share: float, seed: int) -> None:
    table = population(400, seed)
    distance = worst_distance(table, draw_patients(table, FINDINGS, share, seed), share)
    rng = np.random.default_rng(seed)
    everyone = sorted(set(table["patient"]))
    at_random = [set(rng.choice(everyone, round(share * 400), replace=False)) for _ in range(9)]
    usual = sorted(worst_distance(table, drawn, share) for drawn in at_random)[4]
    assert distance <= 1 and distance < usual


def test_draw_depends_on_the_seed_alone() -> None:
    table = population(200, 0)
    first = draw_patients(table, FINDINGS, 0.2, 3)
    assert first == draw_patients(table, FINDINGS, 0.2, 3)
    assert len({frozenset(draw_patients(table, FINDINGS, 0.2, seed)) for seed in range(5)}) == 5


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_does_not_change_the_draw(seed: int) -> None:
    table = population(60, 1)
    shuffled = table.sample(frac=1, random_state=seed)
    assert draw_patients(shuffled, FINDINGS, 0.3, 5) == draw_patients(table, FINDINGS, 0.3, 5)


@settings(max_examples=50)
@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_both_sides_get_someone(patients: int, share: float, seed: int) -> None:
    table = population(patients, seed)
    assert 0 < len(draw_patients(table, FINDINGS, share, seed)) < patients


def test_draw_of_healthy_patients_alone_has_the_share() -> None:
    table = population(300, 4).assign(**dict.fromkeys(FINDINGS, 0.0))
    drawn = draw_patients(table, FINDINGS, 0.2, 0)
    assert abs(table["patient"].isin(drawn).mean() - 0.2) < 0.02


def test_unknown_labels_are_no_positives_in_the_draw() -> None:
    table = population(100, 2)
    unknown = table.assign(Mass=table["Mass"].where(table["Mass"] == 1))
    assert draw_patients(unknown, FINDINGS, 0.2, 0) == draw_patients(table, FINDINGS, 0.2, 0)


@pytest.mark.parametrize(
    ("shares", "start"), [((0.8, 0.2), "5ba2adfdce9df401"), ((1 / 3, 1 / 3, 1 / 3), "cf134a2fb4b6327f")]
)
def test_sides_are_those_of_earlier_versions(shares: tuple[float, ...], start: str) -> None:
    side = assign_patients(population(400, 0), FINDINGS, shares, 7)
    text = "".join(f"{patient}:{number} " for patient, number in side.sort_index().items())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == start


def test_single_patient_cannot_be_cut() -> None:
    with pytest.raises(CxrError, match="1 training patients cannot be split"):
        draw_patients(population(1, 0), FINDINGS, 0.5, 0)


def fingerprint(splits: Mapping[str, str], **columns: object) -> str:
    table = pd.DataFrame({"image": list(splits), "patient": "1", "Mass": 1.0, "split": list(splits.values())})
    return split_fingerprint(Catalog(table.assign(**columns), ("Mass",), "t"))


SPLITS = {"a.png": "train", "b.png": "val", "c.png": "test", "d.png": "train", "e.png": ""}


def test_split_fingerprint_is_that_of_the_split_alone() -> None:
    same = fingerprint(SPLITS)
    assert fingerprint(dict(reversed(SPLITS.items()))) == same
    assert fingerprint(SPLITS, Mass=0.0, patient="2") == same
    assert fingerprint({name: side for name, side in SPLITS.items() if side}) == same  # who is in no split counts not


@pytest.mark.parametrize(
    "change",
    [{"a.png": "val"}, {"d.png": "test"}, {"e.png": "train"}, {"c.png": ""}, {"a.png": "val", "b.png": "train"}],
)
def test_split_fingerprint_changes_with_any_place(change: dict[str, str]) -> None:
    assert fingerprint(SPLITS | change) != fingerprint(SPLITS)


def test_split_fingerprint_changes_with_further_test_splits_and_not_with_their_order() -> None:
    table = pd.DataFrame({"image": list(SPLITS), "patient": "1", "Mass": 1.0, "split": list(SPLITS.values())})

    def of(tests: dict[str, tuple[str, ...]]) -> str:
        return split_fingerprint(Catalog(table, ("Mass",), "t", tests=tests))

    kinds = [{}, {"o": ("e.png",)}, {"o": ("e.png", "c.png")}, {"p": ("e.png",)}, {"o": ("e.png",), "p": ("c.png",)}]
    assert (
        of({}) == fingerprint(SPLITS) == "cb13cee36e16d1131be06e7611f483690022653258221e515c0beef3b350fd09"
    )  # as earlier versions had it
    assert len({of(kind) for kind in kinds}) == len(kinds)
    assert of({"o": ("e.png", "c.png"), "p": ("c.png",)}) == of({"p": ("c.png",), "o": ("c.png", "e.png")})


def test_folder_as_published_is_split_by_its_lists(nih_folder: Folder) -> None:
    root = nih_folder()
    whole = read_nih(str(root))
    result = split_catalog(whole, root, "train_val_list.txt", None, "test_list.txt", 0.2, 0)
    found = sides(result)
    assert found["test"] == set((root / "test_list.txt").read_text().split())
    assert found["train"] | found["val"] == set((root / "train_val_list.txt").read_text().split())
    patients = {side: {image[:8] for image in images} for side, images in found.items()}
    assert not patients["train"] & patients["val"] and not patients["val"] & patients["test"]
    assert found["val"] and len(found["val"]) % 2 == 0  # patients of two images each, never cut


def test_seed_decides_the_split(nih_folder: Folder) -> None:
    root = nih_folder()
    whole = read_nih(str(root))
    prints = [
        split_fingerprint(split_catalog(whole, root, "train_val_list.txt", None, "test_list.txt", 0.2, seed))
        for seed in (0, 0, 1, 2, 3)
    ]
    assert prints[0] == prints[1] and len(set(prints)) > 1


def test_official_lists_are_disjoint_by_patient_and_balanced(published: Catalog, shared: Path) -> None:
    root = shared / "nih_metadata"
    result = split_catalog(published, root, "train_val_list.txt", None, "test_list.txt", 0.1, 0)
    with (root / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        entry = {row[0]: (row[1].split("|"), row[3]) for row in list(csv.reader(file))[1:]}
    found = sides(result)
    assert len(found["test"]) == 25_596 and len(found["train"]) + len(found["val"]) == 86_524
    patients = {side: {entry[image][1] for image in images} for side, images in found.items()}
    assert len(patients["test"]) == 2_797 and set(found) == {"train", "val", "test"}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 30_805
    train, val = (Counter(label for image in found[side] for label in entry[image][0]) for side in ("train", "val"))
    assert set(val) == {*published.findings, "No Finding"}
    for finding, cases in val.items():
        assert cases / (cases + train[finding]) == pytest.approx(0.1, abs=0.01), finding


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_real_mini_folder_is_cut_near_the_share(shared: Path, share: float) -> None:
    root = shared / "nih_mini"
    result = split_catalog(read_nih(str(root)), root, "train_val_list.txt", None, "test_list.txt", share, 1)
    training = result.table[result.table["split"] != "test"]
    drawn = training["split"] == "val"
    assert len(training) == 1941 and drawn.mean() == pytest.approx(share, abs=0.01)
    for finding in result.findings:
        assert drawn[training[finding] == 1].mean() == pytest.approx(share, abs=0.025), finding


def test_lists_of_the_real_mini_folder_are_taken_as_they_are(shared: Path) -> None:
    root = shared / "nih_mini"
    arguments = {"val_list": "val_list.txt", "test_list": "test_list.txt", "val_share": 0.1, "seed": 0}
    own = split_catalog(read_nih(str(root)), root, train_list="train_list.txt", **arguments)
    official = split_catalog(read_nih(str(root)), root, train_list="train_val_list.txt", **arguments)
    assert {side: len(images) for side, images in sides(own).items()} == {"train": 1525, "val": 416, "test": 411}
    assert split_fingerprint(own) == split_fingerprint(official)


@pytest.mark.parametrize(
    ("lists", "place"),
    [
        ({"train": ["a0.png", "", "x.png"], "test": ["d0.png"]}, r"lacks: x.png \(\S*train.txt line 3\)"),
        ({"train": ["a0.png", "b0.png"], "test": ["", "b0.png"]}, r"train.txt line 2, \S*test.txt line 2\)"),
        (
            {"train": ["a0.png", "", "b0.png", "a0.png"], "test": ["d0.png"]},
            r"train.txt names a0.png 2 times \(lines 1, 4\)",
        ),
    ],
)
def test_wrong_name_of_a_list_is_given_with_file_and_line(
    tmp_path: Path, lists: Mapping[str, Sequence[str]], place: str
) -> None:
    with pytest.raises(CxrError, match=place):
        split(tmp_path, lists)


@pytest.mark.parametrize(("one", "other", "warned"), [("7", "007", True), ("0", "00", True), ("7", "70", False)])
def test_patients_that_differ_by_leading_zeros_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one: str, other: str, warned: bool
) -> None:
    of = catalog({"a.png": one, "b.png": "x", "c.png": other})
    split(tmp_path, {"train": ["a.png"], "val": ["b.png"], "test": ["c.png"]}, of)
    said = capsys.readouterr().out
    assert ("differ only by leading zeros and count as two (1 such pairs)" in said) == warned
    if warned:
        assert f"{one} (in train)" in said and f"{other} (in test)" in said and "entries.csv" in said
