"""Phantoms as a folder in the layout of the NIH ChestX-ray14 release, written whole or not at all."""

import json
import multiprocessing
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cxr.errors import CxrError
from cxr.files.writing import unwritable, write_text
from cxr.findings import NIH8, NO_FINDING
from cxr.phantom.disease import Box
from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render

VERSION = 2  # of the generator; raise it with every change of what is drawn or written
TABLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOX_SIDE = 1024  # boxes are published in the pixels of the 1024 x 1024 release
# Width, height and pixel spacing (mm) of detectors that occur often in the release, PA and AP.
DETECTORS = {
    False: ((2992, 2991, 0.143), (2048, 2500, 0.171), (2500, 2048, 0.171), (2544, 3056, 0.139)),
    True: ((2500, 2048, 0.168), (3056, 2544, 0.139), (2048, 2500, 0.168)),
}


def write_phantoms(
    root: Path,
    images: int = 1200,
    seed: int = 0,
    size: int = 256,
    label_noise: float = 0.0,
    processes: int | None = None,
    progress: bool = True,
) -> None:
    """Writes a data set of phantoms into `root`; returns at once if it is there already.

    `root` appears when all is written: the work is done in a hidden folder beside it (which a killed process leaves
    behind). Same options, same bytes of every file, whatever the number of processes.

    Args:
        root: folder of the data set: `images/`, `Data_Entry_2017.csv`, `train_val_list.txt`, `test_list.txt`,
            `BBox_List_2017.csv` and `phantom.json` (the options).
        images: number of radiographs.
        seed: of patients, labels and pictures.
        size: side of the pictures in pixels.
        label_noise: see `draw_population`; pictures and boxes stay as drawn.
        processes: that draw; all cores if None.
        progress: show a bar where stderr is a terminal.

    Raises:
        CxrError: an option is out of range, `root` holds phantoms of other options or anything else, or cannot be
            written.
    """
    root = Path(root)
    options = {"images": images, "seed": seed, "size": size, "label_noise": label_noise, "version": VERSION}
    _check(options)
    if _finished(root, options):
        return
    work = root.parent / f".{root.name}-{uuid.uuid4().hex[:12]}"
    try:
        (work / "images").mkdir(parents=True)
        visits = draw_population(images, seed, label_noise)
        rows = []
        for visit, boxes in zip(visits, _draw(visits, work / "images", seed, size, processes, progress), strict=True):
            if visit.test:
                rows += [_box_row(visit.image, finding, box) for finding in NIH8 for box in boxes.get(finding, [])]
        write_text(
            work / "Data_Entry_2017.csv", "\r\n".join([TABLE, *(_row(visit, seed) for visit in visits)]) + "\r\n"
        )
        write_text(work / "BBox_List_2017.csv", "\r\n".join([BOXES, *rows]) + "\r\n")
        for name, test in (("train_val_list.txt", False), ("test_list.txt", True)):
            write_text(work / name, "\n".join(visit.image for visit in visits if visit.test == test))
        write_text(work / "phantom.json", json.dumps(options, indent=2) + "\n")
        _publish(work, root, options)
    except OSError as error:
        raise unwritable(root, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(options: dict[str, int | float]) -> None:
    limits = {"images": (1, 99_999), "seed": (0, 2**32 - 1), "size": (64, 2048), "label_noise": (0, 0.5)}
    for name, (low, high) in limits.items():
        if not low <= options[name] <= high:
            raise CxrError(f"phantom option {name}={options[name]} is out of range; give {low} to {high}")


def _finished(root: Path, options: dict[str, int | float]) -> bool:
    """Whether `root` holds the phantoms of these options; False if there is nothing yet."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    note = root / "phantom.json"
    if not note.is_file():
        raise CxrError(
            f"data.root={root} exists and holds no phantom.json, so it is not ours to write to; "
            "give another data.root for the phantoms, or an empty folder"
        )
    try:
        found = dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CxrError(f"{note} cannot be read ({error}); give another data.root, or move that folder away") from error
    for name, value in options.items():
        if found.get(name) != value:
            label = "generator version" if name == "version" else name
            old = "" if name == "version" else f", or ask for {name}={found.get(name)} again"
            raise CxrError(
                f"data.root={root} holds phantoms drawn with {label}={found.get(name)}, not {label}={value}; "
                f"give another data.root{old}"
            )
    return True


def _publish(work: Path, root: Path, options: dict[str, int | float]) -> None:
    try:
        work.rename(root)
    except OSError:
        if not _finished(root, options):  # another process may have been faster
            raise


def _draw(
    visits: Sequence[Visit], folder: Path, seed: int, size: int, processes: int | None, progress: bool
) -> Iterator[dict[str, list[Box]]]:
    """Draws and saves every visit; yields its boxes, in order."""
    workers = min(processes or os.cpu_count() or 1, max(1, len(visits) // 8))
    if multiprocessing.current_process().daemon:  # which may not have children
        workers = 1
    task = partial(_draw_one, folder=folder, seed=seed, size=size)
    hidden = not (progress and sys.stderr.isatty())
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(visits), desc="drawing phantoms", unit="image", disable=hidden))
        results: Iterator[dict[str, list[Box]]]
        if workers == 1:
            results = map(task, visits)
        else:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, _start_worker))
            stack.callback(pool.shutdown, cancel_futures=True)  # so that Ctrl-C does not wait for all pictures
            results = pool.map(task, visits, chunksize=8)
        try:
            for boxes in results:
                bar.update()
                yield boxes
        except BrokenProcessPool as error:
            raise CxrError(
                "the processes that draw phantoms died; call from a script under `if __name__ == '__main__':`, "
                "or draw with processes=1"
            ) from error


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """Ends a worker whose parent was killed; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw_one(visit: Visit, folder: Path, seed: int, size: int) -> dict[str, list[Box]]:
    drawn = render(visit, seed, size)
    data = cv2.imencode(".png", drawn.picture)[1]
    (folder / visit.image).write_bytes(data.tobytes())
    return drawn.boxes


def _row(visit: Visit, seed: int) -> str:
    rng = np.random.default_rng([seed, visit.patient, visit.followup + 1, 4])
    width, height, spacing = DETECTORS[visit.portable][rng.integers(len(DETECTORS[visit.portable]))]
    labels = "|".join(visit.written) or NO_FINDING
    who = f"{visit.followup},{visit.patient},{visit.age},{'F' if visit.woman else 'M'}"
    view = "AP" if visit.portable else "PA"
    return f"{visit.image},{labels},{who},{view},{width},{height},{spacing},{spacing}"


def _box_row(image: str, finding: str, box: Box) -> str:
    name = {"Infiltration": "Infiltrate"}.get(finding, finding)
    return ",".join([image, name, *(f"{BOX_SIDE * side:.3f}" for side in box)])
