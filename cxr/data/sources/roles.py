"""Which column of a table has which role: found by the names of columns, or read from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import yaml  # type: ignore[import-untyped]

from cxr.data.sources.cells import label_of
from cxr.data.sources.tabular import Sheet
from cxr.errors import CxrError, first_line
from cxr.files.reading import read_text
from cxr.findings import is_published, plain

# Headings by role, without case, space and signs; the first that a table has is taken.
NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("path", "filepath", "imagepath", "imgpath", "relativepath", "pngpath", "jpgpath", "dicompath", "filename",
              "imagefilename", "imagefile", "imagename", "file", "image", "imageindex", "imageid", "img", "imgid",
              "film", "filmid", "radiograph", "dicomid", "dicom", "sopinstanceuid", "instanceuid"),
    "patient": ("patientid", "patient", "patientno", "patientnumber", "patid", "pid", "subjectid", "subject", "mrn",
                "medicalrecordnumber", "person", "personid"),
    "split": ("split", "datasplit", "subset", "set", "partition"),
    "age": ("age", "patientage", "ageyears", "ageinyears", "ageatstudy", "ageatexam"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "view": ("viewposition", "view", "projection", "appa", "paap", "viewpoint"),
    "study": ("followup", "followupnumber", "visit", "visitnumber", "studydate", "examdate", "acquisitiondate", "date",
              "studyid", "study", "exam", "examid", "accessionnumber", "accession", "studyuid", "studyinstanceuid"),
    "no_finding": ("nofinding", "nofindings", "normal", "healthy"),
}  # fmt: skip
JOINED = ("findinglabels", "findings", "finding", "labels", "label", "diagnoses", "diagnosis", "pathologies",
          "pathology", "diseases", "disease", "classes", "class", "problems")  # fmt: skip
SEPARATORS = ("|", ";", ",")
_MOST_DIFFERENT = 1000  # cells of a column of labels, where it is found by its cells
_KEYS = (*NAMES, "findings", "labels", "separator")
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Roles:
    """The columns of a table by their role.

    Attributes:
        columns: heading by role, for the roles of `NAMES` that the table has.
        findings: heading by name of the finding, where each has a column.
        labels: the column of joined names, where one holds them all.
        separator: between joined names.
        unused: headings without a role.
        fractions: those of them whose cells are numbers from 0 to 1.
        others: headings that would have fitted a role that another column has, by role.
    """

    columns: Mapping[str, str]
    findings: Mapping[str, str] = field(default_factory=dict)
    labels: str | None = None
    separator: str = "|"
    unused: tuple[str, ...] = ()
    fractions: tuple[str, ...] = ()
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_yaml(self) -> str:
        """The content of a roles file that gives these roles."""
        content: dict[str, Any] = {role: self.columns.get(role) for role in NAMES}
        if self.labels is not None:
            content |= {"labels": self.labels, "separator": self.separator}
        else:
            content["findings"] = dict(self.findings)
        about = "# Which column has which role; null: none. findings: name of the finding: heading of its column.\n"
        return about + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))


def find_roles(sheet: Sheet, given: Mapping[str, Any]) -> Roles:
    """The roles of a table's columns: those given, and the others by the names of columns and the labels in them.

    Args:
        sheet: the table.
        given: the content of a roles file, see `read_roles`; empty to find all.

    Raises:
        CxrError: no column names the images, or none has labels; or the file names a column that the table lacks, or
            one twice.
    """
    origin, headings = str(sheet.path), sheet.headings
    named = [value for key, value in given.items() if key in (*NAMES, "labels") and value is not None]
    named += list((given.get("findings") or {}).values())
    for heading in named:
        if heading not in headings:
            raise CxrError(
                f"data.roles names the column {heading!r}; the columns of {origin} are {', '.join(headings)}"
            )
        if named.count(heading) > 1:
            raise CxrError(f"data.roles names the column {heading!r} twice; give each column one role")
    free = [heading for heading in headings if heading not in named]
    columns: dict[str, str] = {role: given[role] for role in NAMES if given.get(role) is not None}
    others: dict[str, tuple[str, ...]] = {}
    for role in (role for role in NAMES if role not in given):
        fitting = sorted((h for h in free if plain(h) in NAMES[role]), key=lambda h: NAMES[role].index(plain(h)))
        if fitting:
            columns[role], *rest = fitting
            free.remove(columns[role])
            if rest:
                others[role] = tuple(rest)
                free = [heading for heading in free if heading not in rest]
    if "image" not in columns:
        raise CxrError(
            f"{origin} has no column for the images, such as image, filename or path; its columns are "
            f"{', '.join(headings)}; write `image: HEADING` into a file and pass data.roles=FILE"
        )
    findings, labels = given.get("findings") or {}, given.get("labels")
    fractions = tuple[str, ...]()
    if not findings and labels is None:
        kinds = {heading: _kind(sheet, heading) for heading in free}
        soft = [heading for heading in free if kinds[heading] == "fractions"]
        findings = {h: h for h in free if kinds[h] == "labels" or (h in soft and is_published(h))}
        fractions = tuple(heading for heading in soft if heading not in findings)
        if not findings:
            labels = next((h for name in JOINED for h in free if plain(h) == name), None)
    if not findings and labels is None:
        raise CxrError(
            f"{origin} has no column of findings: none of {', '.join(free) or 'its columns'} holds labels (1, 0, -1, "
            "yes, no, true or false) or is called Finding Labels; name them in data.roles=FILE (see docs/table.md)"
        )
    separator = given.get("separator") or (_separator(sheet, labels) if labels is not None else "|")
    unused = tuple(heading for heading in free if heading not in (*findings.values(), labels))
    return Roles(columns, findings, labels, separator, unused, fractions, others)


def _kind(sheet: Sheet, heading: str) -> str:
    """What a column holds by its first 1,000 different cells.

    It is `labels` if at least half of the filled cells are 1, 0, -1, yes, no, true or false and there are no more
    different ones; else `fractions` if all are labels or numbers between 0 and 1; else empty.
    """
    counts = pc.value_counts(sheet.columns[heading])
    filled = labels = others = 0
    for count in counts[:_MOST_DIFFERENT]:
        text, number = count["values"].as_py().strip(), count["counts"].as_py()
        value = label_of(text)
        filled += number if value is None or value == value else 0
        labels += number if value in (0, 1, -1) else 0
        others += number if value is None else 0
    if len(counts) <= _MOST_DIFFERENT and labels and 2 * labels >= filled:
        return "labels"
    return "fractions" if filled and not others else ""


def _separator(sheet: Sheet, heading: str) -> str:
    column = sheet.columns[heading]
    found = (sign for sign in SEPARATORS if pc.any(pc.match_substring(column, sign)).as_py())
    return next(found, "|")


def read_roles(path: Path) -> dict[str, Any]:
    """The content of a roles file: headings by role, with `findings` (heading by name) or `labels` and `separator`.

    Raises:
        CxrError: the file is missing, is not a YAML mapping, or has a key or a value of another kind.
    """
    try:
        content = yaml.safe_load(read_text(path, _LONGEST))
    except FileNotFoundError:
        raise CxrError(
            f"data.roles={path} does not exist; python -m cxr inspect writes one with roles={path.name}"
        ) from None
    except yaml.YAMLError as error:
        raise CxrError(f"data.roles={path} is not a YAML file: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise CxrError(f"data.roles={path} must hold `role: heading` lines; roles are {', '.join(_KEYS)}")
    findings = content.get("findings")
    if isinstance(findings, list):
        content["findings"] = findings = {name: name for name in findings}
    for key, value in content.items():
        if key not in _KEYS:
            raise CxrError(f"data.roles={path} has the key {key!r}; roles are {', '.join(_KEYS)}")
        if key != "findings" and not isinstance(value, str | None):
            raise CxrError(f"data.roles={path}: {key} is {value!r}; write the heading of a column in quotes, or null")
    if findings is not None and not (
        isinstance(findings, Mapping) and all(isinstance(text, str) for pair in findings.items() for text in pair)
    ):
        raise CxrError(f"data.roles={path}: findings must be a list of headings, or `name: heading` lines")
    if findings and content.get("labels"):
        raise CxrError(f"data.roles={path} has both findings and labels; keep the one that holds the findings")
    return content
