"""Runs without test scores, among them smoke runs, which only check that training works."""

from collections.abc import Mapping
from typing import Any

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
