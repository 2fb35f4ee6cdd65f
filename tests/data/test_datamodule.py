"""Batches: what is in them, that they show the right images, and that workers and ranks change nothing."""

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.data.attributes import ATTRIBUTES, attributes
from cxr.data.augment import Affine, Augmentation, Draws, Flip
from cxr.data.boxes import no_boxes, shown_boxes
from cxr.data.cache import Cache, CacheSettings, open_or_build
from cxr.data.catalog import Catalog, check_images_exist, choose_findings
from cxr.data.datamodule import LoaderSettings, RadiographData, Radiographs
from cxr.data.sampling import Balanced, ClassAware, Order, WeightedByFindings
from cxr.data.sources.nih import read_nih
from cxr.data.split import split_catalog
from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing

import albumentations as A  # isort: skip  # after cxr, which turns its question to the network off

Folder = Callable[..., Path]
SIZE = 24


def data_of(
    root: Path,
    size: int = SIZE,
    augmentation: Augmentation | None = None,
    on_missing: str = "fail",
    crop: bool = False,
    **settings: int,
) -> RadiographData:
    """The folder's data as a run reads it; three findings, one with unknown labels."""
    catalog = choose_findings(read_nih(str(root)), ["Mass", "Effusion", "Nodule"], [], 0)
    every = catalog.table["image"]
    table = catalog.table.assign(Nodule=catalog.table["Nodule"].where(np.arange(len(every)) % 5 > 0))
    catalog = check_images_exist(replace(catalog, table=table), on_missing)
    skipped = sorted(set(every) - set(catalog.table["image"]))
    catalog = split_catalog(catalog, root, "train_val_list.txt", None, "test_list.txt", 0.3, 0, skipped)
    cache, catalog = open_or_build(catalog, root, CacheSettings(SIZE))
    chosen = LoaderSettings(**({"batch_size": 4} | settings))
    return RadiographData(catalog, cache, Preprocessing(size, SIZE, crop), chosen, augmentation or Augmentation())


@pytest.fixture
def data(nih_folder: Folder) -> RadiographData:
    return data_of(nih_folder())


def picture_of(catalog: Catalog, index: int) -> np.ndarray:
    return cv2.imread(catalog.table["path"][index], cv2.IMREAD_UNCHANGED)


def all_batches(loader: torch.utils.data.DataLoader) -> dict[str, np.ndarray]:
    """Everything that an epoch delivers, joined."""
    found = list(loader)
    return {key: torch.cat([batch[key] for batch in found]).numpy() for key in found[0]}


def test_batch_is_that_of_the_contract(data: RadiographData) -> None:
    for loader, size in ((data.train_dataloader(), 4), (data.val_dataloader(), 6)):  # six validation images
        batch = next(iter(loader))
        assert {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()} == {
            "image": (torch.uint8, (size, 1, SIZE, SIZE)),
            "target": (torch.float32, (size, 3)),
            "attributes": (torch.float32, (size, len(ATTRIBUTES))),
            "index": (torch.int64, (size,)),
        }


def test_evaluation_takes_twice_the_training_batch(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), batch_size=2)
    assert [len(batch["index"]) for batch in data.evaluation_dataloader("test")] == [4, 2]
    assert {len(batch["index"]) for batch in data.train_dataloader()} == {2}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluation_shows_every_image_of_the_split_once_as_it_is(nih_folder: Folder, split: str) -> None:
    data = data_of(nih_folder(), augmentation=Augmentation([A.InvertImg(p=1)]))
    table = data.catalog.table
    seen = all_batches(data.evaluation_dataloader(split))
    assert seen["index"].tolist() == [row for row in range(24) if table["split"][row] == split]
    for row, image, target in zip(seen["index"], seen["image"], seen["target"], strict=True):
        np.testing.assert_array_equal(image[0], picture_of(data.catalog, row))
        np.testing.assert_array_equal(target, [table[name][row] for name in ("Mass", "Effusion", "Nodule")])
    assert np.isnan(seen["target"]).any() == table["Nodule"][table["split"] == split].isna().any()


