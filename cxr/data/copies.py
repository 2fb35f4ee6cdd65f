"""Finds the same radiograph under two names, in merged sets or in a run's training, and leaves copies out.

Every image is described by its detail, the image minus its blur over the local deviation, which changes of size, JPEG
compression, contrast and inversion hardly touch. Pairs with correlated details of 16 x 16 are compared at 64 x 64.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.data.cache import Cache
from cxr.data.catalog import SPLITS, Catalog, some
from cxr.errors import CxrError, counted
from cxr.files.reading import read_text
from cxr.files.writing import write_text

COPIES = "copies.csv"  # in the folder of a cache
_HASH, _CONFIRMED = 0.87, 0.85  # least correlations at 16 x 16 and at 64 x 64
_ROWS, _COLUMNS = 2048, 8192  # of one product of hashes


def find_copies(images: Sequence[NDArray[np.uint8]], source: Sequence[str]) -> list[tuple[int, int, float]]:
    """Pairs of images of different sets that show the same radiograph, with their correlation at 64 x 64.

    Args:
        images: N of (S, S).
        source: (N,) names of their sets.
    """
    sets = np.asarray(source)
    hashes = np.stack([_detail(image, 16) for image in images])
    found = []
    for one, other in combinations(dict.fromkeys(source), 2):
        for a, b in _alike(hashes, np.flatnonzero(sets == one), np.flatnonzero(sets == other)):
            correlation = abs(float(_detail(images[a], 64) @ _detail(images[b], 64)))
            if correlation >= _CONFIRMED:
                found.append((a, b, correlation))
    return found


def without_copies(catalog: Catalog, usable: Catalog, cache: Cache, on_error: str, write: bool) -> Catalog:
    """The usable images of a merged catalog, without copies of another patient or in another split.

    If the patients of a pair are in two splits, all images of one of them are left out: of the one in
    training before validation, and validation before test. In one split, the copy in the later set is left out. Copies
    of one patient in one split stay, since each set has its own labels.

    Args:
        catalog: with the column `source`.
        usable: the catalog without bad images.
        cache: of the images of `catalog`.
        on_error: `fail` refuses such copies; `skip` leaves them out and prints their number.
        write: write the pairs to `copies.csv` in the folder of the cache, so that they are searched once.

    Raises:
        CxrError: there are such copies and `on_error` is `fail`.
    """
    rows = catalog.table.set_index("image")
    further = [image for images in catalog.tests.values() for image in images]
    side = rows["split"].mask(rows.index.isin(further), "test").to_dict()
    patient = rows["patient"].to_dict()
    images, patients, shown, harmless = set(), set(), [], 0
    for pair in _pairs(cache, write):
        if not all(side.get(image) for image in pair):
            continue
        earlier, later = sorted(pair, key=lambda image: SPLITS.index(side[image]))
        if side[earlier] != side[later]:
            patients.add(patient[earlier])
        elif patient[pair[0]] != patient[pair[1]]:
            images.add(pair[1])
        else:
            harmless += 1
            continue
        shown.append(f"{pair[0]} ({side[pair[0]]}) and {pair[1]} ({side[pair[1]]})")
    if harmless:
        print(f"in several sets, for the same patient on the same side: {counted(harmless, 'image')}", flush=True)
    if not shown:
        return usable
    number = counted(len(shown), "radiograph")
    count = f"in several sets for different patients or in two splits: {number}: {some(shown)}"
    if on_error == "fail":
        raise CxrError(
            f"{count}; leave one of the sets out, or pass cache.on_error=skip to leave copies out (all pairs are in "
            f"{cache.folder / COPIES})"
        )
    kept = ~(usable.table["image"].isin(images) | usable.table["patient"].isin(patients)).to_numpy()
    print(f"{count}; left out, with all of such patients: {counted((~kept).sum(), 'image')}", flush=True)
    return usable.only(kept)


def without_trained(
    catalog: Catalog, cache: Cache, trained: Sequence[str], training: Cache, on_error: str, run: str
) -> Catalog:
    """The catalog without patients of whom an image is one that a run was trained with, under whatever name.

    Args:
        catalog: of another data set.
        cache: of its images.
        trained: images that the run was trained or selected with.
        training: the cache of these images, of the same size.
        on_error: `fail` refuses such images; `skip` leaves their patients out and prints the number.
        run: name of the run in messages.

    Raises:
        CxrError: there are such images and `on_error` is `fail`, or no image is left.
    """
    names = [*trained, *catalog.table["image"]]
    arrays = np.asarray(training.open()), np.asarray(cache.open())
    rows = training.positions(trained), cache.positions(catalog.table["image"])
    images = [array[row] for array, chosen in zip(arrays, rows, strict=True) for row in chosen]
    print(f"comparing {counted(len(catalog), 'image')} with {len(trained):,} that {run} was trained with", flush=True)
    found = find_copies(images, ["trained"] * len(trained) + ["other"] * len(catalog))
    if not found:
        return catalog
    copies = {names[b]: f"{names[b]} ({names[a]})" for a, b, _ in found}
    number = f"{len(copies):,} of {counted(len(catalog), 'image')}"
    count = f"{run} was trained with {number} of {catalog.origin} under other names: {some(list(copies.values()))}"
    if on_error == "fail":
        raise CxrError(f"{count}; evaluate it on other images, or pass cache.on_error=skip to leave their patients out")
    table = catalog.table
    kept = ~table["patient"].isin(table["patient"][table["image"].isin(copies)]).to_numpy()
    if not kept.any():
        raise CxrError(f"{count}; no other patient is left to evaluate it on")
    print(f"{count}; left out, with all of such patients: {counted((~kept).sum(), 'image')}", flush=True)
    return catalog.only(kept)


def _pairs(cache: Cache, write: bool) -> list[tuple[str, str]]:
    """The pairs in `copies.csv` of a cache, which is written if it is missing."""
    path, known = cache.folder / COPIES, set(cache.names)
    try:
        rows = list(csv.reader(io.StringIO(read_text(path))))[1:]
        if any(len(row) != 3 or not known.issuperset(row[:2]) for row in rows):
            raise CxrError(f"{path} does not list pairs of images of this cache; remove it")
        return [(row[0], row[1]) for row in rows]
    except FileNotFoundError:
        pass
    print(f"searching {counted(len(known), 'image')} for copies between the sets", flush=True)
    found = find_copies(list(np.asarray(cache.open())), [name.partition("/")[0] for name in cache.names])
    pairs = [(cache.names[a], cache.names[b], f"{correlation:.3f}") for a, b, correlation in found]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("image", "copy", "correlation"), *pairs])
    if write:
        write_text(path, text.getvalue())
    return [(one, other) for one, other, _ in pairs]


def _detail(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """The detail of an image at `side` x `side`, (side ** 2,), of length 1; 0 for a blank image."""
    small, sigma = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32), side / 16
    detail = small - cv2.GaussianBlur(small, (0, 0), sigma)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma)) + 2  # gray levels, above the noise
    flat = (detail - detail.mean()).ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)


def _alike(hashes: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of rows, the first in `one`, the second in `other`, with correlated hashes."""
    for first in range(0, len(one), _ROWS):
        left = one[first : first + _ROWS]
        for second in range(0, len(other), _COLUMNS):
            right = other[second : second + _COLUMNS]
            for i, j in np.argwhere(np.abs(hashes[left] @ hashes[right].T) >= _HASH):
                yield int(left[i]), int(right[j])
