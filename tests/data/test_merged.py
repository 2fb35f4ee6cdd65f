"""Merged sets: ids, findings, splits of each set, sets that share patients, and copies between sets."""

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.catalog import Catalog
from cxr.data.copies import find_copies
from cxr.data.sampling import BalancedSets
from cxr.data.sources.merged import Part, hides_common_images, ids_of, merge
from cxr.data.split import check_split
from cxr.errors import CxrError
from cxr.run.ancestry import Ancestry


def part(
    rows: Sequence[tuple[str, str, str]], reader: str, drawn: bool = False, findings: str = "Mass", **options: object
) -> Part:
    """A set of images, patients and splits, in which every finding is present."""
    table = pd.DataFrame(rows, columns=["image", "patient", "split"])
    table = table.assign(path="/x.png", followup=0, age=np.nan, sex="", view="", **dict.fromkeys(findings.split(), 1.0))
    target = f"cxr.data.sources.{reader}.read_{reader}"
    return Part(Catalog(table, tuple(findings.split()), reader), {"_target_": target, **options}, drawn)


ROWS = [("a.png", "1", "train"), ("b.png", "2", "val"), ("c.png", "3", "test")]


def test_patients_of_two_hospitals_with_one_number_are_two_and_every_set_has_its_own_test() -> None:
    turned = [("a.png", "3", "train"), ("b.png", "2", "val"), ("c.png", "1", "test")]
    merged = merge({"here": part(ROWS, "table"), "there": part(turned, "table", findings="Mass Edema")})
    check_split(merged)
    table = merged.table.set_index("image")
    assert table["patient"]["here/a.png"] == "here/1" and table["patient"]["there/c.png"] == "there/1"
    assert table["source"].tolist() == ["here"] * 3 + ["there"] * 3
    assert merged.tests == {"here": ("here/c.png",), "there": ("there/c.png",)}
    assert merged.findings == ("Mass", "Edema")
    assert table["Edema"].isna().tolist() == [True] * 3 + [False] * 3


def test_findings_are_common_however_a_table_writes_them() -> None:
    parts = {
        "a": part(ROWS, "table", findings="mass pleural_effusion Nodules"),
        "b": part(ROWS, "nih", findings="Mass Effusion"),
    }
    assert merge(parts).findings == ("Mass", "Effusion", "Nodules")  # names are compared whole
    assert not merge(parts).table[["Mass", "Effusion"]].isna().any(axis=None)
    with pytest.raises(CxrError, match=r"has the findings Mass and mass, which are one; .*data\.sets\.NAME\.exclude"):
        merge({"a": part(ROWS, "table", findings="Mass mass"), "b": part(ROWS, "nih")})


def test_the_intersection_has_the_common_findings() -> None:
    parts = {"a": part(ROWS, "table", findings="Mass Edema"), "b": part(ROWS, "table", findings="Nodule Edema")}
    merged = merge(parts, combine="intersection")
    assert merged.findings == ("Edema",) and not {"Mass", "Nodule"} & set(merged.table)
    with pytest.raises(CxrError, match=r"no finding in common .*data\.combine=union"):
        merge({"a": part(ROWS, "table"), "b": part(ROWS, "table", findings="Edema")}, combine="intersection")


def test_a_patient_of_two_sets_of_one_publisher_is_on_the_side_of_the_set_with_a_published_split() -> None:
    drawn = [("x.dcm", "1", "test"), ("y.dcm", "2", "train"), ("z.dcm", "9", "train")]
    merged = merge({"rsna": part(drawn, "rsna", drawn=True), "nih": part(ROWS, "nih")})
    check_split(merged)
    split = merged.table.set_index("image")["split"]
    assert split[["rsna/x.dcm", "rsna/y.dcm", "rsna/z.dcm"]].tolist() == ["train", "val", "train"]
    assert split[["nih/a.png", "nih/b.png", "nih/c.png"]].tolist() == ["train", "val", "test"]
    other = [("a.png", "3", "train"), *ROWS[1:2], ("c.png", "1", "test")]
    with pytest.raises(CxrError, match=r"the split leaks: patient NIH/[13] has images in"):
        check_split(merge({"nih": part(ROWS, "nih"), "lt": part(other, "nih_lt")}))  # two published splits


