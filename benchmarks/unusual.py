"""What the detectors of a bundle find among images, and the rows ood_* of `benchmarks/use.py`."""

import importlib.util
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.made import row, say
from cxr.export.detectors import Shown, fit
from cxr.imaging.decode import BadImage, read_gray
from cxr.use.scoring import Model
from cxr.use.unusual import VALUES

SHARED = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")
Film = np.ndarray
RNG = np.random.default_rng(0)
_BATCH = 32


def features(model: Model, views: Sequence[tuple[Film, ...]]) -> np.ndarray:
    parts = [model.score_views(views[start : start + _BATCH]).features for start in range(0, len(views), _BATCH)]
    return np.concatenate([part for part in parts if part is not None])


def found(model: Model, images: Sequence[Film]) -> np.ndarray:
    """Which images (N, 4) each detector finds, and any warning; a blank image is refused and counts as found."""
    shown = dict[int, tuple[Film, ...]]()
    for place, image in enumerate(images):
        with suppress(BadImage):
            shown[place] = model.views(image)
    results, detectors = np.ones((len(images), len(VALUES) + 1), bool), model.system.detectors
    assert detectors is not None
    for place, pooled in zip(shown, features(model, list(shown.values())), strict=True):
        warnings, values = model.unusual(images[place].shape, shown[place], pooled)
        assert values is not None
        results[place] = [*(values > np.array(detectors.thresholds)), bool(warnings)]
    return results


def noise() -> list[Film]:
    return list(RNG.integers(0, 256, (100, 256, 256), np.uint8))


def photographs() -> list[Film]:
    """In gray, without the warning of colour."""
    found = []
    for package, folder in (
        ("sklearn", "datasets/images"),
        ("skimage", "data"),
        ("matplotlib", "mpl-data/sample_data"),
    ):
        known = importlib.util.find_spec(package)
        for place in (known and known.submodule_search_locations) or ():
            for path in sorted((Path(place) / folder).glob("*")):
                with suppress(BadImage, IsADirectoryError):
                    found.append(read_gray(path))
    return found


def ood(model: Model, lengths: Sequence[int]) -> None:
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
    views = [[model.views(image) for image in part] for part in (train, val)]
    shown = [Shown([view[0] for view in part], features(model, part)) for part in views]
    model = replace(model, system=replace(model.system, detectors=fit(*shown, lengths)))
    say(f"false alarms on {len(held)} radiographs of other patients: {found(model, held)[:, -1].mean():.3f}")
    for name, given, least in (
        ("noise", noise() + photographs(), 0.99),
        ("inverted", [255 - image for image in held], 0.98),
        ("rotated", [np.rot90(image, turns).copy() for image in held for turns in (1, 2, 3)], 0.95),
    ):
        share = float(found(model, given)[:, -1].mean())
        row(f"ood_{name}", share, least, share / least, "share")
