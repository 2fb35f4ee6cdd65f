"""Finds or builds the cache of a catalog, and excludes bad images."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr.data.cache.audit import Audit, audit
from cxr.data.cache.build import build_cache
from cxr.data.cache.manifest import ARRAY, MANIFEST, State, read_manifest, state_of
from cxr.data.catalog import REPORT, Catalog, some
from cxr.data.directory import default_directory
from cxr.errors import CxrError

_NAMED = 20  # bad images in a message


@dataclass(frozen=True)
class CacheSettings:
    """The cache group of a configuration.

    Attributes:
        size: side in pixels of the square to which every image is resized, by area.
        directory: folder of caches; by default `cxr-cache` in the data's root, or in the user's cache folder if the
            root is read-only.
        on_error: `fail` refuses a catalog with bad images, `skip` excludes them.
        processes: number of decoding processes; by default one per core.
    """

    size: int
    directory: str | None = None
    on_error: str = "fail"
    processes: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "CacheSettings":
        """From a checked configuration; the default of `cache.size` is `image_size`."""
        cache = config["cache"]
        size = config["image_size"] if cache["size"] is None else cache["size"]
        return cls(size, cache["dir"], cache["on_error"], cache["processes"])


@dataclass(frozen=True)
class Cache:
    """A finished cache.

    Attributes:
        folder: of `images.npy`, `manifest.json` and `report.csv`.
        names: image names, in the order of the array's first axis.
        size: side of the images in pixels.
    """

    folder: Path
    names: tuple[str, ...]
    size: int

    @property
    def array_path(self) -> Path:
        """The `.npy` file, (N, size, size) uint8."""
        return self.folder / ARRAY

    def open(self) -> np.ndarray:
        """The images as a read-only memory map, (N, size, size) uint8.

        Raises:
            CxrError: the file does not match the manifest.
        """
        return open_array(self.array_path, (len(self.names), self.size, self.size))

    def positions(self, names: Iterable[str]) -> np.ndarray:
        """Index of each image on the first axis, (n,) int64."""
        where = {name: position for position, name in enumerate(self.names)}
        return np.fromiter((where[name] for name in names), np.int64)


def open_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A `.npy` file of bytes as a read-only memory map.

    Raises:
        CxrError: it is missing, truncated, or of another type or shape.
    """
    try:
        if not path.is_file():  # opening a pipe would block
            raise FileNotFoundError("it is missing or not a file")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CxrError(f"{path} cannot be read ({error}); remove its folder and build the cache again") from None
    if not isinstance(array, np.memmap) or array.shape != shape or array.dtype != np.uint8:
        raise CxrError(f"{path} is not an array of {shape} bytes; remove its folder and build the cache again")
    return array


def open_or_build(
    catalog: Catalog, root: str | Path, settings: CacheSettings, build: bool = True
) -> tuple[Cache, Catalog]:
    """Opens the cache of a catalog, which is built first if it is missing.

    Args:
        catalog: with the columns `image` and `path`; with `patient` and `split`, duplicates across patients and splits
            are found.
        root: the data set's folder.
        settings: size, folder, handling of bad images.
        build: build a missing cache; otherwise nothing is written.

    Returns:
        The cache, and the catalog without its bad images.

    Raises:
        CxrError: the cache is missing and may not or cannot be built, or images are bad and `on_error` is `fail` (the
            report lists all).
    """
    state = state_of(list(catalog.table["image"]), list(catalog.table["path"]), settings.size)
    folder = find(root, settings, state)
    if not (folder / MANIFEST).exists():
        if not build:
            raise CxrError(
                f"the images of {catalog.origin} are not cached at {settings.size} px in {folder.parent}; pass "
                "data.root=DIR to build the cache next to the data, or cache.dir=DIR"
            )
        _refuse_links(folder)
        build_cache(folder, state, settings.processes)
    manifest = read_manifest(folder)
    names = tuple(entry.image for entry in manifest.images)
    if (manifest.fingerprint, manifest.size, names) != (state.fingerprint, state.size, state.names):
        raise CxrError(f"{folder} is a cache of other images than its name states; remove it and build it again")
    cache = Cache(folder, state.names, state.size)
    cache.open()
    found = audit(catalog, manifest)
    try:
        if build:
            found.write(folder)
    except CxrError:
        if os.access(folder, os.W_OK):
            raise
    return cache, _without_bad(catalog, found, folder, settings.on_error)


def find(root: str | Path, settings: CacheSettings, state: State) -> Path:
    """The folder of the cache, which may not exist yet."""
    if settings.directory:
        return Path(settings.directory).expanduser() / state.folder_name
    root = Path(root).expanduser()
    beside = root / "cxr-cache" / state.folder_name
    return beside if (beside / MANIFEST).exists() else default_directory(root) / state.folder_name


def _refuse_links(folder: Path) -> None:
    """Raises CxrError if a file that a build of `folder` writes is a link; a data set may contain such links."""
    building, lock = (folder.parent / f".{kind}-{folder.name}" for kind in ("building", "lock"))
    for path in (lock, building, *(building.iterdir() if building.is_dir() else ())):
        if path.is_symlink():
            raise CxrError(f"{path} is a link, through which a cache is not written; remove it")


def _without_bad(catalog: Catalog, found: Audit, folder: Path, on_error: str) -> Catalog:
    if not found.bad:
        return catalog
    listed = some([f"{name} ({reason})" for name, reason in found.bad.items()], most=_NAMED)
    count = f"{len(found.bad)} of {len(catalog)} images cannot be used"
    if on_error == "fail":
        raise CxrError(
            f"{count}: {listed}; replace these files, or pass cache.on_error=skip to leave them out (all are in "
            f"{folder / REPORT})"
        )
    print(f"{count} and are left out: {listed} (all are in {folder / REPORT})", flush=True)
    kept = ~catalog.table["image"].isin(list(found.bad)).to_numpy()
    if not kept.any():
        raise CxrError(f"no image of {catalog.origin} is left, all {len(catalog)} are bad; see {folder / REPORT}")
    return catalog.only(kept)
