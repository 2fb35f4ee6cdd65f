"""Boxes in pixels of the published image meet the network's attention, whatever size the network sees."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cxr.data.datamodule import LoaderSettings, RadiographData
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.network import NetworkOutput
from cxr.training.localise import localisation
from cxr.training.prepare import prepare
from tests.conftest import default_rows
from tests.training.conftest import Configure

SIDE, CELL = 32, 4  # pixels of the files and of an attention cell
PUBLISHED = 1024 // SIDE


class Bright(torch.nn.Module):
    """Attends to what is bright, in cells of four pixels."""

    def __init__(self, attends: bool = True) -> None:
        super().__init__()
        self.attends = attends

    def forward(self, batch: dict[str, Tensor]) -> NetworkOutput:
        maps = F.avg_pool2d(batch["image"].float(), CELL) if self.attends else None
        return NetworkOutput(torch.zeros(len(batch["image"]), 2), maps, torch.zeros(len(batch["image"]), 1))


def square(number: int) -> tuple[int, int]:
    """Where the bright square of a test image begins, x and y in pixels; it is eight pixels wide and four high."""
    return 4 + CELL * (number % 4), 8 + CELL * (number % 3)


@pytest.fixture
def found(configure: Configure) -> Callable[..., Any]:
    """A function that localises on black images with one bright square each, around which the boxes are drawn."""

    def run(size: int, boxes: bool = True, attends: bool = True, off: int = 0) -> Any:
        crop = size != SIDE
        config = configure(f"image_size={size}", f"cache.size={SIDE}", f"crop={str(crop).lower()}",
                           "data.findings=[Mass,Nodule]")  # fmt: skip
        root, lines = Path(config["data"]["root"]), ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
        for number, row in enumerate(default_rows()):
            pixels, (x, y) = np.zeros((SIDE, SIDE), np.uint8), square(number)
            pixels[y : y + 4, x : x + 8] = 200 + number  # no two images are the same
            Image.fromarray(pixels).save(root / "images" / row["image"])
            if number >= 18 and number != 20:  # the last six images are tested
                lines.append(
                    f"{row['image']},Mass,{x * PUBLISHED + off},{y * PUBLISHED},{8 * PUBLISHED},{4 * PUBLISHED},,,"
                )
        lines.append(f"{default_rows()[0]['image']},Mass,0,0,9,9,,,")  # is trained on
        if boxes:
            (root / "BBox_List_2017.csv").write_text("\n".join(lines) + "\n")
        prepared = prepare(config)
        data = RadiographData(prepared.catalog, prepared.cache, Preprocessing(size, SIDE, crop), LoaderSettings(8, 0))
        loaded: Any = SimpleNamespace(network=Bright(attends), tta="none")
        return localisation(data, loaded, torch.device("cpu"))

    return run


def values(said: dict[str, Any]) -> dict[str, float]:
    """The mean of each measure over the pairs of the finding with boxes."""
    means = {
        name: measure["findings"]["Mass"]
        for name, measure in said.items()
        if isinstance(measure, dict) and "macro" in measure
    }
    return {name: mean["value"] if isinstance(mean, dict) else mean for name, mean in means.items()}


@pytest.mark.parametrize("size", [SIDE, 24])
def test_a_map_that_is_the_box_is_found_exactly_also_in_a_crop(found: Callable[..., Any], size: int) -> None:
    said = found(size)
    assert said["pairs"] == 5, "tested images with boxes alone"
    assert set(values(said)) == {"pointing_game", "energy", "iou_0.25", "iou_0.5", "iou_0.75"}
    assert values(said) == pytest.approx(dict.fromkeys(values(said), 1.0))
    nodule = said["energy"]["findings"]["Nodule"]
    assert nodule is None or nodule["value"] is None


def test_a_box_a_cell_beside_is_found_in_part(found: Callable[..., Any]) -> None:
    said = values(found(SIDE, off=CELL * PUBLISHED))  # half of the square is inside
    assert said == pytest.approx(
        {"pointing_game": 0.5, "energy": 0.5, "iou_0.25": 1 / 3, "iou_0.5": 1 / 3, "iou_0.75": 1 / 3}
    )


@pytest.mark.parametrize("lacks", ["boxes", "attends"])
def test_without_boxes_or_without_attention_nothing_is_said(found: Callable[..., Any], lacks: str) -> None:
    assert found(SIDE, **{lacks: False}) is None
