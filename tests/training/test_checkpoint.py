"""Contents of a checkpoint: the hash of its weights, a network with its run's scores, where training resumes."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from cxr.errors import CxrError
from cxr.training.build import build_task
from cxr.training.checkpoint import (
    is_within_epoch,
    load_network,
    loaded_into,
    network_state,
    parse_checkpoint,
    read_checkpoint,
    resume_position,
    state_sha256,
)  # fmt: skip
from tests.training.conftest import Trained

STATE = {
    "b": torch.tensor([[1.5, -2.0]]), "a": torch.tensor(7), "c": torch.tensor([True, False]),
    "half": torch.tensor([1.0], dtype=torch.bfloat16), "none": torch.zeros(0, 3),
}  # fmt: skip
BYTES = {
    "b": np.array([1.5, -2.0], "<f4").tobytes(), "a": np.array(7, "<i8").tobytes(), "c": b"\1\0", "half": b"\x80\x3f",
    "none": b"",
}  # fmt: skip
SHAPES = {"b": "float32 (1, 2)", "a": "int64 ()", "c": "bool (2,)", "half": "bfloat16 (1,)", "none": "float32 (0, 3)"}


def test_the_hash_of_weights_is_that_of_their_names_kinds_and_bytes() -> None:
    text = b"".join(f"{name} {SHAPES[name]}\n".encode() + BYTES[name] for name in sorted(STATE))
    assert state_sha256(STATE) == sha256(text).hexdigest()


def test_the_hash_knows_each_weight_and_neither_order_nor_layout() -> None:
    found = state_sha256(STATE)
    assert state_sha256(dict(reversed(STATE.items()))) == found
    columns = STATE | {"b": torch.tensor([[1.5], [-2.0]]).T}
    assert not torch.arange(6).reshape(2, 3).T.is_contiguous() and state_sha256(columns) == found
    maps = torch.randn(2, 3, 4, 5)
    assert state_sha256({"x": maps.to(memory_format=torch.channels_last)}) == state_sha256({"x": maps})
    changes: list[dict[str, Tensor]] = [
        {"b": torch.tensor([[1.5, -2.0000002]])}, {"b": torch.tensor([1.5, -2.0])},
        {"a": torch.tensor(7, dtype=torch.int32)},
        {"c": torch.tensor([1, 0], dtype=torch.uint8)}, {"none": torch.zeros(0, 4)}, {"d": torch.zeros(0)},
    ]  # fmt: skip
    assert len({found, *(state_sha256(STATE | change) for change in changes)}) == 1 + len(changes)


def test_a_checkpoint_rebuilds_its_network_alone_and_scores_as_the_run_did(trained: Trained) -> None:
    run = trained.run
    loaded = load_network(run.best)
    stored = json.loads(run.metrics_path.read_text())
    assert loaded.sha256 == stored["checkpoint_sha256"] and loaded.epoch == stored["best_epoch"] == 0
    assert not loaded.network.training and loaded.config["image_size"] == 32
    frame = pd.read_parquet(run.predictions("test"))
    images = []
    for name in frame["image"]:
        published = np.asarray(Image.open(Path(trained.config["data"]["root"]) / "images" / name), float)
        images.append(np.floor(published.reshape(32, 2, 32, 2).mean(axis=(1, 3)) + 0.5).astype(np.uint8))
    with torch.inference_mode():
        output = loaded.network({"image": torch.from_numpy(np.stack(images))[:, None]})
    assert output.logits.shape == (len(frame), 14) and float(output.attention[0].sum()) == pytest.approx(1)
    expected = frame[[f"score:{name}" for name in loaded.findings]].to_numpy()
    np.testing.assert_allclose(torch.sigmoid(output.logits).numpy(), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-4, "the scores differ between images"


def test_weights_of_another_network_are_refused(trained: Trained) -> None:
    loaded, path = load_network(trained.run.best), trained.run.best
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    first = next(iter(state))
    task = build_task(trained.config)
    for changed in (
        {name: value for name, value in state.items() if name != first},
        state | {first: state[first][:1]},
        state | {"network.stranger": torch.zeros(1)},
    ):
        with pytest.raises(CxrError, match=r"the weights in .*best\.ckpt do not fit its configuration"):
            loaded_into(loaded.network, checkpoint | {"state_dict": changed}, path, loaded.config, task)


def test_the_state_has_the_networks_weights_by_name_and_not_the_losss() -> None:
    ours, theirs = torch.ones(1), torch.zeros(1)
    state = {"network.head.bias": ours, "loss.scale": theirs, "network.network.x": ours}
    assert network_state({"state_dict": state}) == {"head.bias": ours, "network.x": ours}


def test_a_file_that_is_missing_or_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"nobody\.ckpt is missing; has the run written a checkpoint yet"):
        read_checkpoint(tmp_path / "nobody.ckpt")
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(99)):
        with pytest.raises(CxrError, match=r"^mine\.ckpt is not a readable checkpoint"):
            parse_checkpoint(content, Path("mine.ckpt"))


def counts(started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": started, "started": started, "processed": processed, "completed": completed}


@pytest.mark.parametrize(
    ("epochs", "batches", "expected"),
    [
        (counts(1, 0, 0), 7, (0, 7)),
        (counts(3, 3, 3), 7, (3, 0)),
        (counts(3, 2, 2), 0, (2, 0)),
        (counts(0, 0, 0), 0, (0, 0)),
    ],
)
def test_training_resumes_at_lightnings_counts(epochs: dict[str, int], batches: int, expected: tuple[int, int]) -> None:
    loop: dict[str, Any] = {
        "epoch_progress": {"current": epochs},
        "epoch_loop.batch_progress": {"current": counts(batches, batches, batches)},
    }
    assert resume_position({"loops": {"fit_loop": loop}}) == expected
    assert is_within_epoch(epochs) == (epochs["started"] > epochs["processed"])


def test_the_checkpoint_of_a_finished_epoch_resumes_with_the_next(trained: Trained) -> None:
    assert resume_position(torch.load(trained.run.last, weights_only=True)) == (1, 0)
