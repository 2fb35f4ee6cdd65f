"""Runs without test scores, among them smoke runs, which only check that training works."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.errors import CxrError
from cxr.run.folds import fold_of


def is_smoke(config: Mapping[str, Any]) -> bool:
    """Whether a run is a smoke run, which trains on a few batches and is never evaluated on test.

    `smoke: true`, which the `debug` options set, and `fast_dev_run` and `overfit_batches` of the Trainer make a smoke
    run. `limit_train_batches` does not.
    """
    trainer = config.get("trainer")
    limited = isinstance(trainer, Mapping) and any(trainer.get(key) for key in ("fast_dev_run", "overfit_batches"))
    return limited or bool(config.get("smoke"))


def scores_test(config: Mapping[str, Any]) -> bool:
    """Whether a training ends with scores of its test splits; smoke runs and folds never do."""
    return bool(config.get("score_test", True)) and not is_smoke(config) and fold_of(config) is None


def smoke_refused(path: Path) -> CxrError:
    """The error for a smoke run given to a program that needs results."""
    return CxrError(
        f"{path} is a smoke run (debug=, trainer.fast_dev_run or overfit_batches) without results; train it without "
        "that option"
    )


def print_skipped(smoke: Sequence[Path]) -> None:
    """Prints the smoke runs that a glob skipped, if any."""
    if smoke:
        shown = ", ".join(str(path) for path in smoke[:3]) + (", ..." if len(smoke) > 3 else "")
        print(f"{len(smoke)} smoke run{'s' * (len(smoke) > 1)} skipped: {shown}", flush=True)
