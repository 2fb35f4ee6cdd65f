"""Compares a bundle with the networks that it was exported from, on images of the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.datamodule import Radiographs
from cxr.errors import CxrError
from cxr.export.opened import Opened
from cxr.run.predictions import read_predictions
from cxr.training.reopen import open_data
from cxr.use.bundle import open_session
from cxr.use.scoring import Floats, Model, Views

IMAGES = 64
BATCHES = (1, 3, 16)
LIMIT = 1e-5  # of a difference between ONNX Runtime and PyTorch


@dataclass(frozen=True)
class Sample:
    """Images of a run.

    Attributes:
        names: (N,) ids.
        views: of each image, for every member.
        attributes: (N, 5) float32.
    """

    names: list[str]
    views: list[Views]
    attributes: Floats


def sample_of(opened: Opened, named: Mapping[str, Any], split: str = "val", count: int = IMAGES) -> Sample:
    """Images of a split, then of training, as each member of a system sees them.

    Args:
        opened: the run.
        named: folders that the user gave for its images, see `open_finished`.
        split: `val` or `train`.
        count: at most.

    Raises:
        CxrError: the images cannot be read.
    """
    names: list[str] = []
    shown: list[NDArray[np.uint8]] = []
    for member, loaded in zip(opened.members, opened.loaded, strict=True):
        data = open_data(member, loaded, named)
        catalog = data.catalog
        names = names or [name for one in (split, "train") for name in catalog.rows(one)["image"]][:count]
        rows = catalog.table.reset_index().set_index("image", drop=False).loc[names].set_index("index")
        images = Radiographs(data.cache, rows, catalog.findings, data.preprocessing)
        shown.append(np.stack([images.image(position) for position in range(len(names))]))
        attributes = images.attributes
    return Sample(names, list(zip(*shown, strict=True)), attributes)


def verify(bundle: Model, opened: Opened, sample: Sample, folder: Path) -> dict[str, Any]:
    """Scores images with a bundle and with PyTorch, at several batch sizes.

    Args:
        bundle: as it was loaded from `folder`.
        opened: the run that it was exported from.
        sample: images.
        folder: of the bundle.

    Returns:
        The content of `verify.json`: images, batch sizes and the largest differences. Those of calibrated scores are
        divided by slopes above 1, by which a calibration multiplies the rounding of scores.

    Raises:
        CxrError: a difference is `LIMIT` or more.
    """
    reference = _outputs(opened.model(torch.device("cpu")), sample, max(BATCHES))
    worst: dict[str, float] = {}
    for size in BATCHES:
        outputs = _outputs(bundle, sample, size)
        if len(opened.members) == 1 and "calibrated" in reference and size == max(BATCHES):
            outputs["calibrated in the network"] = _calibrated(folder, sample, bundle)
        for name, values in outputs.items():
            difference = np.abs(values - reference[name.removesuffix(" in the network")])
            if name.startswith("calibrated") and opened.system.scaling is not None:
                difference /= np.maximum(1, opened.system.scaling.slope)
            worst[name] = max(worst.get(name, 0.0), float(difference.max()))
    for name, difference in worst.items():
        if not difference < LIMIT:
            raise CxrError(
                f"the export of {opened.run.path} differs from PyTorch by {difference:.1g} in {name}, on images of the "
                f"run; the limit is {LIMIT:g}, so that no bundle is written"
            )
    about = {"images": len(sample.names), "batch_sizes": list(BATCHES), "limit": LIMIT, "largest_difference": worst}
    return about | {"stored_predictions": _stored(opened, sample, reference["score"])}


def _outputs(model: Model, sample: Sample, size: int) -> dict[str, NDArray[np.float32]]:
    parts: dict[str, list[Floats]] = {}
    for start in range(0, len(sample.views), size):
        scores = model.score_views(sample.views[start : start + size], sample.attributes[start : start + size])
        outputs = {"score": scores.score, "calibrated": scores.calibrated}
        outputs |= {f"score of {member.name}": scores.members[k] for k, member in enumerate(model.system.members)}
        outputs |= {f"maps of {member.name}": scores.maps[k] for k, member in enumerate(model.system.members)}
        for name, values in outputs.items():
            if values is not None:
                parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _calibrated(folder: Path, sample: Sample, bundle: Model) -> Floats:
    """The calibrated scores that the network itself computes."""
    (file,) = folder.glob("*.onnx")
    session = open_session(file.read_bytes(), str(file))
    fed: dict[str, Any] = {"image": np.stack([view[0] for view in sample.views])[:, None]}
    fed |= {"attributes": sample.attributes} if bundle.system.members[0].attributes else {}
    (found,) = session.run(["calibrated"], fed)
    return np.asarray(found)


def _stored(opened: Opened, sample: Sample, score: Floats) -> float | None:
    """The largest difference to the run's own validation scores; None if they do not cover the images."""
    path = opened.run.predictions("val")
    stored = read_predictions(path) if path.exists() else None
    rows = {} if stored is None else {name: row for row, name in enumerate(stored.image)}
    known = [position for position, name in enumerate(sample.names) if name in rows]
    if stored is None or not known:
        return None
    columns = [stored.findings.index(name) for name in opened.system.findings]
    own = stored.score[[rows[sample.names[position]] for position in known]][:, columns]
    return float(np.abs(own - score[known]).max())
