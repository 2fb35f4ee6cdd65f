"""What a run with `tta` averages, and from what it can be made; tests/export/test_averaged.py has the programs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.training.averaged import averaged
from cxr.training.checkpoint import LoadedNetwork


def left_column(batch: dict[str, torch.Tensor]) -> Any:
    """A network whose logits are the gray values of the left column."""
    return SimpleNamespace(logits=batch["image"][:, 0, :, 0].float(), attention=batch["index"])


@pytest.mark.parametrize("tta", [None, "none", "flip"])
def test_scores_are_averaged_after_the_activation_and_maps_are_not(tta: str | None) -> None:
    image = np.random.default_rng(0).integers(0, 5, (3, 1, 4, 6), np.uint8)
    config, task = {"tta": tta} if tta else {}, SimpleNamespace(scores=torch.sigmoid)
    loaded = LoadedNetwork(left_column, ("a",) * 4, 0, "00", config, task)  # type: ignore[arg-type]
    index = torch.arange(3)
    score, output = loaded.scores({"image": torch.from_numpy(image), "index": index})
    left, right = (1 / (1 + np.exp(-image[:, 0, :, side].astype(float))) for side in (0, -1))
    np.testing.assert_allclose(score, (left + right) / 2 if tta == "flip" else left, rtol=1e-6)
    assert output.attention is index
    assert (loaded.identity == "00") == (tta != "flip")


def test_what_is_no_finished_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="needs a finished training"):
        averaged(Run(tmp_path), "flip")
    assert not (tmp_path.parent / f"{tmp_path.name}-flip").exists()
