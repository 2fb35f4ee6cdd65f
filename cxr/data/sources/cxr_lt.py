"""CXR-LT 2023 and 2024: 26 or 40 long-tailed findings on the images of MIMIC-CXR-JPG.

Holste et al., "Towards long-tailed, multi-label disease classification from chest X-ray: Overview of the CXR-LT
challenge", 2024; "CXR-LT 2024", 2025.
"""

import pandas as pd

from cxr.data.catalog import Catalog, some
from cxr.data.sources.public import Published, frontal, published, text_of
from cxr.errors import CxrError
from cxr.findings import NO_FINDING

LAYOUT = "cxr-lt-2024/train_labeled.csv, ... or cxr-lt-2023/train.csv, ..., and files/p10/... of MIMIC-CXR-JPG"
_ABOUT = (
    "dicom_id",
    "subject_id",
    "study_id",
    "ViewPosition",
    "ViewCodeSequence_CodeMeaning",
    "path",
    "fpath",
    "split",
)
_EDITIONS = {
    "2024": ("train_labeled.csv", "development_labeled_task1.csv", "test_labeled_task1.csv"),
    "2023": ("train.csv", "development.csv", "test.csv"),
}


def read_cxr_lt(
    root: str | None, labels: str | None = None, edition: str | int = 2024, views: str = "frontal"
) -> Catalog:
    """The findings and splits of an edition; `development` is validation.

    Args:
        root: the folder of MIMIC-CXR-JPG's images.
        labels: the folder of the challenge's tables, by default `root`.
        edition: 2024 (task 1: 40 labels) or 2023 (26).
        views: `frontal` (AP and PA) or `all`.

    Raises:
        CxrError: a file or column is missing, or a cell is not as published.
    """
    if str(edition) not in _EDITIONS:
        raise CxrError(f"data.edition={edition} must be one of {', '.join(_EDITIONS)}")
    images = Published(root, LAYOUT).folder
    tables = Published(labels or root, LAYOUT)
    paths = [
        tables.path(f"cxr-lt-{edition}/{name}", f"cxr-lt-{edition}-*/{name}", name) for name in _EDITIONS[str(edition)]
    ]
    frames = [
        text_of(path, ("dicom_id", "subject_id", "ViewPosition"), split)
        for path, split in zip(paths, ("train", "val", "test"), strict=True)
    ]
    findings = [str(name) for name in frames[0] if name not in _ABOUT and name not in (NO_FINDING, "Normal")]
    for path, frame in zip(paths, frames, strict=True):
        if lacks := [name for name in findings if name not in frame]:
            raise CxrError(f"{path} lacks the findings {some(lacks)} of {paths[0].name}; is it of the same task?")
    frame = pd.concat(frames)
    column = next((name for name in ("fpath", "path") if name in frame), None)
    if column is None:
        raise CxrError(f"{paths[0]} lacks the column fpath (2024) or path (2023); is it the published file?")
    frame = frame.assign(image=frame[column], patient=frame["subject_id"], view=frame["ViewPosition"])
    kept = frontal(frame, frame["view"].isin(["AP", "PA"]), views)
    return published(kept.drop(columns=[NO_FINDING], errors="ignore"), paths[0].parent, images, findings)