def test_validation_is_never_augmented(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), augmentation=Augmentation([A.InvertImg(p=1)]))
    for row, image in zip(*(all_batches(data.val_dataloader())[key] for key in ("index", "image")), strict=True):
        np.testing.assert_array_equal(image[0], picture_of(data.catalog, row))


def test_training_is_augmented_and_its_labels_stay_with_the_images(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), augmentation=Augmentation([A.InvertImg(p=1)]))
    seen = all_batches(data.train_dataloader())
    assert sorted(seen["index"]) == sorted(data.catalog.rows("train").index)
    assert seen["index"].tolist() != sorted(seen["index"])  # shuffled
    for row, image, target in zip(seen["index"], seen["image"], seen["target"], strict=True):
        np.testing.assert_array_equal(image[0], 255 - picture_of(data.catalog, row))
        np.testing.assert_array_equal(target, data.catalog.table.loc[row, ["Mass", "Effusion", "Nodule"]].astype(float))


def flips(seed: int) -> Augmentation:
    return Augmentation([Affine(rotate=(-20, 20)), Flip(), A.GaussNoise(p=1)], seed)


def two_epochs(root: Path, seed: int = 1, workers: int = 0) -> list[dict[str, np.ndarray]]:
    data = data_of(root, augmentation=flips(seed), seed=seed, workers=workers)
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.batch_sampler.set_epoch(epoch)
        epochs.append(all_batches(loader))
    return epochs


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[key], second[key], equal_nan=first[key].dtype.kind == "f") for key in first)


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_no_pixel_in_any_epoch(nih_folder: Folder, workers: int) -> None:
    root = nih_folder()
    alone, many = two_epochs(root), two_epochs(root, workers=workers)
    assert all(same(a, b) for a, b in zip(alone, many, strict=True))


def test_epoch_and_seed_change_order_and_pixels(nih_folder: Folder) -> None:
    root = nih_folder()
    first, second = two_epochs(root)
    (other, _), (again, _) = two_epochs(root, seed=2), two_epochs(root)
    assert same(first, again)
    for changed in (second, other):
        assert changed["index"].tolist() != first["index"].tolist()
        assert sorted(changed["index"]) == sorted(first["index"])
        shown = dict(zip(changed["index"].tolist(), changed["image"], strict=True))
        pairs = zip(first["index"].tolist(), first["image"], strict=True)
        assert not any(np.array_equal(shown[row], image) for row, image in pairs)


@pytest.mark.parametrize("epoch", [0, 1])
def test_augmentation_is_keyed_on_seed_epoch_and_the_row_of_the_table(nih_folder: Folder, epoch: int) -> None:
    root = nih_folder()
    catalog = data_of(root).catalog
    seen = two_epochs(root, seed=1)[epoch]
    for row, image in zip(seen["index"].tolist(), seen["image"], strict=True):
        np.testing.assert_array_equal(image[0], flips(1)([picture_of(catalog, row)], Draws.of([row], epoch), SIZE)[0])


def test_resumed_run_begins_with_the_next_batch_of_its_epoch(nih_folder: Folder) -> None:
    root = nih_folder()
    straight = two_epochs(root)[1]
    data = data_of(root, augmentation=flips(1), seed=1)
    data.start = (1, 2)
    rest = all_batches(data.train_dataloader())
    assert same(rest, {key: values[8:] for key, values in straight.items()})


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_images_of_one_run(nih_folder: Folder, ranks: int) -> None:
    root = nih_folder()
    alone = all_batches(data_of(root, augmentation=flips(1), seed=1).train_dataloader())
    images = dict(zip(alone["index"].tolist(), alone["image"], strict=True))
    seen = []
    for rank in range(ranks):
        loader = data_of(root, augmentation=flips(1), seed=1, rank=rank, ranks=ranks).train_dataloader()
        part = all_batches(loader)
        for row, image in zip(part["index"].tolist(), part["image"], strict=True):
            if row >= 0:
                np.testing.assert_array_equal(image, images[row])
                seen.append(row)
    assert sorted(seen) == sorted(images)


