"""RSNA Pneumonia Detection Challenge (2018), stage 2: lung opacities with boxes on images of NIH ChestX-ray14.

Shih et al., "Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of Possible
Pneumonia", 2019.
"""

import pandas as pd

from cxr.data.boxes import BOX, BOX_COLUMNS
from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, nih_patients, published, text_of
from cxr.findings import NIH_SIDE

LAYOUT = "stage_2_train_labels.csv and stage_2_train_images/*.dcm"


def read_rsna(root: str | None, mapping: str | None = None, one_image_a_patient: bool = False) -> Catalog:
    """The finding `Lung Opacity` (`Target`) with its boxes. Without a split; the patients are NIH's.

    Args:
        root: the folder of the labels, or the one above it.
        mapping: the published JSON file that names NIH's images, see `nih_patients`.
        one_image_a_patient: do without it; images of a patient may then be in training and in test.

    Raises:
        CxrError: a file or column is missing, or the patients are unknown.
    """
    files = Published(root, LAYOUT)
    origin = files.path("stage_2_train_labels.csv")
    rows = text_of(origin, ("patientId", *BOX, "Target")).rename(columns={"patientId": "image"})  # not of a patient
    frame = rows.drop_duplicates("image").rename(columns={"Target": "Lung Opacity"})
    if one_image_a_patient:
        frame = frame.assign(patient=frame["image"])
    else:
        frame = frame.join(nih_patients(frame["image"], mapping, "subset_img_id", files))
    numbers = rows[list(BOX)].apply(pd.to_numeric, errors="coerce").dropna()
    boxes = numbers.assign(image=rows["image"], finding="Lung Opacity", image_width=NIH_SIDE, image_height=NIH_SIDE)
    frame = frame.assign(image=frame["image"] + ".dcm")
    boxes = boxes.assign(image=boxes["image"] + ".dcm")[list(BOX_COLUMNS)]
    return published(frame, origin, files.folder, ["Lung Opacity"], boxes=boxes)
