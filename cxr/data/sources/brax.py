"""BRAX: radiographs of a Brazilian hospital with the labels of CheXpert, as PhysioNet publishes it.

Reis et al., "BRAX, Brazilian labeled chest x-ray dataset", Scientific Data, 2022.
"""

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.findings import CHEXPERT, NO_FINDING

LAYOUT = "master_spreadsheet_update.csv and images/id_.../Study_.../Series_.../image-....png"


def read_brax(root: str | None, uncertain: str = "ignore", blank: str = "unknown", views: str = "frontal") -> Catalog:
    """Thirteen findings. Without a split; dates are fictitious, so that follow-ups have no order.

    Args:
        root: the folder of the table, or the one above it.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell is: `unknown` or `zeros`.
        views: `frontal` (AP and PA) or `all`.

    Raises:
        CxrError: the table or a column is missing, or a cell is not as published.
    """
    files = Published(root, LAYOUT)
    origin = files.path("master_spreadsheet_update.csv", "master_spreadsheet.csv")
    needs = ("PngPath", "PatientID", "PatientSex", "PatientAge", "ViewPosition", NO_FINDING, *CHEXPERT)
    frame = text_of(origin, needs)
    frame = frame.assign(
        image=frame["PngPath"],
        patient=frame["PatientID"],
        sex=frame["PatientSex"],
        age=frame["PatientAge"].str.removesuffix(" or more"),  # groups of five years, the last is open
        view=frame["ViewPosition"],
    )
    frame = frontal(frame, frame["view"].isin(["AP", "PA"]), views)
    return published(frame, origin, files.folder, CHEXPERT, uncertain, blank, parts=4)
