"""SIIM-ACR Pneumothorax Segmentation (Kaggle, 2019): images of NIH ChestX-ray14 with masks of pneumothorax."""

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, nih_patients, published, text_of

LAYOUT = "train-rle.csv and dicom-images-train/<study>/<series>/<ImageId>.dcm"


def read_siim(root: str | None, mapping: str | None = None, one_image_a_patient: bool = False) -> Catalog:
    """The finding `Pneumothorax`: 1 where a row of the image has a mask. Without a split; the patients are NIH's.

    Args:
        root: the folder of the table, or the one above it.
        mapping: a JSON file that names NIH's image for each `SOPInstanceUID`, see `nih_patients`.
        one_image_a_patient: do without it; images of a patient may then be on two sides of a split.

    Raises:
        CxrError: a file or column is missing, or the patients are unknown.
    """
    files = Published(root, LAYOUT)
    origin = files.path("train-rle.csv", "stage_2_train.csv")
    rows = text_of(origin, ("ImageId", "EncodedPixels"))  # headings and cells are published with spaces before them
    masked = rows["ImageId"][~rows["EncodedPixels"].isin(["-1", ""])]
    frame = rows.drop_duplicates("ImageId").rename(columns={"ImageId": "image"})
    frame = frame.assign(Pneumothorax=frame["image"].isin(masked).map({True: "1", False: "0"}))
    if one_image_a_patient:
        frame = frame.assign(patient=frame["image"])
    else:
        frame = frame.join(nih_patients(frame["image"], mapping, "SOPInstanceUID", files))
    return published(frame.assign(image=frame["image"] + ".dcm"), origin, files.folder, ["Pneumothorax"])
