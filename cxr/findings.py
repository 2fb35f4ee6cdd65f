"""Vocabularies of findings: names as the public tables spell them, aliases, and groups."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from cxr.errors import CxrError

NO_FINDING = "No Finding"

# Wang et al., "ChestX-ray8", CVPR 2017: the eight findings that have boxes, and the six that ChestX-ray14 added.
NIH8 = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
NIH14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)

# Spellings that occur in the published files beside the table's own.
ALIASES = {"Infiltrate": "Infiltration", "Pleural Thickening": "Pleural_Thickening"}

_ODD_STARTS = ("=", "+", "-", "@")
_ODD_PATH = re.compile(r"\\|\n[=+@-]|[/\n][ .]*(?=[/\n]|\Z)")  # in names after line breaks, any that may be refused


def canonical(name: str) -> str:
    """The table's spelling of a finding."""
    return ALIASES.get(name, name)


def check_known(names: Iterable[str], known: Sequence[str], option: str) -> None:
    """Raises CxrError if one of `names` is not in `known`, naming `option`, the closest names and all valid ones."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise CxrError(f"{option} names an unknown finding {name!r}; {hint}known are {', '.join(known)}")


Place = Callable[[int], str]  # where the value of that position stands, such as ` (line 3)`


def check_printable(values: Iterable[str], what: str, origin: str, place: Place = lambda position: "") -> None:
    """Raises CxrError if one of `values`, each a `what` of `origin`, holds a line break or what else is not shown."""
    values = list(values)
    if not "".join(values).isprintable():  # one look at a hundred thousand names
        position = next(k for k, value in enumerate(values) if not value.isprintable())
        raise CxrError(
            f"{origin} has the {what} {values[position]!r}{place(position)}, with a character that cannot be printed; "
            "rename it"
        )


def check_names(
    names: Iterable[str], what: str, origin: str, place: Place = lambda position: "", paths: bool = False
) -> None:
    """Raises CxrError unless `names` can be file names, cells of a CSV file and lines of a report as they are.

    A path could lead out of a folder; a spreadsheet takes what begins with =, +, - or @ for a formula.

    Args:
        names: which.
        what: each of them is.
        origin: what errors call the table.
        place: where the name of a position stands in it.
        paths: allows `/` between parts; none of these may be empty or of dots alone, so that a path stays below its
            root and is spelt in one way.
    """
    names = list(names)
    check_printable(names, what, origin, place)
    if paths and not _ODD_PATH.search("\n".join(["", *names])):  # one look at a hundred thousand names
        return
    for position, name in enumerate(names):
        parts = name.split("/") if paths else [name]
        whole = all(part.strip(" .") for part in parts) and (paths or "/" not in name)
        if not whole or name.startswith(_ODD_STARTS) or "\\" in name:
            rule = "as a path below the root, without \\, empty parts, . and .." if paths else "without / and \\"
            raise CxrError(
                f"{origin} has the {what} {name!r}{place(position)}; rename it {rule}, and not beginning with =, +, - "
                "or @"
            )
