"""OpenI, the Indiana University collection: reports as XML, or Kaggle's two tables.

Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and retrieval", 2016.
"""

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError, first_line
from cxr.files.reading import read_text
from cxr.findings import NIH14

LAYOUT = "ecgen-radiology/*.xml and CXR1_1_IM-0001-3001.png ..., or indiana_projections.csv and indiana_reports.csv"
_MOST_BYTES = 1 << 20  # of a report
# The first part of a MeSH term for NIH's names; `Thickening/pleura/...` is found by two parts.
SAME = {
    "pulmonary atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation",
    "pulmonary edema": "Edema", "pleural effusion": "Effusion", "emphysema": "Emphysema",
    "pulmonary emphysema": "Emphysema", "bullous emphysema": "Emphysema", "pulmonary fibrosis": "Fibrosis",
    "hernia, hiatal": "Hernia", "infiltrate": "Infiltration", "mass": "Mass", "nodule": "Nodule",
    "thickening/pleura": "Pleural_Thickening", "pneumonia": "Pneumonia", "pneumothorax": "Pneumothorax",
}  # fmt: skip
_BOTH = {"hydropneumothorax": ("Effusion", "Pneumothorax")}


def read_openi(root: str | None, views: str = "frontal") -> Catalog:
    """The fourteen findings of NIH, from the MeSH terms of reports. Without a split; one report per patient.

    Args:
        root: the folder of the reports, or the one above it.
        views: `frontal`, which needs `indiana_projections.csv` below `root`, or `all`.

    Raises:
        CxrError: a file or column is missing, or a report is no XML.
    """
    files = Published(root, LAYOUT)
    projections, reports = files.find("indiana_projections.csv"), files.find("indiana_reports.csv")
    view = pd.DataFrame(columns=["uid", "filename", "projection"], dtype=object)
    if projections is not None:
        view = text_of(projections, ("uid", "filename", "projection"))
    folder = next((path for path in files.folder.glob("**/ecgen-radiology") if path.is_dir()), None)
    if folder is not None:
        origin, frame = folder, _reports(folder)
        projection = view["projection"].set_axis(view["filename"].map(_key))
        frame["projection"] = frame["image"].map(_key).map(projection[~projection.index.duplicated()]).fillna("")
    elif projections is not None:
        origin = reports or files.path("indiana_reports.csv")
        mesh = text_of(origin, ("uid", "MeSH")).set_index("uid")["MeSH"]
        frame = view.assign(image=view["filename"], patient="CXR" + view["uid"])
        frame["terms"] = frame["uid"].map(mesh).fillna("")
    else:
        raise CxrError(f"data.root={root} has neither reports nor tables; expected {LAYOUT} (docs/public-sets.md)")
    if views == "frontal" and projections is None:
        raise CxrError(
            f"{origin} does not say which views are frontal; add indiana_projections.csv to data.root={root}, or pass "
            "data.views=all"
        )
    for finding in NIH14:
        frame[finding] = frame["terms"].map(partial(_cell, finding))
    frame["view"] = frame["projection"].str.upper().replace("FRONTAL", "")
    frame = frontal(frame, frame["projection"] == "Frontal", views)
    return published(frame, origin, files.folder, NIH14)


def _key(image: str) -> str:
    """Of an image in both editions: `1_IM-0001-3001` of `CXR1_1_IM-0001-3001.png` and `1_IM-0001-3001.dcm.png`."""
    name = image.removesuffix(".png").removesuffix(".dcm")
    return name.partition("_")[2] if name.startswith("CXR") else name


def _reports(folder: Path) -> pd.DataFrame:
    rows = []
    for path in sorted(folder.glob("*.xml")):
        try:
            report = ElementTree.fromstring(read_text(path, _MOST_BYTES))
        except ElementTree.ParseError as error:
            raise CxrError(f"{path} cannot be read as XML: {first_line(error)}; restore or remove it") from None
        patient = report.find("uId")
        terms = ";".join((term.text or "").strip() for term in report.iter("major"))
        name = path.stem if patient is None else patient.get("id", path.stem)
        rows += [(f"{image.get('id', '')}.png", name, terms) for image in report.iter("parentImage")]
    if not rows:
        raise CxrError(f"{folder} has no report with an image; expected {LAYOUT}")
    return pd.DataFrame(rows, columns=["image", "patient", "terms"])


def _cell(finding: str, terms: str) -> str:
    """Whether a finding is among terms such as `Cardiomegaly/mild;Thickening/pleura/right`; blank where unknown."""
    parts = [term.strip().lower().split("/") for term in terms.split(";") if term.strip()]
    if not parts or parts == [["no indexing"]]:
        return ""
    names = {name for part in parts for name in (part[0], "/".join(part[:2]))}
    return "1" if any(SAME.get(name) == finding or finding in _BOTH.get(name, ()) for name in names) else "0"
