"""Which trainings end without scores of test; among them smoke runs, which only try that everything works."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.errors import CxrError
from cxr.run.folds import fold_of


def is_smoke(config: Mapping[str, Any]) -> bool:
    """Whether a run is a smoke test: it trains on a few batches and is never evaluated on test.

    The mark `smoke: true` makes it one, which the options of `debug` set, and so do `fast_dev_run` and
    `overfit_batches` of the Trainer; `limit_train_batches` shortens epochs of a run whose numbers count.
    """
    trainer = config.get("trainer")
    limited = isinstance(trainer, Mapping) and any(trainer.get(key) for key in ("fast_dev_run", "overfit_batches"))
    return limited or bool(config.get("smoke"))


def scores_test(config: Mapping[str, Any]) -> bool:
    """Whether a training ends with scores of its test splits; smoke runs and folds never do."""
    return bool(config.get("score_test", True)) and not is_smoke(config) and fold_of(config) is None


def smoke_refused(path: Path) -> CxrError:
    """The sentence for a smoke run that is named where results count."""
    return CxrError(
        f"{path} is a smoke run (debug=, trainer.fast_dev_run or overfit_batches): it tried that all works, and has no "
        "result; train it without that option"
    )


def say_left_out(smoke: Sequence[Path]) -> None:
    """Prints which smoke runs a glob passed over, if any."""
    if smoke:
        shown = ", ".join(str(path) for path in smoke[:3]) + (", ..." if len(smoke) > 3 else "")
        print(f"{len(smoke)} smoke run{'s' * (len(smoke) > 1)} left out: {shown}", flush=True)
