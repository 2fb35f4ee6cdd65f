"""What keeps numbers honest: choices see validation only, every look at a test split is counted, splits are named.

The ledger `.test_ledger.csv` lies beside the runs. It has a row for every set of scores of a test split that was ever
judged there, so that a table can say how often that split has been looked at.
"""

import csv
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from cxr.data.split import alike_but_zeros
from cxr.errors import CxrError
from cxr.files import locked, no_link, open_regular, unwritable
from cxr.predictions import Predictions
from cxr.runs import legal_name

LEDGER = ".test_ledger.csv"
_PATIENCE = 60  # seconds that a program waits for others to enter their scores
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
    """`official NIH split` or `own patient split`, and ids that differ only by zeros; or patients on both sides."""
    shared = sorted(set(val.patient) & set(test.patient))
    if shared:
        return f"{NOT_DISJOINT}: {len(shared)} patients are in validation and test, such as {shared[0]}"
    kind = "official NIH split" if images_sha256(list(test.image)) == NIH_TEST else "own patient split"
    own = {*val.patient}
    alike = [pair for pair in alike_but_zeros([*own, *test.patient]) if (pair[0] in own) != (pair[1] in own)]
    if alike:
        kind += f"; patients {alike[0][0]} and {alike[0][1]} differ only by leading zeros and count as two"
    return kind


def ledger_beside(run: Path) -> Path:
    """The ledger that counts for a run: the nearest one above it, or a new one in the folder that holds it.

    Raises:
        CxrError: it is a link, or no file.
    """
    folder = Path(run).absolute().parent
    there = (above / LEDGER for above in (folder, *folder.parents) if os.path.lexists(above / LEDGER))
    ledger = next(there, folder / LEDGER)
    _refuse_links(ledger)
    return ledger


def count_test(ledger: Path, test: Predictions, run: str, by: str) -> int:
    """Enters these scores of a test split, unless they are there, and says how many sets of scores it now has.

    Args:
        ledger: the file; it appears with its first row.
        test: predictions that are being judged.
        run: whose they are; entered as a legal name of a run.
        by: the program.

    Returns:
        How often this split has been scored, these scores included. Without a place to write, what is known.

    Raises:
        CxrError: the disk is full, the ledger is a link, or another process keeps it locked.
    """
    _refuse_links(ledger)
    split, scores = images_sha256(list(test.image)), _scores_sha256(test)
    try:
        with locked(_lock_of(ledger), f"another process has locked {ledger}; wait for it and run again", _PATIENCE):
            rows = _rows(ledger)
            mine = {row["scores"] for row in rows if row["test"] == split}
            if scores not in mine:
                text = io.StringIO()
                writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
                now = datetime.now(UTC).isoformat(timespec="seconds")
                row = dict(zip(COLUMNS, (now, split, scores, legal_name(run), legal_name(by)), strict=True))
                with open(ledger, "a", newline="", encoding="utf-8", opener=no_link) as file:
                    if not file.tell():
                        writer.writeheader()
                    writer.writerow(row)
                    file.write(text.getvalue())
                    file.flush()
                    os.fsync(file.fileno())
            return len(mine | {scores})
    except PermissionError:
        return len({row["scores"] for row in _rows(ledger) if row["test"] == split} | {scores})
    except OSError as error:
        raise unwritable(ledger, error) from error


def _lock_of(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.lock")


def _refuse_links(ledger: Path) -> None:
    for path in (ledger, _lock_of(ledger)):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise CxrError(f"{path} is a link or no regular file, and nothing is written through it; remove it")


def _rows(ledger: Path) -> list[dict[str, str]]:
    try:
        with open_regular(ledger) as content, TextIOWrapper(content, "utf-8", "replace", newline="") as file:
            return [row for row in csv.DictReader(file) if row.get("test") and row.get("scores")]
    except FileNotFoundError:
        return []
    except csv.Error as error:
        raise CxrError(f"{ledger} cannot be read as a CSV table: {error}; restore it") from None


def _scores_sha256(test: Predictions) -> str:
    """The same whatever the order of images and findings."""
    rows, columns = np.argsort(test.image.astype(str), kind="stable"), np.argsort(test.findings, kind="stable")
    digest = sha256("\n".join(sorted(test.findings)).encode())
    digest.update(np.ascontiguousarray(test.score[rows][:, columns], np.float32).tobytes())
    return digest.hexdigest()
