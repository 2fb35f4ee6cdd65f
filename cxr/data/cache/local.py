"""Copies a cache from a shared disk to a disk of this host, once for all its processes."""

import hashlib
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

from cxr.data.cache.manifest import MANIFEST, read_manifest
from cxr.data.cache.store import Cache
from cxr.errors import CxrError
from cxr.files.locking import locked
from cxr.files.writing import staged, unwritable


def local_copy(cache: Cache, directory: str) -> Cache:
    """The copy of a cache in a folder of this host; every image is compared with its checksum when it is made.

    Raises:
        CxrError: the folder cannot be written, or an image of the cache does not match its checksum.
    """
    folder = Path(directory).expanduser() / cache.folder.name
    copy = replace(cache, folder=folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f".lock-{folder.name}"
        with locked(lock, f"another process copies {cache.folder} to {folder}; waiting", wait=math.inf):
            if not folder.exists():
                print(f"copying {cache.folder} to {folder}", flush=True)
                with staged(folder) as staging:
                    for path in (cache.array_path, cache.folder / MANIFEST):
                        shutil.copyfile(path, staging / path.name)
                    _verify(replace(cache, folder=staging), cache.folder)
                    os.rename(staging, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    copy.open()
    return copy


def _verify(copy: Cache, source: Path) -> None:
    entries, rows = read_manifest(copy.folder).images, copy.open()
    for entry, row in zip(entries, rows, strict=True):
        if entry.pixels and hashlib.sha256(row.tobytes()).hexdigest() != entry.pixels:
            raise CxrError(
                f"{entry.image} in {source} does not match its checksum; python -m cxr cache verify=true lists all, "
                "remove the folder to build it again"
            )
