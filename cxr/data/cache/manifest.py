"""The manifest of a cache, `manifest.json`: source files and checksums, one line per image."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cxr.data.archives import status
from cxr.errors import CxrError
from cxr.files.writing import write_text
from cxr.imaging.decode import DECODER

FORMAT = 3  # of the manifest and the array file
RESIZE = "area; bilinear where the file is smaller"  # part of the fingerprint
ARRAY, MANIFEST = "images.npy", "manifest.json"


class Entry(NamedTuple):
    """One image.

    Attributes:
        image: name.
        bytes: size of the file.
        modified: modification time of the file in nanoseconds.
        source: SHA-256 of the file; empty if it could not be read.
        width: of the file in pixels, 0 if unknown.
        height: of the file in pixels, 0 if unknown.
        pixels: SHA-256 of the row of the array; empty for a bad image, with a row of zeros.
        reason: why the image is bad; empty for a good image.
        remark: see `cxr.imaging.decode.Decoded`.
    """

    image: str
    bytes: int
    modified: int
    source: str
    width: int
    height: int
    pixels: str
    reason: str
    remark: str = ""


@dataclass(frozen=True)
class State:
    """The current files of a catalog, which determine the name of their cache.

    Attributes:
        names: of the images, in the catalog's order.
        paths: of their files.
        sizes: of the files in bytes, -1 for a missing file.
        times: of modification in nanoseconds.
        size: side of the cache's images in pixels.
        fingerprint: SHA-256 of all of these except the paths, and of the decoder.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    times: tuple[int, ...]
    size: int
    fingerprint: str

    @property
    def folder_name(self) -> str:
        """Name of the cache's folder."""
        return f"{self.size}px-{self.fingerprint[:16]}"

    @property
    def bytes(self) -> int:
        """Size of the cache's images in bytes."""
        return len(self.names) * self.size * self.size


def state_of(names: Sequence[str], paths: Sequence[str], size: int) -> State:
    """Reads size and modification time of every file, but not the content."""
    sizes, times = [], []
    for path in paths:
        length, modified = status(path) or _status(path)
        sizes.append(length)
        times.append(modified)
    digest = hashlib.sha256(f"{FORMAT} {DECODER} {RESIZE} {size}\n".encode())
    lines = (f"{n}\t{b}\t{t}\n" for n, b, t in zip(names, sizes, times, strict=True))
    digest.update("".join(lines).encode("utf-8", "surrogateescape"))
    return State(tuple(names), tuple(paths), tuple(sizes), tuple(times), size, digest.hexdigest())


def _status(path: str) -> tuple[int, int]:
    try:
        file = os.stat(path)
        if os.access(path, os.R_OK):  # a later change of permissions changes the fingerprint
            return file.st_size, file.st_mtime_ns
    except (OSError, ValueError):
        pass
    return -1, 0


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        size: side in pixels.
        fingerprint: of the catalog's files, see `State`.
        images: one entry per row of the array.
        duplicates: groups of images with the same pixels.
    """

    size: int
    fingerprint: str
    images: tuple[Entry, ...]
    duplicates: tuple[tuple[str, ...], ...] = field(default=())

    def write(self, path: Path, decoders: dict[str, str]) -> None:
        """Writes it atomically."""
        head = {
            "format": FORMAT,
            "decoder": DECODER,
            "decoders": decoders,
            "resize": RESIZE,
            "size": self.size,
            "fingerprint": self.fingerprint,
            "duplicates": [list(group) for group in self.duplicates],
            "columns": list(Entry._fields),
        }
        lines = ",\n".join(json.dumps(entry) for entry in self.images)
        write_text(path, f'{json.dumps(head, indent=1)[:-2]},\n "images": [\n{lines}\n]}}\n')


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache.

    Raises:
        CxrError: it is missing, invalid, or of another version of the cache.
    """
    path = folder / MANIFEST
    try:
        if not path.is_file():  # opening a pipe would block
            raise ValueError("it is missing or not a file")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("decoder") != DECODER:
            raise ValueError("it is of another version")
        if content["columns"] != list(Entry._fields):
            raise ValueError("its columns are wrong")
        images = tuple(_entry(values) for values in content["images"])
        names = {entry.image for entry in images}
        duplicates = tuple(tuple(group) for group in content["duplicates"])
        size = content["size"]
        if type(size) is not int or size < 1 or len(names) < len(images):
            raise ValueError("size or names are wrong")
        named = [name for group in duplicates for name in group]
        if not names.issuperset(named) or len(set(named)) < len(named) or min(map(len, duplicates), default=2) < 2:
            raise ValueError("its duplicates are not disjoint groups of its images")
        return Manifest(size, str(content["fingerprint"]), images, duplicates)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CxrError(f"{path} is not a valid manifest ({error}); remove {folder} and build the cache again") from None


def _entry(values: Any) -> Entry:
    entry = Entry(*values)
    for value, kind in zip(entry, (str, int, int, str, int, int, str, str, str), strict=True):
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not {kind.__name__}")
    texts = (entry.reason, entry.remark)
    if not "".join((entry.image, *texts)).isprintable() or any(text.startswith(("=", "+", "-", "@")) for text in texts):
        raise ValueError(f"{entry.image!r}, the reason or the remark {texts} has characters that are not allowed")
    if bool(entry.pixels) == bool(entry.reason) or min(entry.width, entry.height) < 0:
        raise ValueError(f"{entry.image!r} is neither decoded nor bad")
    return entry
