"""What keeps numbers honest: choices see validation only, every look at a test split is counted, splits are named.

The ledger `.test_ledger.csv` lies beside the runs. It has a row for every set of scores of a test split that was ever
judged there, so that a table can say how often that split has been looked at.
"""

import csv
import fcntl
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from cxr.errors import CxrError
from cxr.files import unwritable
from cxr.predictions import Predictions

LEDGER = ".test_ledger.csv"
COLUMNS = ("time", "test", "scores", "run", "by")
# SHA-256 of the sorted names of the published test_list.txt of ChestX-ray14, joined by line feeds: 25,596 images.
NIH_TEST = "38ca5ef7f756092946f57c1a59faca882ed589a1ab1f72590b45dc06c6d5e1cc"
NOT_DISJOINT = "NOT patient-disjoint"


def check_chosen_on_validation(val: Predictions, test: Predictions | None, what: str) -> None:
    """What is chosen, fitted or stopped by must be chosen on validation.

    Args:
        val: what the choice will see.
        test: what it will be judged on, if that is known.
        what: is chosen, for the message.

    Raises:
        CxrError: `val` was written as another split, or shares images with `test`.
    """
    if val.split not in ("", "val"):
        raise CxrError(
            f"{what} may be chosen on validation only; these predictions are of the split {val.split}, even if their "
            "file is called otherwise"
        )
    if test is not None:
        both = sorted(set(val.image) & set(test.image))
        if both:
            raise CxrError(
                f"{what} may be chosen on validation only, and {len(both)} of its images are test images, such as "
                f"{both[0]}; give disjoint splits"
            )


def images_sha256(images: Sequence[str]) -> str:
    """SHA-256 of image names, sorted and joined by line feeds: which split this is, wherever it comes from."""
    return sha256("\n".join(sorted(images)).encode()).hexdigest()


def describe_split(val: Predictions, test: Predictions) -> str:
    """`official NIH split`, `own patient split`, or that patients are on both sides."""
    shared = sorted(set(val.patient) & set(test.patient))
    if shared:
        return f"{NOT_DISJOINT}: {len(shared)} patients are in validation and test, such as {shared[0]}"
    return "official NIH split" if images_sha256(list(test.image)) == NIH_TEST else "own patient split"


def ledger_beside(run: Path) -> Path:
    """The ledger that counts for a run: the nearest one above it, or a new one in the folder that holds it."""
    folder = Path(run).absolute().parent
    for above in (folder, *folder.parents):
        if (above / LEDGER).is_file():
            return above / LEDGER
    return folder / LEDGER


def count_test(ledger: Path, test: Predictions, run: str, by: str) -> int:
    """Enters these scores of a test split, unless they are there, and says how many sets of scores it now has.

    Args:
        ledger: the file; it appears with its first row.
        test: predictions that are being judged.
        run: whose they are.
        by: the program.

    Returns:
        How often this split has been scored, these scores included. Without a place to write, what is known.

    Raises:
        CxrError: the disk is full.
    """
    split, scores = images_sha256(list(test.image)), _scores_sha256(test)
    try:
        with ledger.open("a+", newline="", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            rows = _rows(file.name)
            mine = {row["scores"] for row in rows if row["test"] == split}
            if scores not in mine:
                text = io.StringIO()
                writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
                if not rows and not file.tell():
                    writer.writeheader()
                now = datetime.now(UTC).isoformat(timespec="seconds")
                writer.writerow(dict(zip(COLUMNS, (now, split, scores, run, by), strict=True)))
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
            return len(mine | {scores})
    except PermissionError:
        known = {row["scores"] for row in _rows(ledger) if row["test"] == split} if ledger.exists() else set()
        return len(known | {scores})
    except OSError as error:
        raise unwritable(ledger, error) from error


def _rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if row.get("test") and row.get("scores")]


def _scores_sha256(test: Predictions) -> str:
    """The same whatever the order of images and findings."""
    rows, columns = np.argsort(test.image.astype(str), kind="stable"), np.argsort(test.findings, kind="stable")
    digest = sha256("\n".join(sorted(test.findings)).encode())
    digest.update(np.ascontiguousarray(test.score[rows][:, columns], np.float32).tobytes())
    return digest.hexdigest()
