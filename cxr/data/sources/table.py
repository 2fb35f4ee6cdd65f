"""A table of your own: CSV, TSV, Parquet or Excel, a row per image, with the columns that it has."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.catalog import Catalog, check, parse_age, root_folder, some
from cxr.data.soft import SOFT
from cxr.data.sources import cells
from cxr.data.sources.headers import ATTRIBUTES, fill
from cxr.data.sources.images import Found, find_images
from cxr.data.sources.labels import BLANK, UNCERTAIN, find_labels
from cxr.data.sources.roles import NAMES, Roles, find_roles, read_roles
from cxr.data.sources.tabular import Sheet, read_sheet
from cxr.errors import CxrError, counted


def read_table(
    root: str | None,
    file: str | None,
    roles: str | None = None,
    uncertain: str = "ignore",
    blank: str = "unknown",
    one_image_a_patient: bool = False,
) -> Catalog:
    """Reads a table into a catalog and prints how it was understood.

    Args:
        root: the folder below which images are found.
        file: the table: a path, or a name below `root`.
        roles: a roles file, see `cxr.data.sources.roles`; by default all roles are found.
        uncertain: what -1 is: `ignore` (unknown), `zeros`, `ones`, `mixed` or `smooth`, see `cxr.data.sources.labels`.
        blank: what a blank cell of a finding is: `unknown` or `zeros`.
        one_image_a_patient: the table names no patients, and each of its images is of another one.

    Raises:
        CxrError: an option, the file, a role or a cell is not understood; the message names row, column and value.
    """
    check_choices(uncertain=(uncertain, UNCERTAIN), blank=(blank, BLANK))
    sheet, found = open_table(root, file, roles)
    folder, origin = root_folder(root, "the images of the table"), str(sheet.path)
    print("\n".join([f"{origin}: {sheet.form}", *described(found)]), flush=True)
    notes: list[str] = []
    table = attributes(sheet, found, find_images, folder, one_image_a_patient, notes)
    labels = find_labels(sheet, found, uncertain, blank, notes)
    names = [str(name) for name in labels if not str(name).startswith(SOFT)]
    for name in names:
        unknown = labels[name].isna() & (labels[f"{SOFT}{name}"].isna() if f"{SOFT}{name}" in labels else True)
        if blank == "unknown" and unknown.any() and not (labels[name] == 0).any():
            notes.append(f"{name} has no 0; if a blank cell means that it is absent, pass data.blank=zeros")
    for note in notes:
        print(f"note: {note}", flush=True)
    catalog = Catalog(pd.concat([table, labels], axis=1), tuple(names), origin)
    return check(catalog, sheet.rows.tolist(), {**found.columns, **found.findings})


def check_choices(**options: tuple[str, Collection[str]]) -> None:
    """Raises CxrError if an option `data.<name>`, given with its choices, is none of them."""
    for name, (value, choices) in options.items():
        if value not in choices:
            raise CxrError(f"data.{name}={value} must be one of {', '.join(choices)}")


def open_table(root: str | None, file: str | None, roles: str | None = None) -> tuple[Sheet, Roles]:
    """The cells of a table, and the roles of its columns; see `read_table`."""
    if not file:
        raise CxrError("data.file is not set; pass data.file=films.csv, a .csv, .tsv, .xlsx or .parquet file")
    folder = root_folder(root, "the images of the table")
    sheet = read_sheet(_existing(file, folder))
    return sheet, find_roles(sheet, read_roles(_existing(roles, folder)) if roles else {})


def _existing(name: str, folder: Path) -> Path:
    """A file by its path, or by its name below a folder where there is no such path."""
    path = Path(name).expanduser()
    return folder / name if not path.exists() and (folder / name).exists() else path


def described(roles: Roles) -> list[str]:
    """Roles as lines of a report."""
    lines = [f"  {role:10}  {roles.columns.get(role, '-')}" for role in NAMES]
    for role, headings in roles.others.items():
        lines[list(NAMES).index(role)] += f"  (not used: {', '.join(headings)})"
    if roles.labels is not None:
        lines.append(f"  {'labels':10}  {roles.labels}, names joined by {roles.separator!r}")
    else:
        shown = [name if name == heading else f"{name} ({heading})" for name, heading in roles.findings.items()]
        lines.append(f"  {'findings':10}  {len(shown)}: {some(shown, 30)}")
    lines += [f"  {'no role':10}  {some(roles.unused, 30)}"] * bool(roles.unused)
    if roles.fractions:
        lines.append(
            f"note: {some(roles.fractions)} of no role: only numbers from 0 to 1; for soft labels of a finding, add "
            "`name: heading` below findings in data.roles=FILE, which inspect writes with roles=FILE"
        )
    return lines


def attributes(
    sheet: Sheet,
    roles: Roles,
    find: Callable[[pd.Series, Path, str], Found],
    folder: Path,
    one_image_a_patient: bool,
    notes: list[str],
) -> pd.DataFrame:
    """All columns of a catalog but the findings.

    Args:
        sheet: the table.
        roles: of its columns.
        find: finds the files of names below a folder, such as `find_images`.
        folder: of the images.
        one_image_a_patient: see `read_table`.
        notes: lines of the report are added to it.

    Raises:
        CxrError: see `read_table`.
    """
    origin, columns = str(sheet.path), roles.columns
    text = {role: sheet.text(heading) for role, heading in columns.items() if role != "no_finding"}
    images = find(text["image"], folder, origin)
    table = pd.DataFrame({"image": images.ids, "path": images.paths})
    if images.ids is not text["image"]:  # a name that is not the path of its file
        _refuse_two_names(table, text["image"], origin, sheet.rows)
    if images.moved:
        name, path = next(iter(images.moved.items()))
        notes.append(
            f"found by the end of their path or by their UID: {counted(len(images.moved), 'image')}, such as {name} at "
            f"{path}"
        )
    if not ("patient" in columns or one_image_a_patient) and (images.paths == "").all():
        raise CxrError(
            f"none of the {len(table)} images of {origin} is below data.root={folder}: no file has the name or "
            f"SOPInstanceUID {text['image'][0]!r} (column {columns['image']!r}), so that no DICOM header names the "
            "patients; give the folder of the images, or, for a table without them, `patient: HEADING` in "
            "data.roles=FILE or data.one_image_a_patient=true"
        )
    fill(text, images.paths, notes, ["patient"] if one_image_a_patient else [])
    table["patient"] = _patients(text, images, columns, origin, one_image_a_patient)
    table["followup"] = 0
    called = {**ATTRIBUTES, **columns}
    if "study" in text:
        table["followup"], order = cells.study_numbers(text["study"], table["patient"])
        notes.append(f"studies of a patient are in the order of {called['study']!r}: {order}")
    none = pd.Series("", index=table.index, dtype=object)
    ages, sexes = text.get("age", none), text.get("sex", none)
    table["age"] = parse_age(cells.mapped(ages, lambda age: age.replace(",", ".")))
    table["sex"] = cells.mapped(sexes, lambda sex: cells.SEXES.get(sex.casefold(), "?"))
    for role, given, unknown in (
        ("age", ages, (ages != "") & table["age"].isna()),
        ("sex", sexes, table["sex"] == "?"),
    ):
        if unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            notes.append(
                f"not understood and read as unknown: {counted(int(unknown.sum()), 'cell')} of {called[role]!r}, the "
                f"first is {given[first]!r} in row {sheet.rows[first]}"
            )
    table["sex"] = _one_sex(table, notes)
    table["view"] = cells.mapped(text.get("view", none), lambda view: cells.VIEWS.get(view.casefold(), view.upper()))
    if "split" in text:
        table["split"] = cells.splits(text["split"], columns["split"], origin, sheet.rows)
    return table


def _patients(
    text: Mapping[str, pd.Series], images: Found, columns: Mapping[str, str], origin: str, one_image_a_patient: bool
) -> pd.Series:
    """The patient of each image, by the table or by the headers of its files; that of a missing file is its image."""
    if one_image_a_patient:
        if "patient" in columns:
            raise CxrError(
                f"data.one_image_a_patient=true, but {origin} has patients in {columns['patient']!r}; leave it out"
            )
        return images.ids
    if "patient" in columns:
        return text["patient"]
    patients = text.get("patient", pd.Series("", index=images.ids.index, dtype=object))
    nameless = (patients == "") & (images.paths != "")
    if "patient" not in text or nameless.any():
        shown = f"{nameless.sum()} of its images, such as {images.ids[nameless].iloc[0]}," if nameless.any() else ""
        headers = f", and {shown} no DICOM header that names one" if "patient" in text else ""
        raise CxrError(
            f"{origin} has no column for the patients, such as patient or patient_id{headers}; without them, images "
            "of one can be in training and in test; write `patient: HEADING` into a file and pass data.roles=FILE, or "
            "pass data.one_image_a_patient=true if no patient has two images"
        )
    return patients.where(images.paths != "", images.ids)


def _refuse_two_names(table: pd.DataFrame, names: pd.Series, origin: str, rows: NDArray[np.int64]) -> None:
    """Raises CxrError if two different names are of the same file; the same name twice is left to `check`."""
    twice = (table["path"] != "") & table["path"].duplicated()
    if not twice.any():
        return
    same = table["path"].isin(table["path"][twice]) & ~table["image"].duplicated(keep=False)
    if same.any():
        path = table["path"][same].iloc[0]
        at = np.flatnonzero(table["path"] == path)
        raise CxrError(
            f"{origin} names the file {path} as {some([names[int(k)] for k in at])} (rows "
            f"{some([str(rows[k]) for k in at])}); keep one row per image"
        )


def _one_sex(table: pd.DataFrame, notes: list[str]) -> pd.Series:
    """The column `sex` with unknown for an unknown word and for patients of whom the table has both."""
    sex = table["sex"].where(table["sex"] != "?", "")
    codes, patients = pd.factorize(table["patient"])
    female, male = (np.bincount(codes, sex == letter) > 0 for letter in "FM")
    twice = female & male
    if twice.any():
        both = np.asarray(patients)[twice]
        notes.append(f"the sex of patients with two sexes is unknown: {some(both.tolist())}")
        sex = sex.where(~twice[codes], "")
    return sex
