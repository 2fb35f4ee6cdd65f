"""The rows ood_* of `benchmarks/use.py`: shares of images that the detectors of a bundle warn of."""

import importlib.util
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.made import row, say
from cxr.export.detectors import fit
from cxr.imaging.decode import BadImage, read_gray, reduced

SHARED = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def ood(paths: list[str]) -> None:
    """Fitted on half of the patients of nih_mini, thresholds of a fifth, measured on the others."""
    films = sorted((SHARED / "nih_mini" / "images").glob("*.png"))
    if not films:
        say(f"{SHARED}/nih_mini is absent: no rows ood_*")
        return
    patients = np.random.default_rng(0).permutation(sorted({path.name[:8] for path in films}))
    places = {patient: number / len(patients) for number, patient in enumerate(patients)}
    images = [(places[path.name[:8]], read_gray(path)) for path in films]
    train, val, held = (
        [image for place, image in images if low <= place < high] for low, high in ((0, 0.5), (0.5, 0.7), (0.7, 1))
    )
    detectors = fit(train, val)

    def share(given: list[np.ndarray]) -> float:
        return float(np.mean([bool(detectors.warnings(np.ascontiguousarray(image))) for image in given]))

    say(f"false alarms on {len(held)} radiographs of other patients: {share(held):.3f}")
    noise = list(np.random.default_rng(0).integers(0, 256, (100, 256, 256), np.uint8))
    photographs = []
    for package, folder in (("sklearn", "datasets/images"), ("skimage", "data")):
        found = importlib.util.find_spec(package)
        for place in (found and found.submodule_search_locations) or ():
            for path in sorted((Path(place) / folder).glob("*")):
                with suppress(BadImage, IsADirectoryError):
                    photographs.append(reduced(read_gray(path), 256))
    say(f"{len(photographs)} photographs: {share(photographs):.3f}; scikit-image adds its own where it is installed")
    turned = [np.rot90(image, turns) for image in held for turns in (1, 2, 3)]
    inverted = [255 - image for image in held]
    for name, given, least in (
        ("noise", noise + photographs, 0.99),
        ("inverted", inverted, 0.98),
        ("rotated", turned, 0.95),
    ):
        row(f"ood_{name}", share(given), least, share(given) / least, "share")
