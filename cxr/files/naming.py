"""Names that become part of file names: those of runs and of further test splits."""

import re
from collections.abc import Iterable
from pathlib import Path

from cxr.errors import CxrError

_RUN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST = 120  # characters of a run name
_TEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
CALIBRATED = "_calibrated"  # suffix of a file of calibrated scores
# Keys of `metrics.json` and files of predictions that are not further test splits.
_TAKEN = {
    "train", "val", "test", "split", "localisation", "calibration", "evaluation", "smoke", "split_fingerprint",
    "labels_sha256", "checkpoint_sha256", "best_epoch", "max_epochs", "epochs", "steps", "versions",
    "unknown_ancestry",
}  # fmt: skip


def check_name(value: str | None, option: str) -> None:
    """Raises CxrError unless a name consists of letters, digits, `.`, `_` and `-` and does not start with a dot."""
    if value is not None and not _RUN.fullmatch(str(value)):
        raise CxrError(f"{option}={value} is not a name: use letters, digits, '.', '_' and '-', not starting with '.'")
    if value is not None and len(str(value)) > _LONGEST:
        raise CxrError(f"{option}={value} has {len(str(value))} characters; a name has at most {_LONGEST}")


def is_test_name(name: str) -> bool:
    """Whether a further test split may have this name."""
    return bool(_TEST.fullmatch(name)) and name.lower() not in _TAKEN and not name.endswith(CALIBRATED)


def check_test_names(names: Iterable[str]) -> None:
    """Raises CxrError unless all names are valid for further test splits."""
    wrong = next((name for name in names if not is_test_name(name)), None)
    if wrong is not None:
        raise CxrError(
            f"a test split cannot be called {wrong!r}: use at most 60 letters, digits, _ and -, starting with a letter "
            f"or digit, not ending in {CALIBRATED}, and none of {', '.join(sorted(_TAKEN))}"
        )


def legal_name(text: str) -> str:
    """Turns any text into a run name: each sequence of other characters becomes one `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:_LONGEST] or "run"


def free_name(folder: Path, name: str) -> str:
    """The first of `name`, `name-2`, `name-3`, ... that does not exist in `folder`."""
    candidate, number = name, 1
    while (folder / candidate).exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate
