"""Decode once: every radiograph of a catalog as one memory-mapped uint8 array, beside the data.

The array is written under a temporary name and published by a rename, with a manifest of what it was made from. It is
found again by that content's fingerprint, so that another size or a changed image never meets an old cache.
"""

import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from cxr.data.catalog import Catalog, some
from cxr.errors import CxrError
from cxr.files import unwritable

VERSION = 1  # of the decoding below; another number makes other caches
_NAMED = 100  # bad images in one message
_EIGHT_BIT_GRAY = ("L", "LA", "La")


@dataclass(frozen=True)
class Cache:
    """A finished cache.

    Attributes:
        folder: holds `images.npy` and `manifest.json`.
        names: image names, in the order of the array's first axis.
    """

    folder: Path
    names: tuple[str, ...]

    @property
    def array_path(self) -> Path:
        """The `.npy` file, (N, size, size) uint8."""
        return self.folder / "images.npy"

    def open(self) -> np.ndarray:
        """The images as a read-only memory map, (N, size, size) uint8."""
        return np.load(self.array_path, mmap_mode="r", allow_pickle=False)

    def positions(self, names: Iterable[str]) -> np.ndarray:
        """Where each image lies on the first axis, (n,) int64."""
        where = {name: position for position, name in enumerate(self.names)}
        return np.fromiter((where[name] for name in names), np.int64)


def open_or_build(catalog: Catalog, root: str | Path, size: int, directory: str | None) -> Cache:
    """The catalog's cache at `size` pixels, built with a progress bar if it is not there.

    Args:
        catalog: its `image` and `path` columns say what is cached.
        root: the data set's folder.
        size: side of the square that every image is resized to, by area.
        directory: where caches lie; by default `cxr-cache` in `root`, or in the user's cache folder if `root` is
            read-only.

    Raises:
        CxrError: images cannot be decoded (all are named with a count), or the disk has no room.
    """
    root = Path(root).expanduser()
    names, paths = tuple(catalog.table["image"]), list(catalog.table["path"])
    fingerprint = _fingerprint(names, paths, size)
    parent = Path(directory).expanduser() if directory else default_directory(root)
    folder = parent / f"{size}px-{fingerprint[:16]}"
    if not (folder / "manifest.json").exists():
        _build(folder, names, paths, size, fingerprint)
    return Cache(folder, names)


def default_directory(root: Path) -> Path:
    """Beside the data, or in the user's cache folder where the data are read-only (by mode bits, for root too)."""
    writable = os.access(root, os.W_OK) and root.stat().st_mode & stat.S_IWUSR
    if writable:
        return root / "cxr-cache"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "cxr" / f"{root.resolve().name}-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}"


def read_gray(path: str | Path) -> np.ndarray:
    """Decodes one image file into (H, W) uint8.

    Sixteen-bit values are scaled to eight bits (65535 becomes 255); colour is turned into luma; an alpha channel is
    passed over. One percent of the published NIH files are RGBA with three equal channels.

    Raises:
        OSError, SyntaxError, ValueError: the file is not a whole image.
    """
    with Image.open(path) as image:
        image.load()
        if image.mode.startswith("I") or image.mode == "F":
            return np.clip(np.rint(np.asarray(image, np.float64) / 257), 0, 255).astype(np.uint8)
        if image.mode in _EIGHT_BIT_GRAY:
            return np.asarray(image.getchannel(0))
        colour = np.asarray(image.convert("RGB"))
        if (colour[..., 0] == colour[..., 1]).all() and (colour[..., 1] == colour[..., 2]).all():
            return np.ascontiguousarray(colour[..., 0])
        return np.asarray(Image.fromarray(colour).convert("L"))


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 to (size, size) uint8: by area when it shrinks, bilinear when it grows."""
    if image.shape == (size, size):
        return image
    method = cv2.INTER_AREA if min(image.shape) >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def _fingerprint(names: tuple[str, ...], paths: list[str], size: int) -> str:
    digest = hashlib.sha256(f"{VERSION} {size}".encode())
    for name, path in zip(names, paths, strict=True):
        try:
            file = os.stat(path)
        except OSError as error:
            raise CxrError(
                f"{name} cannot be read: {error.strerror}; restore it or pass data.on_missing=skip"
            ) from error
        digest.update(f"\n{name}\t{file.st_size}\t{file.st_mtime_ns}".encode())
    return digest.hexdigest()


def _build(folder: Path, names: tuple[str, ...], paths: list[str], size: int, fingerprint: str) -> None:
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_room(folder.parent, len(names), size)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        array = np.lib.format.open_memmap(
            temporary / "images.npy", mode="w+", dtype=np.uint8, shape=(len(names), size, size)
        )
        with (temporary / "images.npy").open("rb+") as file:  # a full disk is an error here, and a crash in a map
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        bad = _fill(array, names, paths, size)
        if bad:
            listed = some([f"{name} ({reason})" for name, reason in bad], most=_NAMED)
            raise CxrError(f"{len(bad)} of {len(names)} images cannot be read: {listed}; replace these files")
        array.flush()
        manifest = {"version": VERSION, "size": size, "images": len(names), "fingerprint": fingerprint}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        if not folder.exists():  # another process may have been first
            temporary.rename(folder)
    except OSError as error:
        if not (folder / "manifest.json").exists():
            raise unwritable(folder, error) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary)


def _check_room(folder: Path, images: int, size: int) -> None:
    needed, free = images * size * size, shutil.disk_usage(folder).free
    if needed > free:
        raise CxrError(
            f"the cache of {images} images at {size} px needs {needed / 1e9:.2f} GB and {folder} has "
            f"{free / 1e9:.2f} GB free; choose another disk with cache.dir=DIR or a smaller image_size"
        )


def _fill(array: np.ndarray, names: tuple[str, ...], paths: list[str], size: int) -> list[tuple[str, str]]:
    """Decodes all images into `array` on threads (decoders release the lock); returns what failed, with reasons."""

    def decode(position: int) -> tuple[str, str] | None:
        try:
            array[position] = resize(read_gray(paths[position]), size)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            return names[position], str(error).replace(paths[position], names[position])
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(decode, range(len(names)))
        bar = tqdm(done, "decoding", len(names), unit="image", disable=not sys.stderr.isatty(), leave=False)
        return [result for result in bar if result is not None]
