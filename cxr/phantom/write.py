"""Writes phantoms as a folder in the layout of the NIH ChestX-ray14 release or of another data set, atomically."""

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cxr.errors import CxrError
from cxr.files.writing import staged, unwritable, write_text
from cxr.findings import NIH8, NIH_SIDE, NO_FINDING
from cxr.phantom.disease import Box
from cxr.phantom.layouts import LAYOUTS
from cxr.phantom.layouts.drawn import Drawn
from cxr.phantom.long_tail import draw_long_tail
from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render

VERSION = 2  # of the generator; increment it with every change of pixels or files
TABLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
# Width, height and pixel spacing (mm) of detectors that are frequent in the release, PA and AP.
DETECTORS = {
    False: ((2992, 2991, 0.143), (2048, 2500, 0.171), (2500, 2048, 0.171), (2544, 3056, 0.139)),
    True: ((2500, 2048, 0.168), (3056, 2544, 0.139), (2048, 2500, 0.168)),
}
# Files of image names: whether of test, and whether of its balanced part alone.
LISTS = (
    ("train_val_list.txt", False, False), ("test_list.txt", True, False),
    ("val_list.txt", False, True), ("balanced_test_list.txt", True, True),
)  # fmt: skip
_LIMITS = {"images": (1, 99_999), "seed": (0, 2**32 - 1), "size": (64, 2048), "label_noise": (0, 0.5)}


def write_phantoms(
    root: Path,
    images: int = 1200,
    seed: int = 0,
    size: int = 256,
    label_noise: float = 0.0,
    processes: int | None = None,
    long_tail: bool = False,
    layout: str = "nih",
) -> None:
    """Writes a data set of phantoms into `root`, or returns at once if it is already there.

    `root` appears when everything is written. The bytes of every file depend only on the options, not on the number
    of processes.

    Args:
        root: folder of the data set, by default with `images/`, `Data_Entry_2017.csv`, `train_val_list.txt`,
            `test_list.txt`, `BBox_List_2017.csv`, and always with `phantom.json` (the options).
        images: number of radiographs.
        seed: of patients, labels and pictures.
        size: width and height in pixels.
        label_noise: see `draw_population`; it does not change pictures and boxes.
        processes: number of drawing processes; by default one per core.
        long_tail: one finding per image, see `draw_long_tail`, and the further lists `val_list.txt` and
            `balanced_test_list.txt`.
        layout: `nih`, or one of `cxr.phantom.layouts.LAYOUTS`.

    Raises:
        CxrError: an option is out of range, `root` contains something else or phantoms of other options, or cannot be
            written.
    """
    root = Path(root)
    options: dict[str, int | float | str] = {
        "images": images,
        "seed": seed,
        "size": size,
        "label_noise": label_noise,
        "version": VERSION,
    }
    for name, (low, high) in _LIMITS.items():
        value = float(options[name])
        if not low <= value <= high:
            raise CxrError(f"phantom option {name}={options[name]} is out of range; give {low} to {high}")
    if layout not in ("nih", *LAYOUTS):
        raise CxrError(f"layout={layout} is unknown; choose nih, {', '.join(LAYOUTS)}")
    if long_tail and (label_noise or layout != "nih"):
        raise CxrError(
            "phantom option long_tail=true writes one finding per image in the nih layout; leave out label_noise and "
            "layout"
        )
    options["long_tail"] = long_tail  # absent in the records of earlier sets
    if _is_written(root, {**options, "layout": layout}):
        return
    try:
        with staged(root) as folder:
            pictures = folder / ("images" if layout == "nih" else ".drawn")
            pictures.mkdir()
            visits = draw_long_tail(images, seed) if long_tail else draw_population(images, seed, label_noise)
            boxes = list(_draw(visits, pictures, seed, size, processes))
            if layout == "nih":
                _write_tables(folder, visits, boxes, seed)
            else:
                drawn = [
                    Drawn(visit, found, pictures / visit.image) for visit, found in zip(visits, boxes, strict=True)
                ]
                LAYOUTS[layout](folder, drawn)
                shutil.rmtree(pictures)
                options["layout"] = layout
            write_text(folder / "phantom.json", json.dumps(options, indent=2) + "\n")
            try:
                folder.rename(root)
            except OSError:
                if not _is_written(root, {**options, "layout": layout}):  # else another process was faster
                    raise
    except OSError as error:
        raise unwritable(root, error) from error


