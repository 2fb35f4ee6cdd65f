"""VinBigData Chest X-ray Abnormalities Detection (Kaggle, 2020): the training images of VinDr-CXR, a row per box."""

import pandas as pd

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, published, text_of
from cxr.data.sources.table import check_choices
from cxr.data.sources.vindr import BOX_CELLS, READERS, aggregated, boxes_of
from cxr.errors import CxrError
from cxr.findings import VINBIGDATA

LAYOUT = "train.csv and train/*.dicom"


def read_vinbigdata(root: str | None, readers: str = "majority") -> Catalog:
    """Fourteen findings of `train.csv`; each image is a patient, since none are published. Without a split.

    Args:
        root: the folder of `train.csv` and `train`.
        readers: see `read_vindr`.

    Raises:
        CxrError: a file or column is missing, or a class is unknown.
    """
    check_choices(readers=(readers, READERS))
    files = Published(root, LAYOUT)
    origin = files.path("train.csv")
    rows = text_of(origin, (*BOX_CELLS, "rad_id"))
    strange = ~rows["class_name"].isin([*VINBIGDATA, "No finding"])
    if strange.any():
        row = rows.index[strange.to_numpy()][0]
        raise CxrError(f"{origin} row {row} has the class {rows['class_name'][row]!r}; is it the published file?")
    by_image = rows.groupby("image_id", sort=False)["rad_id"].nunique()
    seen = rows.drop_duplicates(["image_id", "class_name", "rad_id"])  # a reader may draw several boxes of a finding
    counts = pd.crosstab(seen["image_id"], seen["class_name"]).reindex(by_image.index)
    votes = counts.reindex(columns=list(VINBIGDATA), fill_value=0).div(by_image, axis=0)
    labels, soft = aggregated(votes, readers)
    first = rows["image_id"].drop_duplicates()
    frame = labels.assign(image_id=votes.index).set_index(first.index)
    frame = frame.assign(image="train/" + frame["image_id"] + ".dicom", patient=frame["image_id"], view="PA")
    boxes = boxes_of(rows, "train/", files.folder)
    return published(frame, origin, files.folder, VINBIGDATA, soft=soft, boxes=boxes)
