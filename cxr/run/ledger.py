"""The test ledger `.test_ledger.csv` next to the runs: one row for each set of scores evaluated on a test split."""

import csv
import io
import os
import stat
from datetime import UTC, datetime
from hashlib import sha256
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.files.naming import legal_name
from cxr.files.reading import no_link, open_regular
from cxr.files.writing import unwritable
from cxr.run.predictions import Predictions
from cxr.run.splits import images_sha256

LEDGER = ".test_ledger.csv"
_PATIENCE = 60  # seconds to wait for other programs that write to the ledger
COLUMNS = ("time", "test", "scores", "run", "by")


def ledger_beside(run: Path) -> Path:
    """The path of a run's ledger: the nearest existing one in its parent folders, otherwise in its parent.

    Raises:
        CxrError: it is a link or not a file.
    """
    folder = Path(run).absolute().parent
    there = (above / LEDGER for above in (folder, *folder.parents) if os.path.lexists(above / LEDGER))
    ledger = next(there, folder / LEDGER)
    _refuse_links(ledger)
    return ledger


def count_test(ledger: Path, test: Predictions, run: str, by: str) -> int:
    """Records these scores of a test split once, and returns how many sets of scores the split now has.

    Args:
        run: name of the run; other characters than those of a run name are replaced.

    Returns:
        How often this split has been scored, these scores included. If the ledger is not writable, it is not updated.

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
        try:
            regular = stat.S_ISREG(os.lstat(path).st_mode)
        except FileNotFoundError:
            continue
        if not regular:
            raise CxrError(f"{path} is not a regular file and is not written; remove it")


def _rows(ledger: Path) -> list[dict[str, str]]:
    try:
        with open_regular(ledger) as content, TextIOWrapper(content, "utf-8", "replace", newline="") as file:
            return [row for row in csv.DictReader(file) if row.get("test") and row.get("scores")]
    except FileNotFoundError:
        return []
    except csv.Error as error:
        raise CxrError(f"{ledger} cannot be read as a CSV table: {error}; restore it") from None


def _scores_sha256(test: Predictions) -> str:
    """A hash of the scores that does not depend on the order of images and findings."""
    rows, columns = np.argsort(test.image.astype(str), kind="stable"), np.argsort(test.findings, kind="stable")
    digest = sha256("\n".join(sorted(test.findings)).encode())
    digest.update(np.ascontiguousarray(test.score[rows][:, columns], np.float32).tobytes())
    return digest.hexdigest()