def _is_written(root: Path, options: Mapping[str, int | float | str]) -> bool:
    """Whether `root` contains the phantoms of these options; False if it is missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / "phantom.json"
    if not record.is_file():
        raise CxrError(
            f"data.root={root} exists and has no phantom.json, so phantoms are not written there; give another "
            "data.root for the phantoms, or an empty folder"
        )
    try:
        found = {"layout": "nih"} | dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CxrError(
            f"{record} cannot be read ({error}); give another data.root, or move that folder away"
        ) from error
    for name, value in options.items():
        if found.get(name, False) != value:
            label = "generator version" if name == "version" else name
            old = "" if name == "version" else f", or set {name}={found.get(name)} again"
            raise CxrError(
                f"data.root={root} contains phantoms drawn with {label}={found.get(name)}, not {label}={value}; "
                f"give another data.root{old}"
            )
    return True


def _write_tables(folder: Path, visits: Sequence[Visit], boxes: Sequence[dict[str, list[Box]]], seed: int) -> None:
    table, box_rows = [TABLE], [BOXES]
    for visit, drawn in zip(visits, boxes, strict=True):
        rng = np.random.default_rng([seed, visit.patient, visit.followup + 1, 4])
        width, height, spacing = DETECTORS[visit.portable][rng.integers(len(DETECTORS[visit.portable]))]
        patient = f"{visit.followup},{visit.patient},{visit.age},{'F' if visit.woman else 'M'}"
        view, labels = "AP" if visit.portable else "PA", "|".join(visit.written) or NO_FINDING
        table.append(f"{visit.image},{labels},{patient},{view},{width},{height},{spacing},{spacing}")
        for finding in NIH8 if visit.test else ():
            name = {"Infiltration": "Infiltrate"}.get(finding, finding)
            for box in drawn.get(finding, []):
                box_rows.append(",".join([visit.image, name, *(f"{NIH_SIDE * side:.3f}" for side in box)]))
    write_text(folder / "Data_Entry_2017.csv", "\r\n".join(table) + "\r\n")
    write_text(folder / "BBox_List_2017.csv", "\r\n".join(box_rows) + "\r\n")
    for file, test, balanced in LISTS:
        listed = [visit.image for visit in visits if visit.test == test and visit.balanced >= balanced]
        if listed or not balanced:
            write_text(folder / file, "\n".join(listed))


def _draw(
    visits: Sequence[Visit], folder: Path, seed: int, size: int, processes: int | None
) -> Iterator[dict[str, list[Box]]]:
    """Draws and saves every visit; yields its boxes, in order."""
    workers = min(processes or os.cpu_count() or 1, max(1, len(visits) // 8))
    if multiprocessing.current_process().daemon:  # daemonic processes cannot have children
        workers = 1
    task = partial(_draw_one, folder=folder, seed=seed, size=size)
    with ExitStack() as stack:
        results = map(task, visits)
        if workers > 1:
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, _start_worker))
            stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C does not wait for all pictures
            results = pool.map(task, visits, chunksize=8)  # type: ignore[assignment]
        try:  # `disable=None` shows the bar only on a terminal
            yield from tqdm(results, desc="drawing phantoms", total=len(visits), unit="image", disable=None)
        except BrokenProcessPool as error:
            raise CxrError(
                "the processes that draw phantoms died; call from a script under `if __name__ == '__main__':`, "
                "or draw with processes=1"
            ) from error


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends a worker whose parent was killed; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw_one(visit: Visit, folder: Path, seed: int, size: int) -> dict[str, list[Box]]:
    drawn = render(visit, seed, size)
    (folder / visit.image).write_bytes(cv2.imencode(".png", drawn.picture)[1].tobytes())
    return drawn.boxes
