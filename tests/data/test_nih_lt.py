"""NIH-CXR-LT: 20 findings, one an image, in four files, over the images and patients of NIH's own table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from cxr.data.sources.nih_lt import NIH_CXR_LT, read_nih_lt
from cxr.data.split import split_catalog
from cxr.errors import CxrError

Folder = Callable[..., Path]
HEADER = ["id", *sorted(NIH_CXR_LT), "subject_id"]  # of another order than the findings
PARTS = {
    "train": [("00000001_000.png", "Hernia"), ("00000001_001.png", "No Finding"), ("00000002_000.png", "Mass")],
    "balanced-val": [("00000003_000.png", "Tortuous Aorta")],
    "test": [("00000004_000.png", "Edema"), ("00000004_001.png", "Hernia"), ("00000005_000.png", "Edema")],
    "balanced-test": [("00000004_001.png", "Hernia"), ("00000005_000.png", "Edema")],
}


def write(folder: Path, parts: Mapping[str, Sequence[tuple[str, str]]] = PARTS) -> Path:
    for name, rows in parts.items():
        cells = [
            [image, *("1" if each == finding else "0" for each in HEADER[1:-1]), image[:8]] for image, finding in rows
        ]
        lines = [",".join(row) for row in [HEADER, *cells]]
        (folder / f"nih-cxr-lt_single-label_{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_label_files_say_split_and_finding_and_nihs_table_the_rest(nih_folder: Folder) -> None:
    root = write(nih_folder())
    catalog = split_catalog(read_nih_lt(str(root)), root, None, None, None, 0.1, 0)
    assert catalog.findings == NIH_CXR_LT and len(NIH_CXR_LT) == 20
    for split, name in {
        "train": "train",
        "val": "balanced-val",
        "test": "test",
        "balanced_test": "balanced-test",
    }.items():
        rows, targets = catalog.rows(split), catalog.targets(split)
        called = [NIH_CXR_LT[k] for k in targets.argmax(axis=1)]
        assert sorted(zip(rows["image"], called, strict=True)) == sorted(PARTS[name])
        assert (targets.sum(axis=1) == 1).all() and not np.isnan(targets).any()
    first = catalog.table.set_index("image").loc["00000002_000.png"]
    assert (first["patient"], first["age"], first["sex"], first["view"]) == ("2", 32, "M", "PA")
    assert Path(first["path"]) == root / "images" / "00000002_000.png"


def test_the_label_files_may_lie_in_a_folder_of_their_own(nih_folder: Folder, tmp_path: Path) -> None:
    root = nih_folder()
    with pytest.raises(CxrError, match=r"label_train\.csv is missing; pass data\.labels=DIR"):
        read_nih_lt(str(root))
    (tmp_path / "labels").mkdir()
    assert len(read_nih_lt(str(root), str(write(tmp_path / "labels")))) == 7


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({name: [("00000099_000.png", "Edema")] for name in ("test", "balanced-test")},
         r"names 1 image that .*Data_Entry_2017\.csv lacks: 00000099"),
        ({"balanced-test": [("00000001_000.png", "Mass")]}, r"d-test\.csv names 1 image that .*_test\.csv lacks:"),
        ({"train": [("00000001_000.png", "Hernia"), ("00000002_000.png", "")]}, r"train\.csv line 3: .*exactly one 1"),
        ({"train": [("00000001_000.png", "Hernia"), ("00000004_000.png", "Mass")]}, "00000004_000.png"),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_refused(
    nih_folder: Folder, changed: Mapping[str, Sequence[tuple[str, str]]], said: str
) -> None:
    root = write(nih_folder(), {**PARTS, **changed})
    with pytest.raises(CxrError, match=said):
        read_nih_lt(str(root))


def test_a_file_that_is_no_table_or_lacks_a_finding_is_refused(nih_folder: Folder) -> None:
    root = write(nih_folder())
    file = root / "nih-cxr-lt_single-label_train.csv"
    text = file.read_text()
    file.write_text(text.replace("Hernia", "Rupture"))
    with pytest.raises(CxrError, match="lacks the column Hernia"):
        read_nih_lt(str(root))
    file.write_text(text + ",".join(["x"] * 40) + "\n")
    with pytest.raises(CxrError, match="cannot be read as a CSV table"):
        read_nih_lt(str(root))
    file.write_text("")
    with pytest.raises(CxrError, match="cannot be read as a CSV table"):
        read_nih_lt(str(root))


def test_the_published_files_have_the_published_sizes(shared: Path, tmp_path: Path) -> None:
    for file in (shared / "nih_metadata" / "long_tail").glob("nih-cxr-lt_single*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write(tmp_path, {"train": [("00000001_000.png", "Hernia")]})  # of which no copy is at hand
    catalog = read_nih_lt(str(shared / "nih_metadata"), str(tmp_path))
    assert [len(catalog.rows(split)) for split in ("val", "test", "balanced_test")] == [300, 20279, 600]
    assert catalog.targets("balanced_test").sum(axis=0).tolist() == [30] * 20
