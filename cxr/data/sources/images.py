"""Where the images of a table are: names with or without folders and suffixes, found below a folder."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from cxr.data.archives import is_archive, members_of
from cxr.data.catalog import some
from cxr.data.sources.headers import DICOM_SUFFIXES, by_instance
from cxr.errors import CxrError, first_line
from cxr.files.reading import expanded

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".gif", ".ppm", ".pgm",
            *DICOM_SUFFIXES)  # fmt: skip
_PASSED_OVER = "cxr-cache"  # a folder of decoded images


@dataclass
class Found:
    """The images of a table's rows.

    Attributes:
        ids: (N,) text, the name of each as a path below the root.
        paths: (N,) text, its file; empty where there is none.
        moved: names of files that were found below the root by the end of their path alone, with that file.
    """

    ids: pd.Series
    paths: pd.Series
    moved: dict[str, str] = field(default_factory=dict)


def find_images(names: pd.Series, root: Path, origin: str) -> Found:
    """Finds the file of each name of a table.

    A name is a path below `root`, or an absolute path; it may lack its suffix. A name without folders may also be in
    any folder below `root`, and in an archive there. It may be the SOPInstanceUID of a DICOM file. Of another path that
    does not exist, the beginning is ignored as far as needed: tables keep paths of the machine on which they were
    written.

    Args:
        names: (N,) as the table gives them.
        root: the folder of the data set.
        origin: what errors call the table.

    Raises:
        CxrError: a name fits several files.
    """
    try:
        files = files_below(root)
    except OSError as error:
        raise CxrError(f"data.root={root} cannot be searched for images: {first_line(error)}") from None
    found = Found(names, os.path.join(root, "") + names)
    there = set(files)
    if there.issuperset(names):
        return found
    named = names.isin(there)
    below = {name: os.path.join(root, name) for name in files}
    below = {**in_archives(below), **below}
    ids, paths = dict[str, str](), dict[str, str]()
    outside, index = dict[str, Path](), _Index(below)
    others = [str(name) for name in names[~named].unique()]
    inner = {name: _below(_spelled(name), root) for name in others}
    matched = {name: index.find(inner[name]) for name in others}
    instances = by_instance([name for name, (files, _) in matched.items() if not files], below)
    for name in others:
        spelled, inside = _spelled(name), inner[name]
        matches, moved = ([instances[name]], True) if name in instances else matched[name]
        outer = expanded(spelled) if not matches and spelled.startswith(("/", "~")) else None
        if outer is not None and os.path.isfile(outer):  # noqa: PTH113 - `Path.is_file` raises for long names
            outside[name] = outer
            continue
        if len(matches) > 1:
            raise CxrError(
                f"{origin} names the image {name!r}, and {len(matches)} files below {root} have that name: "
                f"{some(sorted(matches))}; write it with its folder and suffix"
            )
        if moved:
            found.moved[name] = matches[0]
        ids[name] = matches[0] if moved else inside.lstrip("/~")
        paths[name] = below[matches[0]] if matches else ""
    if outside:
        common = os.path.commonpath([path.parent for path in outside.values()])
        ids |= {name: str(path.relative_to(common)) for name, path in outside.items()}
        paths |= {name: str(path) for name, path in outside.items()}
    found.ids = pd.Series([ids.get(name, name) for name in names], dtype=object)
    found.paths = found.paths.where(named, names.map(paths))
    return found


class _Index:
    """The files below a folder by what a table may call them: path, path without suffix, or name alone."""

    def __init__(self, below: Mapping[str, str]) -> None:
        self.below = below

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Images by their path without suffix."""
        return _grouped((path.rpartition(".")[0], path) for path in self.below if path.lower().endswith(SUFFIXES))

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Files by their name, and images by their name without suffix."""
        named = _grouped((path.rpartition("/")[2], path) for path in self.below)
        stems = _grouped((stem.rpartition("/")[2], path) for stem, paths in self.by_stem.items() for path in paths)
        return {**stems, **named}

    def find(self, name: str) -> tuple[list[str], bool]:
        """Files of a name, and whether the beginning of its path had to be ignored for that."""
        if name in self.below:
            return [name], False
        if name in self.by_stem:
            return self.by_stem[name], False
        if "/" not in name:
            return self.by_name.get(name, []), False
        parts = name.split("/")
        for start in range(1, len(parts)):
            end = "/".join(parts[start:])
            if end in self.below or end in self.by_stem:
                return [end] if end in self.below else self.by_stem[end], True
        return [], False


def in_archives(below: Mapping[str, str]) -> dict[str, str]:
    """What the archives among the files hold, as if it were unpacked in their folders."""
    named = [Path(path) for path in below.values() if is_archive(path)]
    listed = members_of([path for path in named if path.is_file()])  # a pipe would be waited for
    folders = {path: name.rpartition("/")[0] for name, path in below.items() if path in listed}
    return {
        f"{folders[archive]}/{name}".lstrip("/"): f"{archive}/{name}"
        for archive, names in listed.items()
        for name in names
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return groups


def _spelled(name: str) -> str:
    """A name with `/` between its parts and without `./` at its beginning."""
    name = name.replace("\\", "/") if "\\" in name else name
    return name[2:] if name.startswith("./") else name


def _below(name: str, root: Path) -> str:
    """An absolute path as one below the root, if it is there; any other name as it is."""
    if not name.startswith(("/", "~")):
        return name
    path = str(expanded(name))
    for folder in {str(root.absolute()), str(root.resolve())}:
        if path.startswith(f"{folder}/"):
            return path.removeprefix(f"{folder}/")
    return name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link is an image that cannot be read, which the cache names
        return False


def files_below(root: Path) -> list[str]:
    """The paths, below a folder, of every file in it; links are followed.

    Hidden files and folders and caches of decoded images are skipped.
    """
    files, waiting, seen = list[str](), [""], set()
    while waiting:
        prefix = waiting.pop()
        folder = os.path.join(root, prefix)
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:  # a link to a folder above
            continue
        seen.add((about.st_dev, about.st_ino))
        for entry in os.scandir(folder):
            name = entry.name
            if name[0] == "." or name == _PASSED_OVER:
                continue
            if _is_folder(entry):
                waiting.append(f"{prefix}{name}/")
            else:
                files.append(prefix + name)
    return files