def test_filler_has_no_index_and_no_known_target(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), batch_size=2, rank=3, ranks=4)  # six test images: ranks 2 and 3 have one each
    (batch,) = data.evaluation_dataloader("test")
    assert batch["index"][1] == -1 and batch["target"][1].isnan().all()
    assert batch["index"][0] >= 0 and not batch["target"][0].isnan().all()
    assert batch["image"].shape == (2, 1, SIZE, SIZE) and batch["image"][1].float().std() > 0


def test_filler_and_image_of_one_position_show_the_same_pixels(data: RadiographData) -> None:
    batch = data.dataset("train").__getitems__(np.array([[~2, 0, 0], [2, 0, 0], [~0, 0, 0]]))
    assert batch["index"].tolist() == [-1, int(data.catalog.rows("train").index[2]), -1]
    assert torch.equal(batch["image"][0], batch["image"][1])
    assert batch["target"].isnan().all(dim=1).tolist() == [True, False, True]


def test_images_have_the_requested_size(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), size=12)
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (6, 1, 12, 12)
    first = picture_of(data.catalog, int(batch["index"][0]))
    means = first.reshape(12, 2, 12, 2).mean(axis=(1, 3))
    assert np.abs(batch["image"][0, 0].numpy() - means).max() <= 0.5


def test_rows_and_images_line_up_when_images_were_skipped(nih_folder: Folder) -> None:
    root = nih_folder()
    for name in ("00000001_000.png", "00000004_001.png", "00000011_000.png"):
        (root / "images" / name).unlink()
    data = data_of(root, on_missing="skip")
    seen = all_batches(data.evaluation_dataloader("test"))
    assert len(seen["index"]) == 5
    for row, image in zip(seen["index"], seen["image"], strict=True):
        assert data.catalog.table["split"][row] == "test"
        np.testing.assert_array_equal(image[0], picture_of(data.catalog, row))


def test_attributes_of_a_hand_made_table() -> None:
    rows = pd.DataFrame({"age": [50.0, float("nan"), 0.0], "sex": ["M", "F", ""], "view": ["PA", "ap", ""]})
    result = attributes(rows)
    assert result.dtype == np.float32 and ATTRIBUTES == ("age", "male", "female", "pa", "ap")
    np.testing.assert_array_equal(result, [[0.5, 1, 0, 1, 0], [np.nan, 0, 1, 0, 1], [0, 0, 0, 0, 0]])


def test_attributes_of_a_batch_are_those_of_its_rows(data: RadiographData) -> None:
    seen = all_batches(data.train_dataloader())
    for row, values in zip(seen["index"], seen["attributes"], strict=True):
        line = data.catalog.table.loc[row]
        expected = [
            line["age"] / 100,
            line["sex"] == "M",
            line["sex"] == "F",
            line["view"] == "PA",
            line["view"] == "AP",
        ]
        np.testing.assert_allclose(values, np.array(expected, float), rtol=1e-6)


def dataset(folder: Path, images: int) -> Radiographs:
    """A data set of any length over a cache of zeros."""
    names = tuple(f"{i:06d}.png" for i in range(images))
    np.save(folder / "images.npy", np.zeros((images, 8, 8), np.uint8))
    columns = {"image": names, "age": 50.0, "sex": "F", "view": "PA", "Mass": 1.0}
    return Radiographs(
        Cache(folder, names, 8), pd.DataFrame(columns), ["Mass"], Preprocessing(8, 8), Augmentation([Flip()])
    )


def test_pickle_contains_no_map_and_no_object_that_grows_with_the_table(tmp_path: Path) -> None:
    sizes, operations = [], []
    for images in (300, 3000):
        made = dataset(tmp_path, images)
        made.image(0)  # the map is open now
        content = pickle.dumps(made, protocol=5)
        kinds = [op.name for op, _, _ in pickletools.genops(content) if op.name not in ("FRAME", "MEMOIZE")]
        sizes.append(len(content))
        operations.append(len(kinds))
        copy = pickle.loads(content)
        assert copy._images is None
        np.testing.assert_array_equal(copy.image(images - 1), np.zeros((8, 8)))
    assert operations[0] == operations[1]
    assert (sizes[1] - sizes[0]) / 2700 <= 8 + 8 + 4 + 4 * len(ATTRIBUTES) + 1  # positions, index, target, attributes


