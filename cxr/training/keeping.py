"""When checkpoints are written: after optimizer steps, between epochs, at the end, and on a request to stop."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from cxr.errors import CxrError
from cxr.processes.stopping import Stopped, requests
from cxr.run.directory import Run
from cxr.task.base import ClassificationTask, Monitor
from cxr.training.callbacks.ema import averaged
from cxr.training.checkpoint import is_within_epoch


class RunCheckpoints(Checkpoint):
    """Writes `last.ckpt`, from which training resumes, and `best.ckpt`, the epoch that the task selects.

    `last` contains the raw weights. With weight averaging, the best epochs contain the averages, which were validated.

    `last` is written after optimizer steps, when an interval is over; between epochs, after schedulers and early
    stopping; and at the end of training. After the last step of an epoch it is written after the validation. If the
    process has received a signal, it stops after the next `last`.

    Args:
        run: the run; files are written to its `checkpoints/`.
        monitor: the value that selects the best epochs.
        every_steps: optimizer steps between two writes of `last`; by default it is written between epochs only.
        every_seconds: the same in seconds.
        keep_best: how many of the best epochs are kept; if more than one, each is also saved as `epoch-<n>.ckpt`.
    """

    def __init__(
        self,
        run: Run,
        monitor: Monitor,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep_best: int = 1,
    ) -> None:
        self.run, self.monitor = run, monitor
        self.every_steps, self.every_seconds, self.keep_best = every_steps, every_seconds, keep_best
        self.best: list[tuple[float, int]] = []  # value (negative where less is better) and epoch, best first

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clocks.

        Raises:
            CxrError: the state of a callback could be written and not be read again.
        """
        _refuse_objects({callback.state_key: callback.state_dict() for callback in trainer.callbacks})  # type: ignore[attr-defined]
        self._began = trainer.current_epoch
        self._step = self._next_check = self._saved_step = trainer.global_step
        self._saved = self._checked = time.monotonic()
        requests.can_wait = True
        requests.listen()  # replaces Lightning's signal handlers, which would wait for other ranks

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes `last.ckpt` after an optimizer step when it is due."""
        if trainer.global_step == self._step:
            return  # inside an accumulation window; checkpoints do not contain its gradients
        self._step = trainer.global_step
        due = bool(self.every_steps) and self._step - self._saved_step >= (self.every_steps or 0)
        by_clock, stop = self._asked(trainer)
        if (due or by_clock or stop) and not trainer.is_last_batch:
            self._save_last(trainer)
            self._stop_if(stop, trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `best.ckpt` if this epoch is the best; as long as the value is undefined, the latest epoch is.

        From the task's `switch_epoch` on, earlier epochs no longer compete.
        """
        value, epoch = float(trainer.callback_metrics[self.monitor.name]), trainer.current_epoch
        score = -math.inf if math.isnan(value) else value if self.monitor.mode == "max" else -value
        former = set(self.best)
        assert isinstance(pl_module, ClassificationTask)
        if epoch == pl_module.switch_epoch:
            self.best = []
        best = not self.best or score > self.best[0][0] or score == -math.inf == self.best[0][0]
        ranked = sorted([*self.best, (score, epoch)], key=lambda one: (-one[0], one[1]))
        if best:  # also the latest of several epochs without a value
            ranked = [(score, epoch), *(one for one in ranked if one[1] != epoch)]
        self.best = ranked[: self.keep_best]
        kept = self.keep_best > 1 and (score, epoch) in self.best
        paths = [self.run.best] * best + [self._of_epoch(epoch)] * kept
        with averaged(trainer):
            for path in paths:
                trainer.save_checkpoint(path, weights_only=True)
        if trainer.is_global_zero:
            for _, worse in (former | set(ranked)) - set(self.best):
                trainer.strategy.remove_checkpoint(self._of_epoch(worse))

    def _of_epoch(self, epoch: int) -> Path:
        return self.run.best.with_name(f"epoch-{epoch}.ckpt")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes `last.ckpt` if an epoch was completed since training started or resumed."""
        if trainer.current_epoch > self._began:
            self._save_last(trainer)
        self._stop_if(trainer.strategy.broadcast(requests.received), trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the last `last.ckpt`."""
        self._save_last(trainer)
        requests.can_wait = False
        self._stop_if(trainer.strategy.broadcast(requests.received), trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A request to stop no longer waits for a checkpoint."""
        requests.can_wait = False

    def _stop_if(self, signal: str | None, trainer: pl.Trainer) -> None:
        if signal:
            raise Stopped(
                f"stopped by {signal} after step {trainer.global_step}: {self.run.last} is written; the same command "
                "with resume=true resumes"
            )

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.run.last)
        self._saved, self._saved_step = time.monotonic(), trainer.global_step

    def _asked(self, trainer: pl.Trainer) -> tuple[bool, str | None]:
        """Whether `every_seconds` have passed, and the signal to stop, if any.

        The first rank decides for all. It does so about once a second, since the other ranks wait for it.
        """
        if self._step < self._next_check:
            return False, None
        now = time.monotonic()
        a_step = (now - self._checked) / max(1, self._step - (self._checked_step or self._step - 1))
        self._checked, self._checked_step = now, self._step
        seconds = self.every_seconds or math.inf
        pause = max(1, int(min(1.0, seconds / 10) / max(a_step, 1e-6)))
        answer = (now - self._saved >= seconds, requests.received, self._step + pause)
        due, stop, self._next_check = trainer.strategy.broadcast(answer)
        return due, stop

    _checked_step: int | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Between epochs, resets Lightning's counts, which include the next epoch: resuming would skip it."""
        _refuse_objects(checkpoint["callbacks"])
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        if is_within_epoch(progress["current"]):
            return
        for counts in progress.values():
            counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), counts["completed"]))

    def state_dict(self) -> dict[str, Any]:
        """The best epochs so far and their values."""
        return {"best": [list(one) for one in self.best]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores them."""
        self.best = [(float(score), int(epoch)) for score, epoch in state_dict.get("best", [])]


def _refuse_objects(states: Mapping[str, Any]) -> None:
    """Raises CxrError if the state of a callback cannot be read without unpickling."""
    for name, state in states.items():
        if not _is_plain(state):
            raise CxrError(
                f"the state of the callback {name} cannot be saved; its state_dict() may contain only tensors, "
                "numbers, strings, lists, tuples and dicts"
            )


def _is_plain(state: object) -> bool:
    if isinstance(state, dict):
        return all(map(_is_plain, state)) and all(map(_is_plain, state.values()))
    if type(state) in (list, tuple):
        return all(map(_is_plain, state))  # type: ignore[call-overload]
    return state is None or type(state) in (bool, int, float, str, bytes, Tensor)
