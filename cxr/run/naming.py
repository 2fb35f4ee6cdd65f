"""Names of runs and of further test splits: validation and derivation."""

import re
from collections.abc import Iterable
from pathlib import Path

from cxr.errors import CxrError

_LEGAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST = 120  # characters of a derived name
# What else `metrics.json` and the folder of predictions hold.
_TAKEN = {
    "train", "val", "test", "split", "localisation", "calibration", "evaluation", "smoke", "split_fingerprint",
    "labels_sha256", "checkpoint_sha256", "best_epoch", "max_epochs", "epochs", "steps", "versions",
    "unknown_ancestry",
}  # fmt: skip
CALIBRATED = "_calibrated"  # ends the name of a file of calibrated scores


def check_name(value: str | None, option: str) -> None:
    """Raises CxrError unless a name is made of letters, digits, `.`, `_` and `-` and does not start with a dot."""
    if value is not None and not _LEGAL.fullmatch(str(value)):
        raise CxrError(f"{option}={value} is not a name: use letters, digits, '.', '_' and '-', not starting with '.'")
    if value is not None and len(str(value)) > _LONGEST:
        raise CxrError(f"{option}={value} has {len(str(value))} characters; a name has at most {_LONGEST}")


def is_test_name(name: str) -> bool:
    """Whether a test split may have this name: valid for a run, and not used by another result."""
    return bool(_LEGAL.fullmatch(name)) and name not in _TAKEN and not name.endswith(CALIBRATED)


def check_test_names(names: Iterable[str]) -> None:
    """Raises CxrError unless all names are valid for test splits, see `is_test_name`."""
    wrong = next((name for name in names if not is_test_name(name)), None)
    if wrong is not None:
        raise CxrError(
            f"a test split cannot be called {wrong!r}: use letters, digits, '.', '_' and '-', no ending {CALIBRATED}, "
            f"and none of {', '.join(sorted(_TAKEN))}"
        )


def legal_name(text: str) -> str:
    """Turns any text into a name: runs of other characters become one `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:_LONGEST] or "run"


def free_name(folder: Path, name: str) -> str:
    """`name`, or `name-2`, `name-3`, ... whichever is the first that `folder` does not hold."""
    candidate, number = name, 1
    while (folder / candidate).exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate
