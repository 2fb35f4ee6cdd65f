"""MIMIC-CXR-JPG 2.0 and 2.1: metadata, labels per study and the official split, as `.csv` or `.csv.gz`.

Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs", 2019.
"""

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError
from cxr.findings import CHEXPERT, NO_FINDING

LAYOUT = "mimic-cxr-2.*-metadata.csv, -split.csv, -chexpert.csv and files/p10/p10000032/s50414267/<dicom_id>.jpg"


def read_mimic_cxr(
    root: str | None, uncertain: str = "ignore", blank: str = "unknown", views: str = "frontal"
) -> Catalog:
    """Thirteen findings per study, with the official split; age and sex where MIMIC-IV's `patients.csv` is there.

    Args:
        root: the folder of the tables, or the one above it.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell is: `unknown` or `zeros`.
        views: `frontal` (AP and PA) or `all`.

    Raises:
        CxrError: a file or column is missing, or a cell is not as published.
    """
    files = Published(root, LAYOUT)
    origin = files.path("mimic-cxr-2.*-metadata.csv")
    frame = text_of(origin, ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"))
    split = files.table("mimic-cxr-2.*-split.csv", needs=("dicom_id", "split")).set_index("dicom_id")["split"]
    labels = files.table("mimic-cxr-2.*-chexpert.csv", needs=("study_id", NO_FINDING, *CHEXPERT)).set_index("study_id")
    twice = labels.index[labels.index.duplicated()]
    if len(twice):
        raise CxrError(f"{files.path('mimic-cxr-2.*-chexpert.csv')} has the study {twice[0]} twice; keep one row")
    of_study = labels[[NO_FINDING, *CHEXPERT]].reindex(frame["study_id"]).fillna("").set_index(frame.index)
    subject, clock = frame["subject_id"], pd.to_numeric(frame["StudyTime"], errors="coerce").fillna(0)
    frame = frame.assign(
        image="files/p"
        + subject.str[:2]
        + "/p"
        + subject
        + "/s"
        + frame["study_id"]
        + "/"
        + frame["dicom_id"]
        + ".jpg",
        patient=subject,
        study=frame["StudyDate"] + clock.astype(int).astype(str).str.zfill(6),  # ids are in no order, dates are
        view=frame["ViewPosition"],
        split=frame["dicom_id"].map(split).fillna(""),
    ).join(of_study)
    frame = _with_age_and_sex(frame, files)
    return published(
        frontal(frame, frame["view"].isin(["AP", "PA"]), views), origin, files.folder, CHEXPERT, uncertain, blank
    )


def _with_age_and_sex(frame: pd.DataFrame, files: Published) -> pd.DataFrame:
    """Of MIMIC-IV, whose dates are shifted by the same number of years."""
    path = files.find("patients.csv", "hosp/patients.csv")
    if path is None:
        return frame
    patients = text_of(path, ("subject_id", "gender", "anchor_age", "anchor_year")).set_index("subject_id")
    anchor, year = (pd.to_numeric(patients[name], errors="coerce") for name in ("anchor_age", "anchor_year"))
    born = (year - anchor).where(anchor > 0)  # 0 is unknown
    age = pd.to_numeric(frame["StudyDate"].str[:4], errors="coerce") - frame["patient"].map(born)
    return frame.assign(sex=frame["patient"].map(patients["gender"]).fillna(""), age=age.map("{:.0f}".format))
