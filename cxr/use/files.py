"""Scores many image files into a table, a row for each, with several threads; finished parts survive a stop."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from cxr.errors import CxrError
from cxr.files.reading import reason
from cxr.files.writing import unwritable
from cxr.imaging.decode import BadImage, gray_with_remarks, read_file
from cxr.processes.cores import cores
from cxr.use.description import describe
from cxr.use.maps import write_maps
from cxr.use.parts import Parts
from cxr.use.scoring import Floats, Model, Scores, Views
from cxr.use.system import System
from cxr.use.unusual import VALUES

ROWS = 1024  # of a part
_AHEAD = 2  # batches that wait for a thread or for their turn


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
    """A file that was read: its SHA-256, and why it is refused or what is unusual about its image."""

    source: str = ""
    reason: str = ""
    warnings: str = ""
    values: np.ndarray | None = None


@dataclass(frozen=True)
class _Image:
    """An image as the networks see it, the shape of its file, and remarks of the decoder."""

    views: Views
    shape: tuple[int, ...]
    remarks: tuple[str, ...]


def score_files(
    model: Model, inputs: Inputs, out: Path, batch_size: int = 16, workers: int = 0, maps: Path | None = None
) -> int:
    """Writes the table of all files and returns how many could not be used.

    Finished parts are kept in the folder `<out>.parts` until the table is complete; the same call continues after them.

    Args:
        model: what scores; several threads call it.
        inputs: N files.
        out: the table, `.parquet` or `.csv`; it must not exist.
        batch_size: images that a thread reads and then scores at once.
        workers: threads; 0 for one per core.
        maps: folder for attention maps, or None.

    Raises:
        CxrError: `out` exists, it or `maps` cannot be written, its parts belong to other inputs or another model, the
            networks have no attention maps, or a disk fails.
    """
    if maps is not None and not any(member.maps for member in model.system.members):
        raise CxrError(f"maps={maps}: {model.system.name} has no attention maps; leave maps out")
    if maps is not None:
        try:
            maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(maps, error) from error
    system = sha256(json.dumps(describe(model.system)).encode()).hexdigest()  # with calibration and thresholds
    plan = {"system": system, "digest": model.digest, "inputs": inputs.sha256(), "rows": ROWS}
    workers = workers or cores()
    cv2.setNumThreads(0)
    with Parts(out, plan | {"maps": str(maps or "")}) as parts, ThreadPoolExecutor(workers) as pool:
        count = len(inputs.paths)
        with tqdm(total=count, desc="scoring", unit="image", disable=not sys.stderr.isatty()) as progress:
            for number, start in enumerate(range(0, count, ROWS)):
                rows = range(start, min(start + ROWS, count))
                if parts.has(number):
                    progress.update(len(rows))
                    continue
                batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
                scored = _in_order(pool, workers + _AHEAD, partial(_score_batch, model, inputs, maps), batches)
                parts.write(number, _table(model.system, inputs.names, rows, _shown(progress, scored)))
        return parts.merge(-(-count // ROWS))


_Scored = tuple[list[_Read], Scores | None]


def _shown(progress: Any, scored: Iterator[_Scored]) -> Iterator[_Scored]:
    for one in scored:
        yield one
        progress.update(len(one[0]))


def _in_order(
    pool: ThreadPoolExecutor, most: int, work: Callable[[range], _Scored], batches: Iterable[range]
) -> Iterator[_Scored]:
    """Results in the order of the batches; `most` are computed or wait at a time."""
    running: deque[Future[_Scored]] = deque()
    try:
        for batch in batches:
            running.append(pool.submit(work, batch))
            if len(running) == most:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _score_batch(model: Model, inputs: Inputs, maps: Path | None, rows: range) -> _Scored:
    """Reads the files of some rows and scores those that can be used."""
    read, usable = list[_Read](), dict[int, _Image]()
    for place, row in enumerate(rows):
        one, image = _read(model, inputs.paths[row])
        read.append(one)
        if image is not None:
            usable[place] = image
    if not usable:
        return read, None
    taken, shown = [rows[place] for place in usable], [image.views for image in usable.values()]
    scores = model.score_views(shown, None if inputs.attributes is None else inputs.attributes[taken])
    for number, (place, image) in enumerate(usable.items()):
        features = None if scores.features is None else scores.features[number]
        warnings, values = model.unusual(image.shape, image.views, features)
        read[place] = replace(read[place], warnings="; ".join([*image.remarks, *warnings]), values=values)
    if maps is not None:
        names = [f"{row:07d}-{Path(inputs.names[row]).stem}" for row in taken]
        write_maps(model.system, scores, shown, names, maps)
    return read, scores


def _table(system: System, names: Sequence[str], rows: range, scored: Iterable[_Scored]) -> pa.Table:
    """The table of some rows."""
    kinds = ["score", *["calibrated"] * (system.scaling is not None), *(f"call:{name}" for name in system.points)]
    values = {kind: np.full((len(rows), len(system.findings)), np.nan, np.float32) for kind in kinds}
    unusual = np.full((len(rows), len(VALUES)), np.nan, np.float32)
    read = list[_Read]()
    for batch, scores in scored:
        usable = [len(read) + place for place, one in enumerate(batch) if not one.reason]
        read += batch
        if scores is not None:
            calibrated = [] if scores.calibrated is None else [scores.calibrated]
            for kind, block in zip(kinds, (scores.score, *calibrated, *scores.calls.values()), strict=True):
                values[kind][usable] = block
    for place, one in enumerate(read):
        if one.values is not None:
            unusual[place] = one.values
    columns: dict[str, Any] = {
        "image": [_text(names[row]) for row in rows],
        "status": ["refused" if one.reason else "ok" for one in read],
        "reason": [_text(one.reason) for one in read],
        "warnings": [_text(one.warnings) for one in read],
        "sha256": [one.source for one in read],
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


def _read(model: Model, path: str) -> tuple[_Read, _Image | None]:
    """A file, and its image as the networks see it, or None if it is refused."""
    source = ""
    try:
        if not path:
            raise BadImage("cannot be opened: no such file or directory")
        content = read_file(path)
        source = sha256(content).hexdigest()
        pixels, remarks = gray_with_remarks(content)
        return _Read(source), _Image(model.views(pixels), pixels.shape, remarks)
    except BadImage as error:
        why = " ".join(str(error).replace(path or "\0", "it").split())
        return _Read(source, why), None
    except OSError as error:
        raise CxrError(
            f"{path} cannot be read: {reason(error)}; finished parts are kept: run the same command again to continue"
        ) from None


def _text(name: str) -> str:
    """A name of the file system, which may hold bytes that are no text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
