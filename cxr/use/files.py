"""Scores many image files into a table, a row for each: several threads decode, finished parts survive a stop."""

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from cxr.errors import CxrError
from cxr.files.reading import reason
from cxr.imaging.decode import BadImage, gray_with_remarks, read_file
from cxr.use.maps import write_maps
from cxr.use.parts import Parts
from cxr.use.scoring import Floats, Model, Views
from cxr.use.unusual import VALUES

ROWS = 1024  # of a part
_AHEAD = 2  # batches that are decoded ahead


@dataclass(frozen=True)
class Inputs:
    """Image files in the order of the rows.

    Attributes:
        names: (N,) what the column `image` says.
        paths: (N,) the files; empty where a table names one that does not exist.
        attributes: (N, 5) float32, see `Model.score_views`, or None.
    """

    names: Sequence[str]
    paths: Sequence[str]
    attributes: Floats | None = None

    def sha256(self) -> str:
        """Of names, files and attributes: other inputs have another one."""
        digest = sha256("\n".join([*self.names, "", *self.paths]).encode("utf-8", "surrogateescape"))
        digest.update(b"" if self.attributes is None else self.attributes.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Read:
    """A file that was read: its SHA-256, and its image, or why it is refused."""

    source: str = ""
    views: Views = ()
    shape: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    reason: str = ""


def score_files(
    model: Model, inputs: Inputs, out: Path, batch_size: int = 16, workers: int = 0, maps: Path | None = None
) -> int:
    """Writes the table of all files and returns how many could not be used.

    Finished parts are kept in the folder `<out>.parts` until the table is complete; the same call continues after them.

    Args:
        model: what scores.
        inputs: N files.
        out: the table, `.parquet` or `.csv`; it must not exist.
        batch_size: images that the networks score at once.
        workers: threads that read and decode; 0 for one per core.
        maps: folder for attention maps, or None.

    Raises:
        CxrError: `out` exists or cannot be written, its parts belong to other inputs or another model, the networks
            have no attention maps, or a disk fails.
    """
    if maps is not None and not any(member.maps for member in model.system.members):
        raise CxrError(f"maps={maps}: {model.system.name} has no attention maps; leave maps out")
    plan = {"model": model.system.model, "digest": model.digest, "inputs": inputs.sha256(), "rows": ROWS}
    workers = workers or len(os.sched_getaffinity(0))
    ahead = _AHEAD * batch_size + workers
    cv2.setNumThreads(0)
    with Parts(out, plan | {"maps": str(maps or "")}) as parts, ThreadPoolExecutor(workers) as pool:
        count = len(inputs.paths)
        with tqdm(total=count, desc="scoring", unit="image", disable=not sys.stderr.isatty()) as progress:
            for number, start in enumerate(range(0, count, ROWS)):
                rows = range(start, min(start + ROWS, count))
                if parts.has(number):
                    progress.update(len(rows))
                else:
                    read = _shown(progress, _read_all(model, inputs.paths, rows, pool, ahead))
                    parts.write(number, _score_rows(model, inputs, rows, read, batch_size, maps))
        return parts.merge(-(-count // ROWS))


def _shown(progress: Any, read: Iterator[tuple[int, _Read]]) -> Iterator[tuple[int, _Read]]:
    for one in read:
        yield one
        progress.update()


def _score_rows(
    model: Model, inputs: Inputs, rows: range, read: Iterable[tuple[int, _Read]], batch_size: int, maps: Path | None
) -> pa.Table:
    """The table of some rows."""
    system = model.system
    kinds = ["score", *["calibrated"] * (system.scaling is not None), *(f"call:{name}" for name in system.points)]
    values = {kind: np.full((len(rows), len(system.findings)), np.nan, np.float32) for kind in kinds}
    states, reasons, warnings, sources = list[str](), list[str](), list[str](), list[str]()
    unusual = np.full((len(rows), len(VALUES)), np.nan, np.float32)
    waiting = dict[int, _Read]()

    def score() -> None:
        taken, shown = list(waiting), [one.views for one in waiting.values()]
        attributes = None if inputs.attributes is None else inputs.attributes[taken]
        scores = model.score_views(shown, attributes)
        calibrated = [] if scores.calibrated is None else [scores.calibrated]
        for kind, block in zip(kinds, (scores.score, *calibrated, *scores.calls.values()), strict=True):
            values[kind][np.array(taken) - rows.start] = block
        for place, (row, one) in enumerate(waiting.items()):
            features = None if scores.features is None else scores.features[place]
            found, each = model.unusual(one.shape, one.views, features)
            warnings[row - rows.start] = "; ".join([*one.remarks, *found])
            if each is not None:
                unusual[row - rows.start] = each
        if maps is not None:
            names = [f"{row:07d}-{Path(inputs.names[row]).stem}" for row in taken]
            write_maps(system, scores, shown, names, maps)
        waiting.clear()

    for row, one in read:
        sources.append(one.source)
        states.append("refused" if one.reason else "ok")
        reasons.append(one.reason)
        warnings.append("")
        if not one.reason:
            waiting[row] = one
        if len(waiting) == batch_size:
            score()
    if waiting:
        score()
    columns: dict[str, Any] = {
        "image": [_text(inputs.names[row]) for row in rows],
        "status": states,
        "reason": [_text(why) for why in reasons],
        "warnings": [_text(warning) for warning in warnings],
        "sha256": sources,
        "model": [system.model] * len(rows),
    }
    if system.detectors is not None:
        for name, column in zip(VALUES, unusual.T, strict=True):
            columns[f"unusual:{name}"] = pa.array(np.ascontiguousarray(column), mask=np.isnan(column))
    for kind, table in values.items():
        for finding, column in zip(system.findings, table.T, strict=True):
            made = pa.array(np.ascontiguousarray(column), mask=np.isnan(column))
            columns[f"{kind}:{finding}"] = made.cast(pa.int8()) if kind.startswith("call:") else made
    return pa.table(columns)


def _read_all(
    model: Model, paths: Sequence[str], rows: range, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[int, _Read]]:
    """Reads files in order, a bounded number of them ahead."""
    running: deque[tuple[int, Future[_Read]]] = deque()
    try:
        for row in rows:
            running.append((row, pool.submit(_read, model, paths[row])))
            if len(running) > ahead:
                first, future = running.popleft()
                yield first, future.result()
        while running:
            first, future = running.popleft()
            yield first, future.result()
    finally:
        for _, future in running:
            future.cancel()


def _read(model: Model, path: str) -> _Read:
    source = ""
    try:
        if not path:
            raise BadImage("cannot be opened: no such file or directory")
        content = read_file(path)
        source = sha256(content).hexdigest()
        pixels, remarks = gray_with_remarks(content)
        return _Read(source, model.views(pixels), pixels.shape, remarks)
    except BadImage as error:
        why = " ".join(str(error).replace(path or "\0", "it").split())
        return _Read(source, reason=why)
    except OSError as error:
        raise CxrError(
            f"{path} cannot be read: {reason(error)}; finished parts are kept: run the same command again to continue"
        ) from None


def _text(name: str) -> str:
    """A name of the file system, which may hold bytes that are no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
