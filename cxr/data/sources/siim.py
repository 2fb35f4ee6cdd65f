"""SIIM-ACR Pneumothorax Segmentation (Kaggle, 2019): images of NIH ChestX-ray14 with masks of pneumothorax."""

from cxr.data.catalog import Catalog
from cxr.data.sources.masks import mask_boxes, relative_runs
from cxr.data.sources.public import Published, nih_patients, published, text_of
from cxr.errors import CxrError
from cxr.findings import NIH_SIDE

LAYOUT = "train-rle.csv and dicom-images-train/<study>/<series>/<ImageId>.dcm"


def read_siim(root: str | None, mapping: str | None = None, one_image_a_patient: bool = False) -> Catalog:
    """The finding `Pneumothorax`: 1 where a row of the image has a mask. Without a split; the patients are NIH's.

    The masks are the boxes, see `cxr.data.sources.masks`.

    Args:
        root: the folder of the table, or the one above it.
        mapping: a JSON file that names NIH's image for each `SOPInstanceUID`, see `nih_patients`.
        one_image_a_patient: do without it; images of a patient may then be in training and in test.

    Raises:
        CxrError: a file or column is missing, or the patients are unknown.
    """
    files = Published(root, LAYOUT)
    origin = files.path("train-rle.csv", "stage_2_train.csv")
    rows = text_of(origin, ("ImageId", "EncodedPixels"))  # headings and cells are published with spaces before them
    masks = rows[~rows["EncodedPixels"].isin(["-1", ""])]
    wrong = ~masks["EncodedPixels"].str.fullmatch(r"\d+ \d+( \d+ \d+)*")
    if wrong.any():
        raise CxrError(
            f"{origin} row {masks.index[wrong][0]}: the mask is not pairs of numbers; is it the published file?"
        )
    frame = rows.drop_duplicates("ImageId").rename(columns={"ImageId": "image"})
    frame = frame.assign(Pneumothorax=frame["image"].isin(masks["ImageId"]).map({True: "1", False: "0"}))
    if one_image_a_patient:
        frame = frame.assign(patient=frame["image"])
    else:
        frame = frame.join(nih_patients(frame["image"], mapping, "SOPInstanceUID", files))
    pairs = zip(masks["ImageId"], masks["EncodedPixels"], strict=True)
    boxes = mask_boxes(
        ((f"{image}.dcm", "Pneumothorax", relative_runs(text), NIH_SIDE, NIH_SIDE) for image, text in pairs),
        str(origin),
    )
    frame = frame.assign(image=frame["image"] + ".dcm")
    return published(frame, origin, files.folder, ["Pneumothorax"], boxes=boxes)
