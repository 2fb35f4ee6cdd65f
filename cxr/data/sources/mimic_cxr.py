"""MIMIC-CXR-JPG 2.0 and 2.1: metadata, labels per study and the official split, as `.csv` or `.csv.gz`.

Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs", 2019.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError
from cxr.findings import CHEXPERT, NO_FINDING

LAYOUT = "mimic-cxr-2.*-metadata.csv, -split.csv, -chexpert.csv and files/p10/p10000032/s50414267/<dicom_id>.jpg"


def read_mimic_cxr(
    root: str | None,
    uncertain: str = "ignore",
    blank: str = "unknown",
    views: str = "frontal",
    labels: str | None = None,
) -> Catalog:
    """Thirteen findings per study, with the official split; age and sex where MIMIC-IV's `patients.csv` is there.

    If `labels` has studies of the test split alone, their images are also the further test split `relabelled`.

    Args:
        root: the folder of the tables, or the one above it.
        uncertain: what -1 is, see `cxr.data.sources.labels`.
        blank: what a blank cell is: `unknown` or `zeros`.
        views: `frontal` (AP and PA) or `all`.
        labels: a table whose labels replace those of its studies, such as `mimic-cxr-2.1.0-test-set-labeled.csv` or
            `mimic-cxr-2.0.0-negbio.csv.gz`: a path, or a name below the root.

    Raises:
        CxrError: a file or column is missing, or a cell is not as published.
    """
    files = Published(root, LAYOUT)
    origin = files.path("mimic-cxr-2.*-metadata.csv")
    frame = text_of(origin, ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"))
    split = files.table("mimic-cxr-2.*-split.csv", needs=("dicom_id", "split")).set_index("dicom_id")["split"]
    given = _labels(files.path("mimic-cxr-2.*-chexpert.csv"))
    changed = given[:0]
    if labels is not None:
        changed = _labels(files.given("labels", labels))
        given = pd.concat([changed, given[~given.index.isin(changed.index)]])
    of_study = given.reindex(frame["study_id"]).fillna("").set_index(frame.index)
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
    frame = frontal(frame, frame["view"].isin(["AP", "PA"]), views)
    catalog = published(frame, origin, files.folder, CHEXPERT, uncertain, blank)
    relabelled = catalog.table[frame["study_id"].isin(changed.index).to_numpy()]
    if labels is not None and relabelled.empty:
        raise CxrError(f"data.labels={labels} has no study of {origin}; is it of this data set?")
    of_test = len(relabelled) > 0 and (relabelled["split"] == "test").all()
    return replace(catalog, tests={"relabelled": tuple(relabelled["image"])}) if of_test else catalog


def _labels(path: Path) -> pd.DataFrame:
    """The fourteen columns of a table of labels, by study."""
    frame = text_of(path, ("study_id", *(name for name in CHEXPERT if name != "Lung Opacity")))
    frame = frame.rename(columns={"Airspace Opacity": "Lung Opacity"})
    lacks = [name for name in (NO_FINDING, "Lung Opacity") if name not in frame]
    if lacks:
        raise CxrError(f"{path} lacks the column {', '.join(lacks)}; is it the published file?")
    twice = frame["study_id"].duplicated()
    if twice.any():
        raise CxrError(f"{path} has the study {frame['study_id'][twice].iloc[0]} twice; keep one row")
    return frame.set_index("study_id")[[NO_FINDING, *CHEXPERT]]


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