@pytest.mark.parametrize(("reader", "options"), [("rsna", {"one_image_a_patient": True}), ("chestmnist", {})])
def test_sets_with_the_same_images_are_refused_if_one_does_not_name_its_patients(
    reader: str, options: dict[str, object]
) -> None:
    parts = {"nih": part(ROWS, "nih"), "other": part(ROWS, reader, **options)}
    with pytest.raises(CxrError, match=rf"data.sets.other \({reader}\) and data.sets.nih \(nih\) have the same images"):
        merge(parts)
    merge({"chexpert": part(ROWS, "chexpert"), "other": part(ROWS, reader, **options)})


def test_weights_of_a_run_on_one_set_are_not_evaluated_on_its_patients_in_a_merged_set() -> None:
    merged = merge({"nih": part(ROWS, "nih"), "b": part(ROWS, "table")})
    ids = ids_of(merged.rows("test"))
    trained = Ancestry().extended((["3"], ["c.png"]), ((), ()))
    with pytest.raises(CxrError, match="trained or selected with"):
        trained.check("runs/a", "test", ids["patient"].tolist(), ids["image"].tolist())


def test_every_set_has_the_same_share_of_an_epoch() -> None:
    source = ["small"] * 7 + ["large"] * 60
    order = BalancedSets().over(source)(np.zeros((67, 1), np.float32), 3, 5)
    assert len(order) == 67
    drawn = Counter(source[position] for position in order)
    assert abs(drawn["small"] - drawn["large"]) <= 1
    times = Counter(order.tolist())
    assert max(times[k] for k in range(7)) - min(times[k] for k in range(7)) <= 1
    assert max(times[k] for k in range(7, 67)) == 1
    with pytest.raises(CxrError, match="data=merged"):
        BalancedSets().over([])


def changed(film: Image.Image, number: int) -> Image.Image:
    """A copy of a film as another publisher would have it: smaller, with another contrast, as a JPEG."""
    small = film.resize((300 + 7 * (number % 20),) * 2, Image.Resampling.BILINEAR)
    small = small.point([round(255 * (level / 255) ** (0.7 + 0.1 * (number % 7))) for level in range(256)])
    file = BytesIO()
    small.save(file, "JPEG", quality=30 + number % 50)
    return Image.open(BytesIO(file.getvalue()))


def options_of(reader: str) -> dict[str, object]:
    name, _, alone = reader.partition(" ")
    return {"_target_": f"cxr.data.sources.{name}.read", "one_image_a_patient": alone == "alone"}


@pytest.mark.parametrize(
    ("one", "other", "hidden"),
    [
        ("nih", "chestmnist", True), ("nih", "rsna alone", True), ("siim", "rsna alone", True),
        ("nih", "rsna", False), ("rsna alone", "rsna alone", False), ("chestmnist", "chestmnist", False),
        ("vindr", "vinbigdata", False), ("nih", "table alone", False), ("chexpert", "mimic_cxr", False),
    ],
)  # fmt: skip
def test_sets_that_have_the_same_images_under_other_names(one: str, other: str, hidden: bool) -> None:
    first, second = options_of(one), options_of(other)
    assert hides_common_images(first, second) is hides_common_images(second, first) is hidden


def test_copies_are_found_and_other_films_are_not(shared: Path) -> None:
    entries = pd.read_csv(shared / "nih_mini" / "Data_Entry_2017.csv", index_col=False)
    names = entries.drop_duplicates("Patient ID")["Image Index"].tolist()[:150]
    films = [Image.open(shared / "nih_mini" / "images" / name).convert("L") for name in names]
    copied = list(range(0, 75, 3))
    others = [changed(films[k], k) for k in copied]
    images = np.stack([np.asarray(each.resize((96, 96), Image.Resampling.BOX)) for each in (*films, *others)])
    found = find_copies(images, ["a"] * len(films) + ["b"] * len(others))
    assert [(a, b - len(films)) for a, b, _ in sorted(found)] == [(k, number) for number, k in enumerate(copied)]


def test_blank_images_are_no_copies() -> None:
    assert find_copies(np.full((4, 64, 64), 9, np.uint8), ["a", "a", "b", "b"]) == []
