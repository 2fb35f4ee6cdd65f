"""What the readers of public data sets share: published tables, files by the end of their path, one way to a catalog.

A reader puts its published columns into a frame of text, a row per image, and hands it to `published`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from cxr.data.catalog import Catalog, check, root_folder, some
from cxr.data.soft import SOFT
from cxr.data.sources.images import SUFFIXES, Found, files_below, in_archives
from cxr.data.sources.labels import BLANK, UNCERTAIN, find_labels
from cxr.data.sources.roles import NAMES, Roles
from cxr.data.sources.table import attributes, check_choices
from cxr.data.sources.tabular import Sheet, read_sheet
from cxr.errors import CxrError, counted, first_line
from cxr.files.reading import read_text
from cxr.findings import NO_FINDING, shared_name

VIEWS = ("frontal", "all")


@dataclass(frozen=True)
class Published:
    """A folder with a published data set.

    Attributes:
        root: `data.root`.
        layout: what it should hold, for messages.
    """

    root: str | None
    layout: str

    @property
    def folder(self) -> Path:
        """The folder, or a CxrError that states what is expected there."""
        return root_folder(self.root, self.layout)

    def find(self, *patterns: str) -> Path | None:
        """The file that fits a pattern, with or without `.gz`, in the folder or in one directly below it; or none.

        Raises:
            CxrError: several files fit the first pattern that any fits.
        """
        for pattern in (f"{above}{pattern}" for pattern in patterns for above in ("", "*/")):
            found = sorted({*self.folder.glob(pattern), *self.folder.glob(f"{pattern}.gz")})
            if len(found) > 1:
                names = some([str(path.relative_to(self.folder)) for path in found])
                raise CxrError(f"data.root={self.root} has {names}; keep the one to be used, or give its folder")
            if found:
                return found[0]
        return None

    def path(self, *patterns: str) -> Path:
        """As `find`; a missing file is a CxrError."""
        found = self.find(*patterns)
        if found is None:
            raise CxrError(
                f"data.root={self.root} has no {' or '.join(patterns)}; expected {self.layout} (docs/public-sets.md)"
            )
        return found

    def given(self, option: str, name: str) -> Path:
        """The file of an option: a path, or a name below the folder; a missing file is a CxrError."""
        path = Path(name).expanduser()
        found = next((each for each in (path, self.folder / path) if each.is_file()), None)
        if found is None:
            raise CxrError(f"data.{option}={name} is no file, nor a name below data.root={self.root}")
        return found

    def table(self, *patterns: str, needs: Sequence[str], split: str | None = None) -> pd.DataFrame:
        """The cells of a table as text, without surrounding space; its index is the rows of the file, its name `path`.

        Args:
            patterns: see `find`.
            needs: columns that it must have.
            split: content of a further column `split`.

        Raises:
            CxrError: the file is missing, damaged, or lacks a column.
        """
        return text_of(self.path(*patterns), needs, split)


def text_of(path: Path, needs: Sequence[str], split: str | None = None) -> pd.DataFrame:
    """As `Published.table`, for the path of a file."""
    sheet = read_sheet(path)
    lacks = [name for name in needs if name not in sheet.headings]
    if lacks:
        raise CxrError(
            f"{path} lacks the column {', '.join(lacks)}; its columns are {some(sheet.headings, 12)}; is it the "
            "published file?"
        )
    frame = pd.DataFrame({heading: sheet.text(heading) for heading in sheet.headings})
    frame.index = pd.Index(sheet.rows)
    return frame.assign(**({} if split is None else {"split": split}))


def published(
    frame: pd.DataFrame,
    origin: Path | str,
    root: Path,
    findings: Sequence[str],
    uncertain: str = "ignore",
    blank: str = "unknown",
    parts: int = 1,
    soft: pd.DataFrame | None = None,
    boxes: pd.DataFrame | None = None,
) -> Catalog:
    """The catalog of a frame; notes are printed.

    Args:
        frame: text, a row per image, numbered by rows of the file, with `image` (the id), `patient`, and what there is
            of `age`, `sex`, `view`, `study` (in the order of the visits), `split`, `No Finding` and the findings.
        origin: the file that errors name.
        root: the folder of the images.
        findings: columns of the findings; names that other data sets share are unified by `shared_name`.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell of a finding is.
        parts: how many last parts of a path tell the images apart, see `by_end`.
        soft: (N, L) further training targets by finding, in the order of the frame.
        boxes: see `cxr.data.boxes`; those of other images or findings are left out.

    Raises:
        CxrError: an option, a cell, or an image is not as published.
    """
    check_choices(uncertain=(uncertain, UNCERTAIN), blank=(blank, BLANK))
    if frame.empty:
        raise CxrError(f"{origin} has no image with the chosen views; pass data.views=all")
    headings = {shared_name(heading): heading for heading in findings}
    columns = {role: role for role in NAMES if role in frame}
    if NO_FINDING in frame:
        columns["no_finding"] = NO_FINDING
        frame = _without_contradictions(frame, [name for name in findings if name != "Support Devices"])
    used = frame[[*columns.values(), *headings.values()]]
    sheet = Sheet(Path(origin), pa.Table.from_pandas(used, preserve_index=False), frame.index.to_numpy(), "")
    notes: list[str] = []
    roles = Roles(columns, headings)
    table = attributes(sheet, roles, by_end(parts), root, False, notes)
    labels = find_labels(sheet, roles, uncertain, blank, notes)
    for note in notes:
        print(f"note: {note}", flush=True)
    if soft is not None:
        labels = labels.assign(**{f"{SOFT}{shared_name(str(name))}": soft[name].to_numpy() for name in soft})
    catalog = Catalog(pd.concat([table, labels], axis=1), tuple(headings), str(origin))
    if boxes is not None:
        boxes = boxes.assign(finding=boxes["finding"].map(shared_name))
        kept = boxes["image"].isin(table["image"]) & boxes["finding"].isin(catalog.findings)
        catalog = replace(catalog, boxes=boxes[kept].reset_index(drop=True))
    return check(catalog, sheet.rows.tolist(), {**columns, **headings})


def _without_contradictions(frame: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """The frame with `No Finding` blank where a finding is present, and how many."""
    present = frame[findings].isin(["1", "1.0"]).any(axis=1)
    both = present & frame[NO_FINDING].isin(["1", "1.0"])
    if not both.any():
        return frame
    print(f"{counted(both.sum(), 'image')} with {NO_FINDING} beside a finding; the finding counts", flush=True)
    return frame.assign(**{NO_FINDING: frame[NO_FINDING].mask(both, "")})


def frontal(frame: pd.DataFrame, mask: pd.Series, views: str) -> pd.DataFrame:
    """The rows of a frame whose view is frontal, `mask` (N,), or all of them with `data.views=all`; says how many."""
    check_choices(views=(views, VIEWS))
    if views == "all" or mask.all():
        return frame
    print(f"left out, since the view is not frontal: {(~mask).sum():,} of {counted(len(frame), 'image')}", flush=True)
    return frame[mask]


def by_end(parts: int) -> Callable[[pd.Series, Path, str], Found]:
    """A function that finds the files of images by the last `parts` parts of their path, without suffix.

    Copies of a data set differ in the folders above, and in the suffix where images were converted. A file with the
    suffix of the name goes before a converted one, and a file before one in an archive.
    """

    def find(names: pd.Series, root: Path, origin: str) -> Found:
        try:
            below = {name: str(root / name) for name in files_below(root)}
        except OSError as error:
            raise CxrError(f"data.root={root} cannot be searched for images: {first_line(error)}") from None
        wanted = dict(_end(name, parts) for name in names)
        files = _files_of(wanted, below, parts)
        if len(files) < len(wanted):
            files = {**_files_of(wanted, in_archives(below), parts), **files}
        twice = [found for found in files.values() if len(found) > 1]
        if twice:
            raise CxrError(
                f"{len(twice)} images of {origin} have several files below data.root={root}, such as {some(twice[0])}; "
                "give the folder of one copy"
            )
        paths = [files[end][0] if end in files else "" for end in (_end(name, parts)[0] for name in names)]
        return Found(names, pd.Series(paths, dtype=object))

    return find


def _files_of(wanted: Mapping[str, str], below: Mapping[str, str], parts: int) -> dict[str, list[str]]:
    """The files of images by the end of their path: those with the wanted suffix, or else all."""
    exact: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for name, path in below.items():
        end, suffix = _end(name, parts)
        if suffix and end in wanted:
            (exact if suffix == wanted[end] else others).setdefault(end, []).append(path)
    return {**others, **exact}


def _end(path: str, parts: int) -> tuple[str, str]:
    """The last parts of a path without the suffix of an image, and that suffix in lower case."""
    end = "/".join(path.split("/")[-parts:])
    stem, dot, suffix = end.rpartition(".")
    suffix = f"{dot}{suffix.lower()}"
    return (stem, suffix) if suffix in SUFFIXES else (end, "")


def nih_patients(images: pd.Series, mapping: str | None, key: str, files: Published) -> pd.DataFrame:
    """`patient` and `study` of images that were taken from NIH ChestX-ray14, as NIH's table has them.

    Args:
        images: (N,) ids.
        mapping: the published JSON file, a list of objects with `img_id`, NIH's file name: a path, or a name below the
            root; by default it is looked for there.
        key: of the object that has the id.
        files: the data set.

    Raises:
        CxrError: the file is missing or is no such list, or lacks an image.
    """
    path = files.find("pneumonia-challenge-dataset-mappings*.json") if mapping is None else Path(mapping).expanduser()
    if path is not None and not path.exists():
        path = files.folder / path
    remedy = (
        "download pneumonia-challenge-dataset-mappings_2018.json of the RSNA challenge and pass data.mapping=FILE, or "
        "pass data.one_image_a_patient=true; images of a patient may then be in training and in test"
    )
    if path is None:
        raise CxrError(
            f"data.root={files.root} has several images per patient and does not name the patients; {remedy}"
        )
    try:
        names = {str(entry[key]): str(entry["img_id"]) for entry in json.loads(read_text(path))}
        known = {image: name.partition(".")[0].split("_") for image, name in names.items()}
        pairs = {image: (str(int(patient)), str(int(number))) for image, (patient, number) in known.items()}
    except FileNotFoundError:
        raise CxrError(f"data.mapping={path} does not exist; {remedy}") from None
    except (ValueError, TypeError, KeyError):
        raise CxrError(f"{path} is not a list of objects with {key} and img_id (00000001_000.png); {remedy}") from None
    absent = images[~images.isin(list(pairs))]
    if len(absent):
        raise CxrError(f"{path} lacks {len(absent)} of {len(images)} images: {some(absent)}; {remedy}")
    return pd.DataFrame([pairs[image] for image in images], columns=["patient", "study"], index=images.index)
