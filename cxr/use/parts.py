"""The table of predictions while it is being made: finished parts in a folder, which are merged at the end."""

import csv
import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.files.reading import read_text
from cxr.files.writing import replacing, unwritable, write_text
from cxr.findings import no_formula

SUFFIXES = (".parquet", ".csv")
_PLAN, _LOCK = "plan.json", ".lock"


class Parts:
    """The folder `<out>.parts`, held by one process.

    Args:
        out: the table.
        plan: what the parts depend on.

    Raises:
        CxrError: `out` exists or has another suffix; the parts there are of another plan; another process writes them;
            or the folder cannot be written.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self.out, self.plan, self.folder = out, plan, folder_of(out)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        check_out(self.out)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            said = f"another process is writing {self.folder}; wait for it, or choose another out="
            self._stack.enter_context(locked(self.folder / _LOCK, said))
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            before = json.loads(read_text(self.folder / _PLAN))
        except (FileNotFoundError, ValueError):
            before = None
        if before != self.plan:
            if any(self.folder.glob("part-*.parquet")):
                self._stack.close()
                raise CxrError(
                    f"{self.folder} holds parts of other images or of another model; remove it, or choose another out="
                )
            write_text(self.folder / _PLAN, json.dumps(self.plan) + "\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        if kind is None:
            with suppress(OSError):  # it holds a file of somebody else
                self.folder.rmdir()

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self._path(number).exists()

    def write(self, number: int, table: pa.Table) -> None:
        """Writes a part."""
        with replacing(self._path(number)) as temporary:
            pq.write_table(table, temporary)

    def merge(self, count: int) -> int:
        """Writes the table from its parts and removes them; returns the number of refused rows.

        Raises:
            CxrError: a part is damaged, or the table cannot be written.
        """
        refused = 0
        with replacing(self.out) as temporary, ExitStack() as stack:
            write = _open_table(temporary, stack)
            for number in range(count):
                table = _read_part(self._path(number))
                refused += pc.sum(pc.equal(table["status"], "refused")).as_py() or 0
                write(table)
        for number in range(count):
            self._path(number).unlink()
        (self.folder / _PLAN).unlink()
        return refused

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"


def _read_part(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CxrError(f"{path} is damaged; remove it and run the same command again, which makes it anew") from error


def folder_of(out: Path) -> Path:
    """The folder of the parts of a table."""
    return out.with_name(f"{out.name}.parts")


def check_out(out: Path) -> None:
    """Raises CxrError if a table cannot be written to `out`: it exists, or is neither `.parquet` nor `.csv`."""
    if out.suffix.lower() not in SUFFIXES:
        raise CxrError(f"out={out} must end in {' or '.join(SUFFIXES)}")
    if os.path.lexists(out):
        raise CxrError(f"out={out} exists and is not overwritten; remove it, or choose another name")


def _open_table(path: Path, stack: ExitStack) -> Any:
    """A function that appends a table to a new file."""
    if path.suffix.lower() == ".parquet":
        writers: list[pq.ParquetWriter] = []

        def append(table: pa.Table) -> None:
            if not writers:
                writers.append(stack.enter_context(pq.ParquetWriter(path, table.schema)))
            writers[0].write_table(table)

        return append
    file = stack.enter_context(path.open("w", newline="", encoding="utf-8"))
    rows = csv.writer(file, lineterminator="\n")

    def append_rows(table: pa.Table) -> None:
        if not file.tell():
            rows.writerow([no_formula(name) for name in table.column_names])
        columns = [table[name].to_pylist() for name in table.column_names]
        for row in zip(*columns, strict=True):
            rows.writerow([no_formula(cell) if isinstance(cell, str) else cell for cell in row])

    return append_rows
