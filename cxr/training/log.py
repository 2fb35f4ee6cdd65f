"""The logs of a run: `metrics.csv`, one row per epoch, which is also printed, and `steps.csv`, one row every few steps.

Both are continued when a run resumes.
"""

import csv
import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cxr.errors import CxrError
from cxr.files.reading import no_link, read_text
from cxr.files.writing import replacing, unwritable
from cxr.task.base import ClassificationTask

_FIRST, _LAST = ("epoch", "step", "lr", "train/loss", "val/loss"), ("images_per_second",)
_METRIC = re.compile(r"(train|val)/[a-z][a-z0-9_]*")
_LONGEST_EPOCHS, _LONGEST_STEPS = 1 << 24, 1 << 27  # bytes; a row has 200 and 60
STEP_COLUMNS = ("step", "epoch", "loss", "lr")
_LABELS = {"macro_auroc": "AUROC"}


class EpochLog(Callback):
    """Writes the epoch's metrics as a row of a CSV file, and prints them as one line.

    The columns are those of every run, and the metrics of the task for training and validation.

    Args:
        path: the file. When a run resumes, rows from the resumed epoch on are replaced.
        show: print the line.
    """

    def __init__(self, path: Path, show: bool) -> None:
        self.path, self.show = path, show
        self._began = 0.0
        self._training_seconds = 0.0
        self._share = 1.0  # of the epoch's images that were trained on since the start of this process

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._began, self._share = time.perf_counter(), 1.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock; also for a run that resumes in the middle of an epoch."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self._began, self._share = time.perf_counter(), 1 - done / max(1, trainer.num_training_batches)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock, since images per second count training only."""
        self._training_seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes and prints the epoch, on the first rank."""
        if not trainer.is_global_zero:
            return
        values: dict[str, Any] = {key: float(value) for key, value in trainer.callback_metrics.items()}
        values |= {"epoch": trainer.current_epoch, "step": trainer.global_step}
        images = self._share * len(trainer.train_dataloader.dataset)  # type: ignore[union-attr]
        values["images_per_second"] = round(images / max(self._training_seconds, 1e-9), 1)
        rows = [row for row in read_rows(self.path) if int(row["epoch"]) < trainer.current_epoch]
        assert isinstance(pl_module, ClassificationTask)
        logged = [f"{stage}/{name}" for name in pl_module.logged for stage in ("train", "val")]
        columns = (*_FIRST, *logged, *_LAST)
        rows.append({column: values.get(column, "") for column in columns})
        _write_rows(self.path, columns, rows)
        if self.show:
            name = pl_module.logged[0]
            last = (trainer.max_epochs or 0) if trainer.max_epochs != -1 else "?"
            print(
                f"epoch {trainer.current_epoch + 1}/{last}  step {trainer.global_step}  "
                f"loss {shown(values['train/loss'])} train {shown(values['val/loss'])} val  "
                f"{_LABELS.get(name, name)} {shown(values[f'train/{name}'])} train {shown(values[f'val/{name}'])} val  "
                f"{values['images_per_second']:.0f} images/s",
                flush=True,
            )


class StepLog(Callback):
    """Appends a row to `steps.csv` every `trainer.log_every_n_steps` optimizer steps.

    When a run resumes, rows after the step of its checkpoint are removed, and written again by the resumed training.

    Args:
        path: the file, which the first rank writes.
        every: steps between two rows.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._file: IO[str] | None = None
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Removes the rows after the restored step, and opens the file for appending."""
        self._step = trainer.global_step
        if trainer.is_global_zero:
            rows = [row for row in read_steps(self.path) if int(row["step"]) <= self._step]
            _write_rows(self.path, STEP_COLUMNS, rows)
            self._file = open(self.path, "a", newline="", encoding="utf-8", opener=no_link)  # noqa: SIM115

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes the row of a step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._file is None or self._step % self.every:
            return
        assert isinstance(pl_module.step_loss, Tensor)
        loss, rate = float(pl_module.step_loss), float(trainer.optimizers[0].param_groups[0]["lr"])
        try:
            self._file.write(f"{self._step},{trainer.current_epoch},{loss!r},{rate!r}\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error
        for logger in trainer.loggers:
            logger.log_metrics({"train/step_loss": loss, "epoch": trainer.current_epoch}, step=self._step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the file."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Closes the file after an error, also on a full disk; complete rows are already written."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def shown(value: float | None) -> str:
    """A metric as it is printed."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.4f}"


def read_steps(path: Path) -> list[dict[str, str]]:
    """The rows of `steps.csv` as strings, up to one that a kill left incomplete; empty if the file is missing.

    Raises:
        CxrError: its first line is not the header, or it cannot be read.
    """
    try:
        lines = read_text(path, _LONGEST_STEPS).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    if lines and lines[0].rstrip("\r\n") != ",".join(STEP_COLUMNS):
        raise CxrError(f"{path} line 1 is not {','.join(STEP_COLUMNS)}; restore the file or remove it")
    rows = []
    for line in lines[1:]:
        values = line.rstrip("\n").split(",")
        if not line.endswith("\n") or len(values) != len(STEP_COLUMNS) or not _is_count(values[0]):
            break
        rows.append(dict(zip(STEP_COLUMNS, values, strict=True)))
    return rows


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of `metrics.csv` as strings; empty if the file is missing.

    Raises:
        CxrError: it cannot be read, has an unknown column, or a row without a valid epoch.
    """
    try:
        text = read_text(path, _LONGEST_EPOCHS)
    except FileNotFoundError:
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        names = next(reader, ["epoch"])  # an empty file has no header
        unknown = sorted(name for name in {*names} - {*_FIRST, *_LAST} if not _METRIC.fullmatch(name))
        if unknown or "epoch" not in names:
            problem = f"has the unknown column {unknown[0]!r}" if unknown else "lacks the column 'epoch'"
            raise CxrError(f"{path} line 1 {problem}; restore the file or remove it")
        for values in filter(None, reader):
            row, problem = dict(zip(names, values, strict=False)), ""
            if len(values) != len(names):
                problem = f" has {len(values)} values for {len(names)} columns"
            elif not _is_count(row["epoch"]):
                problem = f": 'epoch' is {row['epoch'][:20]!r}; it must be a whole number"
            if problem:
                raise CxrError(f"{path} line {reader.line_num}{problem}; restore the file or remove it")
            rows.append(row)
    except csv.Error as error:
        raise CxrError(f"{path} line {reader.line_num}: {error}; restore the file or remove it") from None
    return rows


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 16


def read_log(path: Path) -> pd.DataFrame:
    """`metrics.csv` as numbers, one row per epoch; values that are not finite numbers are NaN."""
    rows = read_rows(path)
    columns = list(dict.fromkeys([*_FIRST, *(rows[-1] if rows else ()), *_LAST]))
    numbers = pd.DataFrame(rows, columns=columns).apply(pd.to_numeric, errors="coerce")
    return numbers.replace([math.inf, -math.inf], math.nan)
