"""Images in `.tar`, `.tar.gz`, `.tgz` and `.zip` files, read without extracting them.

The path of such an image leads through its archive: `images_001.tar.gz/images/00000001_000.png`. Archives are
untrusted: names that leave the archive, links, devices and contents out of proportion to its length are refused.
"""

import gzip
import json
import os
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from cxr.data.directory import default_directory
from cxr.errors import CxrError, first_line
from cxr.files.reading import read_text
from cxr.files.writing import write_text
from cxr.imaging.decode import read_file
from cxr.imaging.limits import MOST_BYTES, BadImage

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_THROUGH = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz|zip))/(.+)", re.DOTALL | re.IGNORECASE)
_MOST_MEMBERS = 2_000_000
_RATIO, _SPARE = 100, 1 << 24  # what an archive holds, in lengths of the archive and bytes; images hardly compress
_MOST_AT_ONCE = 1 << 24  # bytes of a header
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError,
            RuntimeError, OverflowError)  # fmt: skip
_REMEDY = "unpack it, and keep what you trust in a folder"


def split_path(path: str) -> tuple[str, str] | None:
    """The archive and the name in it of a path that leads through an archive; none for any other path."""
    found = _THROUGH.fullmatch(path)
    return (found[1], found[2]) if found and _is_file(found[1]) else None


def is_archive(path: str) -> bool:
    """Whether the name of a file is that of an archive, in any case."""
    return path.lower().endswith(SUFFIXES)


def _is_compressed(archive: str) -> bool:
    return archive.lower().endswith((".gz", ".tgz"))


def _is_zip(archive: str) -> bool:
    return archive.lower().endswith(".zip")


@lru_cache(maxsize=1024)
def _is_file(path: str) -> bool:
    return Path(path).is_file()


def status(path: str) -> tuple[int, int] | None:
    """Length in bytes and time of modification (ns) of an image in an archive, the latter of the archive.

    None for a path that leads through no archive; (-1, 0) for a name that its archive lacks.
    """
    parts = split_path(path)
    if parts is None:
        return None
    length = members(parts[0]).get(parts[1])
    return (-1, 0) if length is None else (length, os.stat(parts[0]).st_mtime_ns)


def members(archive: str) -> Mapping[str, int]:
    """The files in an archive: length in bytes by name. Hidden files and those of macOS are left out.

    Of a compressed tar this reads the whole archive once; the list is kept beside the caches of its folder.

    Raises:
        CxrError: the archive is damaged, or holds what is refused.
    """
    about = os.stat(archive)
    return _members(archive, about.st_size, about.st_mtime_ns)


def members_of(archives: Sequence[Path]) -> dict[str, Mapping[str, int]]:
    """`members` of several archives, which are read at the same time."""
    with ThreadPoolExecutor() as pool:  # inflating releases the lock
        return dict(zip(map(str, archives), pool.map(members, map(str, archives)), strict=True))


@lru_cache(maxsize=1024)
def _members(archive: str, length: int, modified: int) -> Mapping[str, int]:
    if not _is_compressed(archive):
        return _listed(archive)
    path = Path(archive)
    kept = default_directory(path.parent) / f"{path.name}.json"
    with suppress(FileNotFoundError, CxrError, ValueError, TypeError, KeyError, AttributeError):
        content = json.loads(read_text(kept))
        if content["archive"] == [length, modified]:
            return {_checked(name, archive): int(number) for name, number in content["members"].items()}
    found = _listed(archive)
    with suppress(CxrError, OSError):  # a read-only disk
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"archive": [length, modified], "members": found}))
    return found


def _listed(archive: str) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        for name, length in _zip_members(archive) if _is_zip(archive) else _tar_members(archive):
            name = _checked(name.removeprefix("./"), archive)
            if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
                continue
            if name in found:
                raise CxrError(f"{archive} has {name!r} twice; {_REMEDY}")
            found[name] = length
    except _DAMAGED as error:
        raise _broken(archive, error) from None
    return found


def _broken(archive: str, error: Exception) -> CxrError:
    return CxrError(f"{archive} is damaged or cut short ({first_line(error)}); download it again")


def _checked(name: str, archive: str) -> str:
    if not name.isprintable() or "\\" in name or name.startswith("/") or {"..", ""} & set(name.split("/")):
        raise CxrError(f"{archive} has a file called {name!r}, which is no path inside it; {_REMEDY}")
    return name


def _most(archive: str) -> int:
    return _RATIO * Path(archive).stat().st_size + _SPARE


def _too_much(archive: str, what: str) -> CxrError:
    return CxrError(f"{archive} holds {what}, which no archive of images of its length does; {_REMEDY}")


