"""Attributes from the headers of DICOM files, for a table that lacks them, and files by their SOPInstanceUID."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr.data.catalog import some
from cxr.errors import CxrError, counted
from cxr.imaging.decode import NO_DICOM, is_dicom
from cxr.imaging.limits import BadImage

if TYPE_CHECKING:
    from cxr.imaging.dicom_header import Header

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic")
ATTRIBUTES = {
    "patient": "PatientID",
    "age": "PatientAge",
    "sex": "PatientSex",
    "view": "ViewPosition",
    "study": "StudyDate",
}  # by the role that they fill

_KEPT = {"patient", "study"}  # columns of a table that are not completed


@lru_cache(1000)
def _may_be_dicom(ending: str) -> bool:
    """Whether the text after the last point of a path may be that of a DICOM file: often no suffix, or numbers."""
    return f".{ending.lower()}" in DICOM_SUFFIXES or not ending or "/" in ending or ending.isdigit()


def read_headers(paths: Iterable[str]) -> dict[str, "Header"]:
    """The headers of those of the files that are DICOM and can be read, with a progress bar.

    Raises:
        CxrError: one of them is DICOM, and the extra `dicom` is not installed.
    """
    others = [path for path in paths if not path.endswith((".png", ".jpg"))]  # which tests most paths fast
    named = list(dict.fromkeys(path for path in others if _may_be_dicom(path.rpartition(".")[2])))
    with ThreadPoolExecutor(8) as pool:  # file servers answer several at once
        read = pool.map(_header, named)
        bar = tqdm(read, "reading headers", len(named), unit="file", disable=not sys.stderr.isatty(), leave=False)
        return {path: header for path, header in zip(named, bar, strict=True) if header is not None}


def _header(path: str) -> "Header | None":
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            return None
        with Path(path).open("rb") as file:
            if not is_dicom(file.read(132)):
                return None
            file.seek(0)
            from cxr.imaging.dicom_header import read_header

            return read_header(file)
    except ImportError:
        raise CxrError(NO_DICOM) from None
    except (OSError, BadImage):  # the cache names it
        return None


def fill(text: dict[str, pd.Series], paths: pd.Series, notes: list[str], without: Sequence[str] = ()) -> None:
    """Fills roles of a table from the headers of its DICOM files, and notes how many, and what the headers remark.

    A missing column is filled whole; of age, sex and view also blank cells. Patients and studies of a table are never
    mixed with those of headers.

    Args:
        text: (N,) cells by role; changed.
        paths: (N,) files, empty where there is none.
        notes: to which sentences are added.
        without: roles that are left alone.

    Raises:
        CxrError: as `read_headers`.
    """
    none = pd.Series("", index=paths.index, dtype=object)
    wanted = [role for role in ATTRIBUTES if role not in (*without, *(_KEPT & text.keys()))]
    lacking = np.zeros(len(paths), np.bool_)
    for role in wanted:
        lacking |= (text[role] == "").to_numpy() if role in text else True
    headers = read_headers(paths[lacking & (paths != "").to_numpy()])
    if not headers:
        return
    filled = dict[str, int]()
    for role in wanted:
        found = paths.map({path: getattr(header, role) for path, header in headers.items()}).fillna("")
        before = text.get(role, none)
        after = before.where(before != "", found)
        filled[role] = int((after != before).sum())
        if filled[role]:
            text[role] = after
    given = ", ".join(f"{role} {count:,}" for role, count in filled.items() if count)
    notes.append(
        f"read for what the table lacks: {counted(len(headers), 'DICOM header')}: {given or 'none of it is there'}"
    )
    remarks = Counter(remark for header in headers.values() for remark in header.remarks)
    for remark, count in remarks.most_common():
        first = next(path for path, header in headers.items() if remark in header.remarks)
        notes.append(f"{counted(count, 'DICOM header')}: {remark}, such as that of {first}")


def by_instance(names: Iterable[str], below: Mapping[str, str]) -> dict[str, str]:
    """Paths below a folder of DICOM files that a table names by SOPInstanceUID.

    Args:
        names: of images without a file.
        below: files by their path below the folder.

    Raises:
        CxrError: two files have the same UID, or as `read_headers`.
    """
    wanted = {name for name in names if name.count(".") > 2 and name.replace(".", "").isdigit()}
    if not wanted:
        return {}
    whole = {path: name for name, path in below.items()}
    found: dict[str, str] = {}
    for path, header in read_headers(whole).items():
        if header.instance in wanted:
            if header.instance in found:
                twice = some([found[header.instance], whole[path]])
                raise CxrError(f"two files have the SOPInstanceUID {header.instance}: {twice}; remove one")
            found[header.instance] = whole[path]
    return found
