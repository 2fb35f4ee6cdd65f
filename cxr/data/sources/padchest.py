"""PadChest: 193 names of findings from reports, read as the fourteen of NIH.

Bustos et al., "PadChest: A large chest x-ray image dataset with multi-label annotated reports", 2020.
"""

import ast
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.catalog import Catalog
from cxr.data.sources.cells import mapped
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError, counted
from cxr.findings import NIH14

LAYOUT = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and the images, in folders or not"
_FRONTAL = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP"}
# PadChest's names for NIH's; a name that is not here is none of them, such as pseudonodule or breast mass.
SAME = {
    **dict.fromkeys(("atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis",
                     "round atelectasis", "segmental atelectasis", "total atelectasis"), "Atelectasis"),
    "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation", "pulmonary edema": "Edema",
    **dict.fromkeys(("pleural effusion", "loculated pleural effusion", "loculated fissural effusion"), "Effusion"),
    "emphysema": "Emphysema", "pulmonary fibrosis": "Fibrosis", "hiatal hernia": "Hernia",
    "infiltrates": "Infiltration", "mass": "Mass", "pulmonary mass": "Mass",
    "nodule": "Nodule", "multiple nodules": "Nodule",
    **dict.fromkeys(("pleural thickening", "apical pleural thickening", "calcified pleural thickening"),
                    "Pleural_Thickening"),
    "pneumonia": "Pneumonia", "atypical pneumonia": "Pneumonia", "pneumothorax": "Pneumothorax",
}  # fmt: skip
_BOTH = {"hydropneumothorax": ("Effusion", "Pneumothorax")}
_LEFT_OUT = {"exclude", "suboptimal study"}
_UNKNOWN: frozenset[str] = frozenset(["unchanged"])  # alone it does not say what is there


def read_padchest(root: str | None, views: str = "frontal") -> Catalog:
    """The fourteen findings of NIH; a finding that a row with labels does not name is absent.

    Args:
        root: the folder of the table, or the one above it.
        views: `frontal` (PA, AP and AP_horizontal) or `all`.

    Raises:
        CxrError: the table or a column is missing, or labels are not a list.
    """
    files = Published(root, LAYOUT)
    origin = files.path("PADCHEST_chest_x_ray_images_labels*.csv")
    frame = text_of(
        origin,
        ("ImageID", "ImageDir", "StudyDate_DICOM", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
         "Labels"),
    )  # fmt: skip
    wrong = mapped(frame["Labels"], lambda cell: _names(cell) is None).to_numpy(bool)
    if wrong.any():
        raise CxrError(
            f"{origin} row {frame.index[wrong][0]}, column 'Labels': {frame['Labels'][wrong].iloc[0][:60]!r} is no "
            "list of names; is it the published file?"
        )
    year, born = frame["StudyDate_DICOM"].str[:4], pd.to_numeric(frame["PatientBirth"], errors="coerce")
    age = pd.to_numeric(year, errors="coerce") - born
    frame = frame.assign(
        image=frame["ImageID"],
        patient=frame["PatientID"],
        study=frame["StudyDate_DICOM"],
        sex=frame["PatientSex_DICOM"].replace("None", ""),
        age=age.map("{:.0f}".format),
        view=frame["Projection"].map(lambda view: _FRONTAL.get(view, view)),
        **{finding: _labels(frame["Labels"], finding) for finding in NIH14},
    )
    good = mapped(frame["Labels"], lambda cell: not (_names(cell) or _UNKNOWN) & _LEFT_OUT).to_numpy(bool)
    if not good.all():
        print(f"left out, labelled exclude or suboptimal study: {counted((~good).sum(), 'image')}", flush=True)
    frame = frontal(frame[good], frame["Projection"][good].isin(_FRONTAL), views)
    return published(frame, origin, files.folder, NIH14)


@lru_cache(maxsize=100_000)
def _names(cell: str) -> frozenset[str] | None:
    """The names of a cell such as `['pulmonary fibrosis', ' kyphosis', '']`; a blank cell is unknown."""
    if cell in ("", "None", "nan"):
        return _UNKNOWN
    try:
        names = ast.literal_eval(cell)
        return frozenset(str(name).strip().lower() for name in names) - {""}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _labels(cells: pd.Series, finding: str) -> NDArray[np.object_]:
    """1, 0 or blank (N,) for a finding."""

    def label(cell: str) -> str:
        names = _names(cell)
        if not names or names == _UNKNOWN:
            return "" if names == _UNKNOWN else "0"
        return "1" if any(SAME.get(name) == finding or finding in _BOTH.get(name, ()) for name in names) else "0"

    return mapped(cells, label).to_numpy()
