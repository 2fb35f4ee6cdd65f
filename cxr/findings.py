"""Names of findings as the public tables spell them, aliases, and checks and display of names."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

from cxr.errors import CxrError

NO_FINDING = "No Finding"

# Wang et al., "ChestX-ray8", CVPR 2017: the eight findings that have boxes, and the six that ChestX-ray14 added.
NIH8 = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
NIH14 = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
NIH_SIDE = 1024  # the published boxes are in pixels of the 1024 x 1024 release

# Other spellings in the published files.
ALIASES = {"Infiltrate": "Infiltration", "Pleural Thickening": "Pleural_Thickening"}

_ODD_STARTS = ("=", "+", "-", "@")
_ODD_PATH = re.compile(r"\\|\n[=+@-]|[/\n][ .]*(?=[/\n]|\Z)")  # in names after line breaks, any that may be refused


def canonical(name: str) -> str:
    """The spelling of a finding in the published table."""
    return ALIASES.get(name, name)


def check_known(names: Iterable[str], known: Sequence[str], option: str) -> None:
    """Raises CxrError if one of `names` is not in `known`, naming `option`, the closest names and all valid ones."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise CxrError(f"{option} names an unknown finding {name!r}; {hint}known are {', '.join(known)}")


Place = Callable[[int], str]  # where the value of a position is, such as ` (line 3)`


def check_printable(values: Iterable[str], what: str, origin: str, place: Place = lambda position: "") -> None:
    """Raises CxrError if one of `values`, each a `what` of `origin`, has a line break or control character."""
    values = list(values)
    if not "".join(values).isprintable():  # one check for all names is fast
        position = next(k for k, value in enumerate(values) if not value.isprintable())
        raise CxrError(
            f"{origin} has the {what} {values[position]!r}{place(position)}, with a character that cannot be printed; "
            "rename it"
        )


def check_names(
    names: Iterable[str], what: str, origin: str, place: Place = lambda position: "", paths: bool = False
) -> None:
    """Raises CxrError unless `names` are safe as file names, cells of a CSV file and lines of a report.

    A path could leave its folder; a spreadsheet reads names that start with =, +, - or @ as formulas.

    Args:
        names: to check.
        what: they are, for the message.
        origin: name of their table, for the message.
        place: of a name in the table, for the message.
        paths: allow `/` between parts. No part may be empty or consist of dots, so that a path stays below its root
            and has one spelling.
    """
    names = list(names)
    check_printable(names, what, origin, place)
    if paths and not _ODD_PATH.search("\n".join(["", *names])):  # one look at a hundred thousand names
        return
    for position, name in enumerate(names):
        parts = name.split("/") if paths else [name]
        safe = all(part.strip(" .") for part in parts) and (paths or "/" not in name)
        if not safe or name.startswith(_ODD_STARTS) or "\\" in name:
            rule = "as a path below the root, without \\, empty parts, . and .." if paths else "without / and \\"
            raise CxrError(
                f"{origin} has the {what} {name!r}{place(position)}; rename it {rule}, and not beginning with =, +, - "
                "or @"
            )


def printable(name: object) -> str:
    """A name without line breaks and control characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(name))


def no_formula(name: object) -> str:
    """A name on one line that no spreadsheet reads as a formula."""
    text = printable(name)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
