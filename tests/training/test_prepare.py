"""The data of a run: what other processes read is what was written, and images that cannot be used leave no split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data.cache import Cache
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.training.catalog import read_catalog
from cxr.training.prepare import Prepared, cached, prepare, read_prepared
from tests.conftest import picture
from tests.training.conftest import Configure

ODD = pd.DataFrame(
    {
        "image": ["a.png", "süß/Ω.png", "c,\"d'.png"],
        "path": ["/data/a.png", "/daten/süß/Ω.png", "/data/with space.png"],
        "patient": ["007", "Мария", "7"],
        "followup": [0, 2**31 - 1, 3],
        "age": [np.nan, 0.25, 99.0],
        "sex": ["", "F", "M"],
        "view": ["", "PA", "AP"],
        "split": ["train", "", "test"],
        "Mass": [1.0, np.nan, 0.0],
        "Nodule": [np.nan] * 3,
    },
    index=[0, 2, 5],
)
BOXES = pd.DataFrame(
    [["süß/Ω.png", "Mass", 0.1, 2.0, 3.5, 1e-9, 2500.0, 2048.0]],
    columns=["image", "finding", "x", "y", "width", "height", "image_width", "image_height"],
)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(0, 0)])
def test_what_is_read_back_is_what_was_written(tmp_path: Path, rows: slice) -> None:
    table = ODD[rows]
    catalog = Catalog(
        table, ("Mass", "Nodule"), "täble.csv", ("gone.png", ""), {"hard tests": ("a.png",), "none": ()}, BOXES
    )
    cache = Cache(tmp_path / "cache" / "32px-ñ", tuple(table["image"]), 32)
    Prepared(catalog, cache, "f" * 64, "").write(tmp_path)
    read = read_prepared(tmp_path)
    pd.testing.assert_frame_equal(read.catalog.table, table, check_exact=True)
    assert read.cache == cache and (read.split_fingerprint, read.labels_sha256) == ("f" * 64, "")
    mine, theirs = dict(vars(catalog)), dict(vars(read.catalog))
    for name in ("table", "boxes"):
        pd.testing.assert_frame_equal(theirs.pop(name), mine.pop(name), check_exact=True)
    assert mine == theirs and [type(value) for value in mine.values()] == [type(value) for value in theirs.values()]


def test_a_data_set_that_was_written_needs_neither_its_table_nor_its_images(
    configure: Configure, tmp_path: Path, listening: Callable[[], Any]
) -> None:
    prepared = prepare(configure())
    (tmp_path / "given").mkdir()
    prepared.write(tmp_path / "given")
    with listening() as opened:
        read = read_prepared(tmp_path / "given")
    assert {Path(path).parent.name for path in opened.paths if str(tmp_path) in path} <= {"given"}
    pd.testing.assert_frame_equal(read.catalog.table, prepared.catalog.table)
    assert (read.cache, read.split_fingerprint, read.labels_sha256) == (
        prepared.cache, prepared.split_fingerprint, prepared.labels_sha256,
    )  # fmt: skip
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(read.catalog.targets(split), prepared.catalog.targets(split))


def test_the_cache_contains_each_image_of_the_table(configure: Configure) -> None:
    config = configure("cache.size=24")  # as large as the files are: nothing is resized
    prepared = prepare(config)
    images = prepared.cache.open()
    assert len(prepared.cache.names) == len(prepared.catalog) == 24
    for row, position in enumerate(prepared.cache.positions(prepared.catalog.table["image"])):
        np.testing.assert_array_equal(images[position], picture(row, 24))
    assert prepared.labels_sha256 == prepared.catalog.labels_sha256 and len(prepared.split_fingerprint) == 64


def test_without_leave_to_build_nothing_is_written(configure: Configure, tmp_path: Path) -> None:
    config = configure(f"cache.dir={tmp_path / 'cache'}")
    with pytest.raises(CxrError, match="are not cached at 32 px"):
        prepare(config, build=False)
    assert not (tmp_path / "cache").exists()
    first = prepare(config)
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    again = prepare(config, build=False)
    assert again.cache == first.cache
    assert before == {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def test_bad_images_are_left_out_of_the_catalog_and_refused_where_they_were_all_of_a_split(
    configure: Configure,
) -> None:
    config = configure("cache.on_error=skip")
    catalog = read_catalog(config)
    tested = catalog.rows("test")
    Path(tested["path"].iloc[0]).write_bytes(b"no picture")
    kept = cached(read_catalog(config), config)
    assert len(kept.catalog) == 23 and tested["image"].iloc[0] not in set(kept.catalog.table["image"])
    assert kept.catalog.table.index.tolist() == list(range(23))
    for path in tested["path"]:
        Path(path).write_bytes(b"no picture")
    with pytest.raises(CxrError, match=r"the test split of .*Data_Entry_2017\.csv has no images"):
        cached(read_catalog(config), config)
    with pytest.raises(CxrError, match=r"6 of 24 images cannot be used: .* pass cache\.on_error=skip"):
        prepare(configure())


def test_an_image_that_changes_changes_the_cache_and_not_the_fingerprint(configure: Configure) -> None:
    first = prepare(configure())
    path = Path(first.catalog.table["path"].iloc[0])
    Image.fromarray(picture(99, 24)).save(path)
    second = prepare(configure())
    assert second.cache.folder != first.cache.folder
    assert (second.split_fingerprint, second.labels_sha256) == (first.split_fingerprint, first.labels_sha256)
    assert json.loads((second.cache.folder / "manifest.json").read_text())
