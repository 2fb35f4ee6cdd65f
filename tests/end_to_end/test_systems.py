"""The parts of published systems train, rebuild from their checkpoint, and resume to the byte after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cxr.findings import NIH14
from cxr.training.checkpoint import load_network
from tests.end_to_end.test_resume import die, kill, same_end, steps  # noqa: F401  # fixtures

SHORT = (
    "trainer.max_epochs=2", "synthetic_batch_size=32", "trainer.log_every_n_steps=1", "checkpoint.every_steps=1",
    "checkpoint.every_seconds=null", "optimizer.lr=3e-3",
)  # fmt: skip
PARTS = {
    "tree": ("attention=csra", "attention.heads=2", "head.dropout=0.2", "task=nih_tree", "task.conditional_epochs=1"),
    "heads": (
        "attention=multi_head",
        "fusion=join",
        "fusion.attribute_dropout=0.4",
        "head=per_finding",
        "head.hidden=[6,4]",
        "optimizer.groups.layer_decay=0.7",
        "optimizer.groups.decay_norms=false",
        "callbacks=ema",
    ),
}


MAPS = {"tree": 17, "heads": 4}  # of an image


FINDINGS = (*NIH14, "Opacity", "Pleural", "Chronic")


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
    assert loaded.findings == FINDINGS[: 17 if part == "tree" else 14]
    output = loaded.network(batch(3))
    assert output.logits.shape == (3, len(loaded.findings)) and output.attention.shape == (3, MAPS[part], 1, 1)
    metrics = json.loads((here / "runs" / "straight" / "metrics.json").read_text())
    table = pd.read_csv(here / "runs" / "straight" / "evaluation" / "auroc.csv")
    assert ("attributes_only" in metrics["train"]) == ("auroc_attributes_only" in table) == (part == "heads")
    if part == "heads":
        alone = metrics["test"]["attributes_only"]
        assert alone["auroc"].keys() == set(FINDINGS[:14]) and 0 < alone["macro_auroc"] < 1
        assert "age, sex and view alone" in (here / "runs" / "straight" / "evaluation" / "auroc.md").read_text()
    if part == "tree":
        assert "task.hierarchy: no label contradicts it" in straight.out
        for split in ("val", "test"):
            scores = pd.read_parquet(here / "runs" / "straight" / "predictions" / f"{split}.parquet")
            for child in ("Mass", "Pneumonia", "Edema"):
                assert (scores[f"score:{child}"] <= scores["score:Opacity"]).all()
        assert metrics["val"]["auroc"].keys() == set(FINDINGS)
