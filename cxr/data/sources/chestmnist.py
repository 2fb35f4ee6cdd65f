"""ChestMNIST: NIH ChestX-ray14 at 28 to 224 pixels in one NumPy archive, with splits of its own.

Yang et al., "MedMNIST v2", Scientific Data, 2023. Its splits are not NIH's, so that results cannot be compared.
"""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.data.catalog import Catalog
from cxr.data.sources.public import Published, published
from cxr.errors import CxrError, first_line
from cxr.files.writing import staged, unwritable
from cxr.findings import CHESTMNIST

LAYOUT = "chestmnist.npz, chestmnist_64.npz, chestmnist_128.npz or chestmnist_224.npz"
_SPLITS = ("train", "val", "test")


def read_chestmnist(root: str | None) -> Catalog:
    """Fourteen findings with the splits of the archive; each image counts as a patient, since none are published.

    The images are written once as PNG files into a folder beside the archive.

    Args:
        root: the folder of the archive.

    Raises:
        CxrError: the archive is missing, is not as published, or its folder cannot be written.
    """
    path = Published(root, LAYOUT).path("chestmnist.npz", "chestmnist_*.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = {split: _array(arrays, f"{split}_labels", path) for split in _SPLITS}
            folder = path.with_suffix("")
            if not folder.exists():
                _write_images(arrays, folder, path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CxrError(f"{path} cannot be read: {first_line(error)}; is it the published file?") from None
    frames = []
    for split, values in labels.items():
        if values.ndim != 2 or values.shape[1] != len(CHESTMNIST):
            raise CxrError(f"{path} has {split}_labels of shape {values.shape}; expected (images, {len(CHESTMNIST)})")
        frame = pd.DataFrame(values.astype(str), columns=list(CHESTMNIST)).assign(split=split)
        frames.append(frame.assign(image=[_name(split, row) for row in range(len(values))]))
    frame = pd.concat(frames, ignore_index=True)
    return published(frame.assign(patient=frame["image"]), path, folder, CHESTMNIST, parts=2)


def _array(arrays: "np.lib.npyio.NpzFile", key: str, path: Path) -> NDArray[np.uint8]:
    if key not in arrays.files:
        raise CxrError(f"{path} lacks the array {key}; is it the published file?")
    return np.asarray(arrays[key])


def _name(split: str, row: int) -> str:
    return f"{split}/{row:06d}.png"


def _write_images(arrays: "np.lib.npyio.NpzFile", folder: Path, path: Path) -> None:
    print(f"writing the images of {path} to {folder}", flush=True)
    try:
        with staged(folder) as making:
            for split in _SPLITS:
                images = _array(arrays, f"{split}_images", path)
                if images.ndim != 3 or images.dtype != np.uint8:
                    raise CxrError(
                        f"{path} has {split}_images of {images.dtype} {images.shape}; expected uint8 (N, s, s)"
                    )
                (making / split).mkdir()
                for row, image in enumerate(images):
                    (making / _name(split, row)).write_bytes(cv2.imencode(".png", image)[1].tobytes())
            making.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
