"""Masks in run lengths as rectangles, and where they are read: SIIM-ACR and CheXlocalize."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.data.sources.chexpert import read_chexpert
from cxr.data.sources.masks import coco_runs, mask_boxes, relative_runs
from cxr.data.sources.siim import read_siim
from cxr.errors import CxrError
from tests.data.test_public_sets import chexpert as chexpert  # a fixture
from tests.data.test_public_sets import film, labelled, write


def painted(boxes: pd.DataFrame, width: int, height: int) -> np.ndarray:
    """How often each pixel (height, width) is in a rectangle, whose edges are whole pixels here."""
    image = np.zeros((height, width), int)
    for x, y, w, h in boxes[["x", "y", "width", "height"]].to_numpy(int):
        image[y : y + h, x : x + w] += 1
    return image


def pixels(text: str, width: int, height: int) -> np.ndarray:
    """A mask of SIIM-ACR, pixel by pixel."""
    image, position = np.zeros(width * height, int), 0
    numbers = [int(word) for word in text.split()]
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        for _ in range(length):
            image[position + gap] = 1
            position += 1
        position += gap
    return image.reshape(width, height).T


def coco(mask: np.ndarray) -> str:
    """COCO's text of a mask (H, W): runs of columns, from the fourth on less the one two before, five bits each."""
    runs, before = [0], 0
    for value in mask.T.ravel().tolist():
        if value != before:
            runs.append(0)
        runs[-1] += 1
        before = value
    text = ""
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        while True:
            low, value = value % 32, value // 32
            last = value == (-1 if low & 16 else 0)
            text += chr(48 + low + (0 if last else 32))
            if last:
                break
    return text


def test_runs_of_siim_count_from_the_end_of_the_run_before_and_go_down_the_columns() -> None:
    text = "5 3 2 4 9 2"
    boxes = mask_boxes([("a", "Mass", relative_runs(text), 6, 8)], "")
    np.testing.assert_array_equal(painted(boxes, 6, 8), pixels(text, 6, 8))
    assert pixels(text, 6, 8)[5:8, 0].all() and pixels(text, 6, 8)[2:6, 1].all()
    assert set(boxes["image_width"]) == {6} and set(boxes["image_height"]) == {8}


def test_coco_runs_are_the_masks_that_were_written() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (200, 130)):
        mask = (rng.random((height, width)) > 0.7).astype(int)
        boxes = mask_boxes([("a", "Mass", coco_runs(coco(mask)), width, height)], "")
        np.testing.assert_array_equal(painted(boxes, width, height), mask)
    assert coco_runs("PVWX6") == [2828 * 2320]  # a published empty mask
    assert mask_boxes([("a", "Mass", coco_runs("PVWX6"), 2828, 2320)], "").empty


def test_large_masks_keep_their_outline_to_half_a_cell_and_slivers_stay() -> None:
    mask = np.zeros((1024, 2048), int)
    mask[100:700, 303:1500] = 1
    mask[900, 5] = 1
    boxes = mask_boxes([("a", "Mass", coco_runs(coco(mask)), 2048, 1024)], "")
    seen = painted(boxes, 2048, 1024)
    assert seen.max() == 1
    np.testing.assert_array_equal(seen[100:700, 304:1496], 1)
    assert seen.sum() == 600 * 1200  # columns 304 to 1504: cells are 8 wide
    alone = np.zeros((1024, 1024), int)
    alone[900, 5] = 1
    sliver = mask_boxes([("a", "Mass", coco_runs(coco(alone)), 1024, 1024)], "")
    assert sliver[["x", "y", "width", "height"]].to_numpy().tolist() == [[4, 900, 4, 4]]


@pytest.mark.parametrize("runs", [[3, 100], [-1, 4], [10**12, 1]])
def test_a_mask_that_does_not_fit_its_image_is_refused(runs: list[int]) -> None:
    with pytest.raises(CxrError, match=r"f.json has a mask of Mass for a that does not fit an image of 6x8 pixels"):
        mask_boxes([("a", "Mass", runs, 6, 8)], "f.json")


def test_masks_of_siim_are_boxes(tmp_path: Path) -> None:
    rows = [("1.2.3", " -1"), ("1.2.5", "2048 1024"), ("1.2.5", "512 4 1020 4")]
    write(tmp_path / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
    boxes = read_siim(str(tmp_path), one_image_a_patient=True).boxes
    assert set(boxes["image"]) == {"1.2.5.dcm"} and set(boxes["finding"]) == {"Pneumothorax"}
    # The second mask covers half of a cell of 4 x 4 pixels.
    assert boxes[["x", "y", "width", "height"]].to_numpy().tolist() == [[0, 0, 4, 1024], [0, 512, 4, 4]]
    write(tmp_path / "train-rle.csv", ("ImageId", " EncodedPixels"), [("1.2.5", "5 a")])
    with pytest.raises(CxrError, match=r"train-rle.csv row 2: the mask is not pairs of numbers"):
        read_siim(str(tmp_path), one_image_a_patient=True)


def test_masks_of_chexlocalize_are_boxes_of_the_named_images(chexpert: Callable[..., Path], tmp_path: Path) -> None:
    root = chexpert([[*film(1), *labelled()]])
    mask = np.zeros((40, 50), int)
    mask[10:20, 5:8] = 1
    coded = {"size": [40, 50], "counts": coco(mask)}
    empty = {"size": [40, 50], "counts": "`n1"}
    masks = {
        "patient64541_study1_view1_frontal": {"Airspace Opacity": coded, "Edema": empty},
        "patient9_study1_view1_frontal": {"Edema": coded},
    }
    path = tmp_path / "CheXlocalize" / "gt_segmentations_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(masks))
    boxes = read_chexpert(str(root)).boxes
    assert set(boxes["image"]) == {"valid/patient64541/study1/view1_frontal.jpg"}
    assert set(boxes["finding"]) == {"Lung Opacity"}
    np.testing.assert_array_equal(painted(boxes, 50, 40), mask)
    for broken in ("[]", "{", '{"patient64541_study1_view1_frontal": {"Edema": {"size": [40], "counts": "1"}}}',
                   '{"patient64541_study1_view1_frontal": {"Edema": {"size": [40, 50], "counts": [1]}}}'):  # fmt: skip
        path.write_text(broken)
        with pytest.raises(CxrError, match=r"gt_segmentations_val.json is not the published file of masks"):
            read_chexpert(str(root))