def _zip_members(archive: str) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        if len(entries) > _MOST_MEMBERS or sum(entry.file_size for entry in entries) > _most(archive):
            raise _too_much(archive, f"more than {_most(archive)} bytes or {_MOST_MEMBERS} files")
        for entry in entries:
            if entry.external_attr >> 28 not in (0, 0o4, 0o10):  # of Unix: unknown, folder, file
                raise CxrError(f"{archive} has the link or device {entry.filename!r}; {_REMEDY}")
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CxrError(f"{archive} has {entry.filename!r} encrypted or in a rare compression; {_REMEDY}")
            if not entry.is_dir():
                yield entry.filename, entry.file_size


def _tar_members(archive: str) -> Iterator[tuple[str, int]]:
    with _Tar(archive) as tar:
        for number, entry in enumerate(tar.entries()):
            if number > _MOST_MEMBERS:
                raise _too_much(archive, f"more than {_MOST_MEMBERS} files")
            if entry.isreg() and not entry.issparse() and entry.size >= 0:
                yield entry.name, entry.size
            elif not entry.isdir():
                raise CxrError(f"{archive} has the link or device {entry.name!r}; {_REMEDY}")
        tar.finish()


class _Tar:
    """A tar that is read forwards, and no further than an archive of its length can go; also the file of `tarfile`."""

    def __init__(self, archive: str) -> None:
        self.archive, self.most = archive, _most(archive)
        opened = gzip.open(archive) if _is_compressed(archive) else Path(archive).open("rb")  # noqa: SIM115
        self.file = cast("IO[bytes]", opened)
        self.header = b""

    def __enter__(self) -> "_Tar":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def entries(self) -> Iterator[tarfile.TarInfo]:
        """The entries; `read_content` may be called for the current one."""
        tar = tarfile.open(fileobj=cast("IO[bytes]", self), mode="r:")  # noqa: SIM115 - self is closed
        while (entry := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else it keeps all
            yield entry

    def finish(self) -> None:
        """Raises ValueError if the last header was not the end mark; reads on to the checksum of the compression."""
        if self.header.strip(b"\0") or not self.header:
            raise ValueError("its end is missing")
        while self.file.read(1 << 20):
            self._check(self.file.tell())

    def read_content(self, entry: tarfile.TarInfo) -> bytes:
        self.seek(entry.offset_data)
        content = self.file.read(entry.size)
        if len(content) < entry.size:
            raise EOFError("it ends inside a file")
        return content

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise ValueError(f"a header of {size} bytes")
        self._check(self.file.tell() + size)
        self.header = self.file.read(size)
        return self.header

    def seek(self, position: int) -> int:
        self._check(position)
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()

    def _check(self, position: int) -> None:
        if position > self.most:
            raise _too_much(self.archive, f"more than {self.most} bytes")


def contents(paths: Iterable[str]) -> Iterator[tuple[int, bytes | BadImage]]:
    """Position and content of those of the images that lie in archives; each archive is read once, in its own order.

    An image that is damaged, or not in its archive, has the reason in place of its content.

    Raises:
        CxrError: an archive is damaged as a whole.
    """
    wanted: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, path in enumerate(paths):
        parts = split_path(path)
        if parts is not None:
            wanted[parts[0]][parts[1]].append(position)
    for archive, names in wanted.items():
        for name, content in _read(archive, names):
            for position in names.pop(name):
                yield position, content
        for position in [position for positions in names.values() for position in positions]:
            yield position, BadImage("cannot be opened: its archive has no such file")


def every_content(paths: Sequence[str]) -> Iterator[tuple[int, bytes | BadImage]]:
    """Position and content of every image, as `contents`: files first, then what lies in archives."""
    for position, path in enumerate(paths):
        if split_path(path) is None:
            try:
                yield position, read_file(path)
            except BadImage as error:
                yield position, error
    yield from contents(paths)


def _read(archive: str, names: Mapping[str, object]) -> Iterator[tuple[str, bytes | BadImage]]:
    try:
        if _is_zip(archive):
            with zipfile.ZipFile(archive) as file:
                for entry in sorted(file.infolist(), key=lambda entry: entry.header_offset):
                    if (name := entry.filename.removeprefix("./")) in names:
                        yield name, _unzipped(file, entry)
        else:
            with _Tar(archive) as tar:
                for tar_entry in tar.entries():
                    if (name := tar_entry.name.removeprefix("./")) in names and tar_entry.isreg():
                        yield name, _too_large(tar_entry.size) or tar.read_content(tar_entry)
    except _DAMAGED as error:
        raise _broken(archive, error) from None


def _unzipped(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | BadImage:
    try:
        return _too_large(entry.file_size) or file.read(entry)
    except _DAMAGED as error:
        return BadImage(f"damaged in its archive: {first_line(error)}")


def _too_large(length: int) -> BadImage | None:
    return BadImage(f"too large: the file has {length / 1e9:.1f} GB") if length > MOST_BYTES else None
