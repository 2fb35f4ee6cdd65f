"""Checks a cache and its source files against the checksums in its manifest."""

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cxr.data.archives import contents
from cxr.data.cache.manifest import ARRAY, MANIFEST, Entry, Manifest, State, read_manifest, state_of
from cxr.data.cache.store import CacheSettings, find, open_array
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.imaging.decode import read_file
from cxr.imaging.limits import BadImage

_SAME_NAMES = 0.5  # of a catalog's images that an older cache must share to be called its cache


@dataclass(frozen=True)
class Difference:
    """An image that differs from its manifest entry: name and reason."""

    image: str
    reason: str


def verify(catalog: Catalog, root: str | Path, settings: CacheSettings) -> tuple[Path, list[Difference]]:
    """Reads every row of the catalog's cache and every file it was made from, and compares their checksums.

    If files have changed since, the cache that shares most images with the catalog is compared.

    Returns:
        The cache's folder, and what differs in the order of the catalog; images that are new or gone come last.

    Raises:
        CxrError: there is no such cache.
    """
    state = state_of(list(catalog.table["image"]), list(catalog.table["path"]), settings.size)
    folder = _nearest(find(root, settings, state), state)
    manifest = read_manifest(folder)
    shape = (len(manifest.images), manifest.size, manifest.size)
    rows = open_array(folder / ARRAY, shape)
    paths = dict(zip(state.names, state.paths, strict=True))

    listed = [paths[entry.image] for entry in manifest.images if entry.image in paths]
    in_archives = {listed[k]: _sha256(content) for k, content in contents(listed)}

    def compare(position: int) -> Difference | None:
        entry = manifest.images[position]
        if entry.pixels and hashlib.sha256(rows[position].tobytes()).hexdigest() != entry.pixels:
            return Difference(entry.image, "its row of the cache has changed")
        path = paths.get(entry.image)
        return None if path is None else _compare_source(entry, in_archives.get(path) or _file_sha256(path))

    with ThreadPoolExecutor() as pool:  # hashing releases the lock
        found = pool.map(compare, range(len(manifest.images)), chunksize=64)
        bar = tqdm(found, "verifying", len(manifest.images), unit="image", disable=not sys.stderr.isatty(), leave=False)
        differences = [difference for difference in bar if difference is not None]
    return folder, [*differences, *_new_and_gone(manifest, state)]


def _nearest(folder: Path, state: State) -> Path:
    if (folder / MANIFEST).exists():
        return folder
    best, most = None, _SAME_NAMES * len(state.names)
    names = set(state.names)
    for path in folder.parent.glob(f"{state.size}px-*/{MANIFEST}"):
        shared = len(names.intersection(entry.image for entry in read_manifest(path.parent).images))
        if shared > most or (best is not None and shared == most and path.stat().st_mtime > best.stat().st_mtime):
            best, most = path, shared
    if best is None:
        raise CxrError(
            f"{folder.parent} has no cache of these images at {state.size} px; build it without verify=true, or set "
            "cache.dir or cache.size"
        )
    return best.parent


def _compare_source(entry: Entry, source: str | BadImage) -> Difference | None:
    if isinstance(source, BadImage):
        same = entry.reason and not entry.source  # it could not be read then either
        return None if same else Difference(entry.image, f"its file {source}")
    if not entry.source:
        return Difference(entry.image, "its file can be read now")
    return Difference(entry.image, "its file has changed") if source != entry.source else None


def _file_sha256(path: str) -> str | BadImage:
    try:
        return _sha256(read_file(path))
    except BadImage as error:
        return error


def _sha256(content: bytes | BadImage) -> str | BadImage:
    return content if isinstance(content, BadImage) else hashlib.sha256(content).hexdigest()


def _new_and_gone(manifest: Manifest, state: State) -> Iterator[Difference]:
    cached = {entry.image for entry in manifest.images}
    there = set(state.names)
    yield from (Difference(name, "is not in the cache") for name in state.names if name not in cached)
    yield from (Difference(e.image, "is no longer in the table") for e in manifest.images if e.image not in there)
