"""Images to be scored: a folder, one file, a list of files, or a table with age, sex and view."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.attributes import attributes
from cxr.data.catalog import parse_age
from cxr.data.sources import cells
from cxr.data.sources.images import files_below, find_images
from cxr.data.sources.roles import NAMES
from cxr.data.sources.tabular import read_sheet
from cxr.errors import CxrError, first_line
from cxr.files.reading import expanded, read_text
from cxr.findings import plain

_TABLES = (".csv", ".tsv", ".parquet", ".pq", ".xlsx", ".xlsm")
_LISTS = (".txt", ".lst", ".list")
Listed = tuple[Sequence[str], Sequence[str], NDArray[np.float32] | None]


def list_images(images: str, root: str | None = None, without: Iterable[Path] = ()) -> Listed:
    """Finds the files of `images`.

    Args:
        images: a folder, of which every file below is taken in the order of their paths; a `.txt` file with a path per
            line; a table with a column of images and perhaps age, sex and view; or one image file.
        root: folder below which the images of a list or table are found as those of a data set; by default their paths
            are relative to the folder of the list.
        without: folders that are left out of a folder.

    Returns:
        Names (N,) as given, files (N,), empty where a name has none below `root`, and attributes (N, 5) of a table.

    Raises:
        CxrError: `images` does not exist, is empty, or is a table without a column of images.
    """
    path = expanded(images)
    if not path.exists():
        raise CxrError(f"images={images} does not exist; give a folder, an image, a list (.txt) or a table (.csv)")
    suffix = path.suffix.lower()
    if root is not None and (path.is_dir() or suffix not in (*_LISTS, *_TABLES)):
        raise CxrError(f"root={root} is for the images of a list or table, and images={images} is neither")
    if path.is_dir():
        made = tuple(f"{os.path.relpath(os.path.realpath(folder), os.path.realpath(path))}/" for folder in without)
        try:
            found = sorted(name for name in files_below(path) if not name.startswith(made))
        except OSError as error:
            raise CxrError(f"images={images} cannot be searched: {first_line(error)}") from None
        listed: Listed = (found, [str(path / name) for name in found], None)
    elif suffix in _LISTS:
        lines = [line.strip() for line in read_text(path).splitlines()]
        names = [line for line in lines if line]
        listed = (names, _files(names, path, root), None)
    elif suffix in _TABLES:
        listed = _of_table(path, root)
    else:
        listed = ([path.name], [str(path)], None)
    if not listed[0]:
        raise CxrError(f"images={images} has no images")
    return listed


def _of_table(path: Path, root: str | None) -> Listed:
    sheet = read_sheet(path)
    columns: dict[str, pd.Series] = {}
    for role in ("image", "age", "sex", "view"):
        headings = sorted(
            (h for h in sheet.headings if plain(h) in NAMES[role]), key=lambda h: NAMES[role].index(plain(h))
        )
        columns[role] = sheet.text(headings[0]) if headings else pd.Series([""] * len(sheet.rows), dtype=object)
        if role == "image" and not headings:
            raise CxrError(f"{path} has no column for the images, such as image, filename or path")
    known = pd.DataFrame(
        {
            "age": parse_age(cells.mapped(columns["age"], lambda age: age.replace(",", "."))),
            "sex": cells.mapped(columns["sex"], lambda sex: cells.SEXES.get(sex.casefold(), "")),
            "view": cells.mapped(columns["view"], lambda view: cells.VIEWS.get(view.casefold(), view)),
        }
    )
    names = columns["image"].tolist()
    return names, _files(names, path, root), attributes(known)


def _files(names: Sequence[str], listed_in: Path, root: str | None) -> list[str]:
    if root is None:
        return [str(listed_in.parent / expanded(name)) if name else "" for name in names]
    folder = expanded(root)
    if not folder.is_dir():
        raise CxrError(f"root={root} is not a folder; give the folder of the images")
    return [str(path) for path in find_images(pd.Series(names, dtype=object), folder, str(listed_in)).paths]
