"""Names of findings as the public tables spell them, aliases, and checks and display of names."""

import difflib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

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

# The fourteen columns of CheXpert, MIMIC-CXR-JPG and BRAX but No Finding (Irvin et al., "CheXpert", AAAI 2019).
CHEXPERT = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip

# Columns of VinDr-CXR (Nguyen et al., 2022) but No finding; those with boxes, by the class_id of VinBigData.
VINDR = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases",
)  # fmt: skip
VINBIGDATA = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis",
)  # fmt: skip
# Columns of ChestMNIST (Yang et al., "MedMNIST v2", Scientific Data, 2023), which are NIH's in another order.
CHESTMNIST = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip

# Names in the tables of other data sets for what one of them calls otherwise. Lung Lesion is not Mass or Nodule, and
# Pleural Other not Pleural_Thickening: such pairs are absent.
_SHARED = {
    "Pleural Effusion": "Effusion", "Pleural effusion": "Effusion", "Pleural thickening": "Pleural_Thickening",
    "Pleural Thickening": "Pleural_Thickening", "Pulmonary fibrosis": "Fibrosis", "Airspace Opacity": "Lung Opacity",
    "Rib fracture": "Rib Fracture", "Clavicle fracture": "Clavicle Fracture", "Nodule/Mass": "Nodule or Mass",
    "Other disease": "Other diseases",
}  # fmt: skip

_ODD_STARTS = ("=", "+", "-", "@")
_NOT_FIRST = np.frombuffer(b"=+-@/\n .", np.uint8)  # what a part of an ordinary path does not begin with


def canonical(name: str) -> str:
    """The spelling of a finding in the published table."""
    return ALIASES.get(name, name)


def shared_name(name: str) -> str:
    """The name of a published finding that all readers of public data sets use."""
    return _SHARED.get(name, name)


def plain(name: str) -> str:
    """A name without case, space and signs: `Patient ID` and `patient_id` are `patientid`."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


_UNIFIED = {
    plain(name): shared_name(canonical(name)) for name in (*NIH14, *CHEXPERT, *VINDR, *CHESTMNIST, *_SHARED, *ALIASES)
}


def unified(name: str) -> str:
    """The name that readers of public data sets use for a finding, however it is written; other names as they are."""
    return _UNIFIED.get(plain(name), name)


def is_published(name: str) -> bool:
    """Whether a public data set labels a finding of this name, however it is written."""
    return plain(name) in _UNIFIED


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
        what: kind of name, for the message.
        origin: name of their table, for the message.
        place: of a name in the table, for the message.
        paths: allow `/` between parts. No part may be empty or consist of dots, so that a path stays below its root
            and has one spelling.
    """
    names = list(names)
    check_printable(names, what, origin, place)
    if paths:  # one look at all names is fast
        text = "\n".join(["", *names, ""])
        signs = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        firsts = signs[1:][np.isin(signs[:-1], [ord("/"), ord("\n")])]
        if "\\" not in text and not np.isin(firsts, _NOT_FIRST).any():
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
