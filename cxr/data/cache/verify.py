"""Checks a cache and its source files against the checksums in its manifest."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from cxr.data.archives import contents
from cxr.data.cache.manifest import ARRAY, MANIFEST, Entry, State, read_manifest, state_of
from cxr.data.cache.store import CacheSettings, find, open_array
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.imaging.decode import read_file
from cxr.imaging.limits import BadImage

_SAME_NAMES = 0.5  # minimum share of a catalog's images in an older cache of it


def verify(catalog: Catalog, root: str | Path, settings: CacheSettings) -> tuple[Path, dict[str, str]]:
    """Compares every row of the catalog's cache and every source file with their checksums.

    If files have changed, the cache that shares most images with the catalog is used.

    Returns:
        The cache's folder, and the differences, image to reason: in the order of the catalog, then images that only
        the catalog has, then images that only the cache has.

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

    def compare(position: int) -> str:
        entry = manifest.images[position]
        if entry.pixels and hashlib.sha256(rows[position].tobytes()).hexdigest() != entry.pixels:
            return "its row of the cache has changed"
        path = paths.get(entry.image)
        return "" if path is None else _compare_source(entry, in_archives.get(path) or _file_sha256(path))

    cached = [entry.image for entry in manifest.images]
    with ThreadPoolExecutor() as pool:  # hashing releases Python's global lock
        found = pool.map(compare, range(len(cached)), chunksize=64)
        bar = tqdm(found, "verifying", len(cached), unit="image", disable=not sys.stderr.isatty(), leave=False)
        differences = {image: reason for image, reason in zip(cached, bar, strict=True) if reason}
    known = set(cached)
    differences |= {image: "is not in the cache" for image in state.names if image not in known}
    return folder, differences | {image: "is no longer in the table" for image in cached if image not in paths}


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


def _compare_source(entry: Entry, source: str | BadImage) -> str:
    if isinstance(source, BadImage):
        same = entry.reason and not entry.source  # it could not be read at the build either
        return "" if same else f"its file {source}"
    if not entry.source:
        return "its file can be read now"
    return "its file has changed" if source != entry.source else ""


def _file_sha256(path: str) -> str | BadImage:
    try:
        return _sha256(read_file(path))
    except BadImage as error:
        return error


def _sha256(content: bytes | BadImage) -> str | BadImage:
    return content if isinstance(content, BadImage) else hashlib.sha256(content).hexdigest()
