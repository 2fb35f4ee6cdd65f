"""The parts of published systems train, rebuild from their checkpoint, and resume to the byte after a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr.training.checkpoint import load_network
from tests.end_to_end.test_resume import die, kill, same_end, steps  # noqa: F401  # fixtures

SHORT = (
    "trainer.max_epochs=2", "synthetic_batch_size=32", "trainer.log_every_n_steps=1", "checkpoint.every_steps=1",
    "checkpoint.every_seconds=null", "optimizer.lr=3e-3",
)  # fmt: skip
PARTS = {
    "csra": ("attention=csra", "attention.heads=2", "head.dropout=0.2"),
    "heads": (
        "attention=multi_head",
        "fusion=join",
        "fusion.attribute_dropout=0.4",
        "head=per_finding",
        "head.hidden=[6,4]",
    ),
}


MAPS = {"csra": 14, "heads": 4}  # of an image


def batch(size: int) -> dict[str, torch.Tensor]:
    return {"image": torch.randint(0, 256, (size, 1, 32, 32), dtype=torch.uint8), "attributes": torch.zeros(size, 5)}


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_run_ends_with_the_same_bytes_and_its_checkpoint_gives_its_scores(
    train: Callable[..., Any],
    here: Path,
    kill: Callable[[str, int], None],  # noqa: F811
    part: str,
) -> None:
    torch.set_num_threads(1)
    straight = train(*SHORT, *PARTS[part], "name=straight")
    assert straight.code == 0, straight.err
    kill("training_step", 6)
    die(train, *SHORT, *PARTS[part], "name=killed")
    resumed = train("name=killed", "resume=true", plain=True)
    assert resumed.code == 0 and ", batch " in resumed.out, resumed.err
    same_end(here / "runs" / "killed", here / "runs" / "straight")
    loaded = load_network(here / "runs" / "straight" / "checkpoints" / "best.ckpt")
    assert len(loaded.findings) == 14
    output = loaded.network(batch(3))
    assert output.logits.shape == (3, 14) and output.attention.shape == (3, MAPS[part], 1, 1)