def test_images_are_read_from_a_map_and_not_into_memory(tmp_path: Path) -> None:
    made = dataset(tmp_path, 20)
    assert made._images is None
    made.image(3)
    assert made._images is not None and not made._images.flags.writeable and not made._images.flags.owndata
    assert isinstance(made._images, np.memmap)


def test_the_maps_pages_are_given_back_and_images_stay_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dataset(tmp_path, 20)
    kept = pickle.loads(pickle.dumps(made))
    monkeypatch.setattr("cxr.data.datamodule._MAPPED", 1)  # after every batch
    given_back = [made.image(k) for k in (0, 5, 0)]
    monkeypatch.undo()
    np.testing.assert_array_equal(given_back, [kept.image(k) for k in (0, 5, 0)])
    assert made._read == 0 and kept._read > 0


def test_crops_are_random_in_training_and_from_the_middle_in_evaluation(nih_folder: Folder) -> None:
    data = data_of(nih_folder(), size=20, crop=True)
    seen = all_batches(data.val_dataloader())
    for row, image in zip(seen["index"], seen["image"], strict=True):
        np.testing.assert_array_equal(image[0], picture_of(data.catalog, row)[2:22, 2:22])
    seen, corners = all_batches(data.train_dataloader()), set()
    for row, image in zip(seen["index"], seen["image"], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(picture_of(data.catalog, row), (20, 20))
        corners.add(tuple(np.argwhere((windows == image[0]).all(axis=(2, 3)))[0]))
    assert len(corners) > 5
    assert data.preprocessing.pixels() == (1.0, -2) and Preprocessing(12, 24).pixels() == (0.5, 0.0)


def changed(data: RadiographData, order: Order | None = None, **changes: Any) -> RadiographData:
    """The same images with another catalog."""
    catalog = replace(data.catalog, **changes)
    return RadiographData(catalog, data.cache, data.preprocessing, data.settings, data.augmentation, order)


def with_soft(data: RadiographData, order: Order | None = None) -> RadiographData:
    """Soft targets of two findings for half of all images, also where the label is unknown."""
    rng = np.random.default_rng(3)
    soft = {f"soft:{name}": np.where(np.arange(24) % 2 == 0, rng.random(24), np.nan) for name in ("Mass", "Nodule")}
    return changed(data, order, table=data.catalog.table.assign(**soft))


def test_training_has_soft_targets_where_they_are_given_and_its_labels_elsewhere(data: RadiographData) -> None:
    soft = with_soft(data)
    table, seen = soft.catalog.table, all_batches(soft.train_dataloader())
    kinds = set()
    for row, target in zip(seen["index"], seen["target"], strict=True):
        for name, value in zip(("Mass", "Effusion", "Nodule"), target, strict=True):
            label, given = table[name][row], table.get(f"soft:{name}", pd.Series(np.nan, table.index))[row]
            np.testing.assert_equal(value, np.float32(label if np.isnan(given) else given))
            kinds.add((bool(np.isnan(given)), bool(np.isnan(label))))
    assert len(kinds) == 4  # given or not, for a label that is known or not


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_have_labels_whatever_is_soft(data: RadiographData, split: str) -> None:
    soft = with_soft(data)
    assert soft.catalog.rows(split)["soft:Mass"].notna().any()
    assert same(all_batches(soft.evaluation_dataloader(split)), all_batches(data.evaluation_dataloader(split)))
    np.testing.assert_array_equal(soft.catalog.targets("train"), data.catalog.targets("train"))


@pytest.mark.parametrize("order", [WeightedByFindings(5.0), Balanced(), ClassAware()])
def test_the_order_of_training_goes_by_labels_and_not_by_soft_targets(data: RadiographData, order: Order) -> None:
    hard, soft = (all_batches(made.train_dataloader()) for made in (changed(data, order), with_soft(data, order)))
    assert soft["index"].tolist() == hard["index"].tolist()
    assert not np.array_equal(soft["target"], hard["target"], equal_nan=True)


def test_a_further_test_split_is_shown_once_in_the_tables_order(data: RadiographData) -> None:
    images = data.catalog.table["image"]
    rows = [22, 1, 19, 5]
    more = changed(data, tests={"other": tuple(images[row] for row in rows)})
    seen = all_batches(more.evaluation_dataloader("other"))
    assert seen["index"].tolist() == sorted(rows) and len(more.dataset("other")) == 4
    for row, image, target in zip(seen["index"], seen["image"], seen["target"], strict=True):
        np.testing.assert_array_equal(image[0], picture_of(more.catalog, row))
        np.testing.assert_array_equal(target, more.catalog.table.loc[row, list(more.catalog.findings)].astype(float))


@settings(max_examples=60)
@given(
    width=st.integers(20, 90), height=st.integers(20, 90), across=st.tuples(st.floats(0, 0.6), st.floats(0.2, 0.4)),
    down=st.tuples(st.floats(0, 0.6), st.floats(0.2, 0.4)), crop=st.booleans(),
)  # fmt: skip
def test_a_box_lies_where_its_pixels_are_shown_whatever_the_shape_of_the_published_image(
    width: int, height: int, across: tuple[float, float], down: tuple[float, float], crop: bool
) -> None:
    x, y, w, h = across[0] * width, down[0] * height, across[1] * width, down[1] * height
    columns, rows = np.arange(width * 8) / 8 + 1 / 16, np.arange(height * 8) / 8 + 1 / 16  # eight samples a pixel
    inside = ((columns >= x) & (columns < x + w))[None] & ((rows >= y) & (rows < y + h))[:, None]
    cached = cv2.resize(inside.astype(np.float32), (160, 160), interpolation=cv2.INTER_AREA)
    shown = cached[10:150, 10:150] if crop else cv2.resize(cached, (140, 140), interpolation=cv2.INTER_AREA)
    box = pd.DataFrame(
        {"x": [x], "y": [y], "width": [w], "height": [h], "image_width": [width], "image_height": [height]}
    )
    ((left, top, wide, high),) = shown_boxes(box, Preprocessing(140, 160, crop))
    centres = np.arange(140) + 0.5
    expected = [max(0, min(140, left + wide)) - max(0, left), max(0, min(140, top + high)) - max(0, top)]
    assert shown.max(axis=0).sum() == pytest.approx(expected[0], abs=1.5)
    assert shown.max(axis=1).sum() == pytest.approx(expected[1], abs=1.5)
    if not crop:
        assert (shown.max(axis=0) @ centres) / shown.max(axis=0).sum() == pytest.approx(left + wide / 2, abs=1)
        assert (shown.max(axis=1) @ centres) / shown.max(axis=1).sum() == pytest.approx(top + high / 2, abs=1)


def test_boxes_of_no_image_are_none_and_one_image_may_have_several() -> None:
    assert shown_boxes(no_boxes(), Preprocessing(8, 16)).shape == (0, 4)
    two = pd.DataFrame({"x": [0, 50], "y": [0, 20], "width": [100, 50], "height": [40, 20],
                        "image_width": [100, 100], "image_height": [40, 40]})  # fmt: skip
    assert shown_boxes(two, Preprocessing(8, 16)).tolist() == [[0, 0, 8, 8], [4, 4, 4, 4]]
    assert shown_boxes(two, Preprocessing(8, 16, crop=True)).tolist() == [[-4, -4, 16, 16], [4, 4, 8, 8]]


def test_a_cache_that_was_cut_is_named_and_one_that_is_gone_is_not(data: RadiographData) -> None:
    data.check_cache()
    array = data.cache.array_path
    whole = array.read_bytes()
    array.write_bytes(whole[:-1])
    with pytest.raises(CxrError, match=r"images.npy has changed while it was read; .* verify=true"):
        data.check_cache()
    array.unlink()
    data.check_cache()
