"""Going on in the middle of an epoch: whose batches count, random states, and scores and sums of every rank."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.task.multi_label import MultiLabel
from cxr.training.resumption import (
    MidEpoch,
    batches_done,
    random_states,
    read_resume_checkpoint,
    set_random_states,
)  # fmt: skip
from cxr.training.saving import write_checkpoint
from tests.training.conftest import Trained
from tests.training.constant import Constant, bce


def checkpoint(had: int, ranks: int = 1, within: bool = True) -> dict[str, Any]:
    """The counts of a run that was stopped in its third epoch after so many batches, as Lightning writes them."""
    epoch = {"ready": 3, "started": 3, "processed": 2 if within else 3, "completed": 2 if within else 3}
    batches = dict.fromkeys(("ready", "started", "processed", "completed"), had)
    loop = {"epoch_progress": {"current": epoch}, "epoch_loop.batch_progress": {"current": batches}}
    return {"loops": {"fit_loop": loop}, "callbacks": {"MidEpoch": {"random": [{}] * ranks}}}


@pytest.mark.parametrize(
    ("had", "then", "now", "here"), [(6, 1, 1, 6), (6, 1, 2, 3), (6, 1, 3, 2), (3, 2, 1, 6), (3, 4, 2, 6), (2, 3, 6, 1)]
)
def test_the_images_that_were_had_are_whole_batches_of_the_processes_now(
    had: int, then: int, now: int, here: int
) -> None:
    assert batches_done(checkpoint(had, then), 8, now) == here and had * then == here * now


def test_images_that_the_processes_now_do_not_share_are_refused_with_the_number_that_do() -> None:
    with pytest.raises(
        CxrError, match=r"after 80 images of an epoch on 2 device\(s\), .* 3 devices .* trainer\.devices=2"
    ):
        batches_done(checkpoint(5, 2), 8, 3)


def test_between_epochs_any_number_of_processes_resumes() -> None:
    between = checkpoint(5, 2, within=False)
    assert batches_done(between, 8, 3) == 0 and batches_done(between | {"callbacks": {}}, 8, 7) == 0


def drawn() -> tuple[float, float, float, float]:
    """One number of each generator, and a normal one, of which NumPy keeps the second."""
    return random.random(), float(np.random.rand()), float(np.random.normal()), float(torch.rand(()))  # noqa: NPY002


def test_random_states_come_back_through_a_file_that_is_read_without_unpickling(tmp_path: Path) -> None:
    random.gauss(0, 1)
    np.random.normal()  # noqa: NPY002
    torch.save(random_states(), tmp_path / "states.ckpt")
    expected = [drawn() for _ in range(3)]
    assert len(set(expected)) == 3
    set_random_states(torch.load(tmp_path / "states.ckpt", weights_only=True))
    assert [drawn() for _ in range(3)] == expected


def task() -> MultiLabel:
    made = MultiLabel().attach(Constant(), bce(), ["a", "b"], torch.optim.SGD)  # type: ignore[arg-type]
    made._trainer = SimpleNamespace(world_size=1, current_epoch=0)  # type: ignore[assignment]
    return made


SCORES = (torch.arange(4), torch.arange(8.0).reshape(4, 2), torch.tensor([[1.0, 0.0]] * 4))  # index, logits, target
SUMS = torch.tensor([2.5, 8.0], dtype=torch.float64)


def restored(state: dict[str, Any], rank: int, ranks: int, batch: int = 2) -> MultiLabel:
    """The task of a rank that resumes from a state before its batch number 2."""
    callback, made = MidEpoch(2), task()
    trainer: Any = SimpleNamespace(world_size=ranks, global_rank=rank)
    callback.setup(trainer, made, "fit")
    callback.load_state_dict(state)
    callback.on_train_batch_start(trainer, made, None, batch)
    return made


def test_what_was_scored_comes_back_and_only_within_an_epoch() -> None:
    first = task()
    first.train_scores.restore(SCORES, SUMS)
    callback = MidEpoch(2)
    callback.setup(SimpleNamespace(), first, "fit")  # type: ignore[arg-type]
    state = callback.state_dict()
    assert [tuple(part.shape) for part in state["scores"]] == [(1, 4), (1, 4, 2), (1, 4, 2)]
    again = restored(state, 0, 1).train_scores
    kept = again.state()
    assert kept is not None and all(torch.equal(mine, theirs) for mine, theirs in zip(kept, SCORES, strict=True))
    assert again.sums is not None and torch.equal(again.sums, SUMS)
    assert restored(state, 0, 1, batch=0).train_scores.state() is None, "an epoch begins with nothing"


def test_an_epoch_of_nothing_yet_has_no_scores() -> None:
    callback = MidEpoch(2)
    callback.setup(SimpleNamespace(), task(), "fit")  # type: ignore[arg-type]
    state = callback.state_dict()
    assert state["scores"] is None and state["sums"] is None and len(state["random"]) == 1


@pytest.mark.parametrize(("then", "now"), [(1, 1), (1, 3), (2, 2), (2, 3), (4, 1)])
def test_other_processes_share_every_score_once_and_the_sums_once(then: int, now: int) -> None:
    index = torch.arange(then * 5).reshape(then, 5)
    logits = index[..., None].float().expand(-1, -1, 2)
    sums = torch.arange(then * 2.0, dtype=torch.float64).reshape(then, 2)
    state = {"scores": [index, logits, logits], "sums": sums, "random": [random_states()] * then}
    parts: list[tuple[Tensor, ...]] = []
    total = torch.zeros(2, dtype=torch.float64)
    for rank in range(now):
        scores = restored(state, rank, now).train_scores
        kept = scores.state()
        assert kept is not None and scores.sums is not None
        parts.append(kept)
        total += scores.sums
    assert len({len(part[0]) for part in parts}) == 1, "ranks gather parts of one length"
    rows = torch.cat([part[0] for part in parts])
    assert sorted(rows[rows >= 0].tolist()) == list(range(then * 5)) and set(rows[rows < 0].tolist()) <= {-1}
    shown = torch.cat([part[1] for part in parts])[rows >= 0]
    assert torch.equal(shown[:, 0], rows[rows >= 0].float())
    assert torch.equal(total, sums.sum(dim=0))


def test_the_newest_undamaged_checkpoint_is_read_with_its_position(trained: Trained, tmp_path: Path) -> None:
    found = read_resume_checkpoint(trained.run, 8, 3)
    assert found is not None and (found.path, found.start) == (trained.run.last, (1, 0))
    assert found.content["cxr"]["findings"] and found.content["global_step"] > 0
    assert read_resume_checkpoint(Run(tmp_path / "new"), 8, 1) is None


def test_a_checkpoint_of_anything_else_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    write_checkpoint({"state_dict": {}, "epoch": 0}, run.last)
    with pytest.raises(CxrError, match=r"last\.ckpt is not a checkpoint of this framework"):
        read_resume_checkpoint(run, 8, 1)
