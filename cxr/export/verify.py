"""Compares a bundle with the networks that it was exported from, on images of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.datamodule import Radiographs
from cxr.errors import CxrError, counted
from cxr.export.opened import Opened
from cxr.metrics.auroc import auroc, macro
from cxr.run.predictions import read_predictions
from cxr.training.reopen import open_data
from cxr.use.bundle import open_session
from cxr.use.scoring import Floats, Model, Views

IMAGES = 64
BATCHES = (1, 3, 16)
LIMIT = 1e-5  # of a difference between ONNX Runtime and PyTorch
MAPS = 10  # times as much for attention maps: those of a barely trained MobileNet differ by 1e-5 between batch sizes
MOST_LOST = 0.002  # of the validation macro AUROC, by 8 bits


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


class RunImages:
    """The images of a run, as each member of its system sees them.

    Args:
        opened: the run.
        named: folders that the user gave for its images, see `open_finished`.

    Raises:
        CxrError: the images cannot be read.
    """

    def __init__(self, opened: Opened, named: Mapping[str, Any]) -> None:
        pairs = zip(opened.members, opened.loaded, strict=True)
        self.data = [open_data(member, loaded, named) for member, loaded in pairs]

    def names(self, *splits: str) -> list[str]:
        """Ids of the images of splits."""
        return [name for split in splits for name in self.data[0].catalog.rows(split)["image"]]

    def targets(self, findings: Sequence[str], names: Sequence[str]) -> Floats:
        """Labels (N, L) of images."""
        table = self.data[0].catalog.table.set_index("image")
        return table.loc[list(names), list(findings)].to_numpy(np.float32)

    def sample(self, names: Sequence[str]) -> Sample:
        """Some images by their ids."""
        shown = []
        for data in self.data:
            catalog = data.catalog
            rows = catalog.table.set_index("image", drop=False).loc[list(names)].reset_index(drop=True)
            images = Radiographs(data.cache, rows, catalog.findings, data.preprocessing)
            shown.append([images.image(position) for position in range(len(names))])
        return Sample(list(names), list(zip(*shown, strict=True)), images.attributes)


def verify(bundle: Model, opened: Opened, sample: Sample, folder: Path, limit: float | None = LIMIT) -> dict[str, Any]:
    """Scores images with a bundle and with PyTorch, at several batch sizes.

    Args:
        bundle: as it was loaded from `folder`.
        opened: the run that it was exported from.
        sample: images.
        folder: of the bundle.
        limit: of differences, those of attention maps divided by `MAPS`; None for a bundle in 8 bits, whose
            differences are recorded.

    Returns:
        The content of `verify.json`: images, batch sizes and the largest differences. Those of calibrated scores are
        divided by the absolute slope where it is above 1, by which a calibration multiplies the rounding of scores.

    Raises:
        CxrError: a difference is its limit or more.
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
                difference /= np.maximum(1, np.abs(opened.system.scaling.slope))
            worst[name] = max(worst.get(name, 0.0), float(difference.max()))
    for name, difference in worst.items():
        most = None if limit is None else limit * (MAPS if name.startswith("maps") else 1)
        if most is not None and not difference < most:
            raise CxrError(
                f"the export of {opened.run.path} differs from PyTorch by {difference:.1e} in {name}, on images of the "
                f"run; the limit is {most:g}, so that no bundle is written"
            )
    about = {"images": len(sample.names), "batch_sizes": list(BATCHES), "limit": limit, "largest_difference": worst}
    return about | {"stored_predictions": _stored(opened, sample, reference["score"])}


def differences(verified: Mapping[str, Any]) -> str:
    """What `verify` found, as the end of a sentence; in 8 bits, attention maps and members differ more than scores."""
    largest, images = verified["largest_difference"], f"on {counted(verified['images'], 'image')} of the run"
    worst = max(largest.values())
    if verified["limit"] is not None:
        return f"differ from PyTorch by at most {worst:.1e} {images}"
    return (
        f"differ from PyTorch by at most {largest['score']:.1e} in scores and {worst:.1e} in any other output, such as "
        f"attention maps, {images}"
    )


def check_int8(bundle: Model, opened: Opened, images: RunImages) -> dict[str, float]:
    """The macro AUROC of a bundle in 8 bits and of its run on all validation images.

    Raises:
        CxrError: that of the bundle is lower by more than `MOST_LOST`.
    """
    names, scores = images.names("val"), dict[str, list[Floats]](run=[], bundle=[])
    models = {"run": opened.model(torch.device("cpu")), "bundle": bundle}
    for start in range(0, len(names), IMAGES):
        sample = images.sample(names[start : start + IMAGES])
        for name, model in models.items():
            scores[name].append(model.score_views(sample.views, sample.attributes).score)
    target = images.targets(opened.system.findings, names)
    found = {name: macro(auroc(target, np.concatenate(parts))) for name, parts in scores.items()}
    if not found["bundle"] >= found["run"] - MOST_LOST:
        raise CxrError(
            f"int8=true lowers the validation macro AUROC of {opened.run.path} from {found['run']:.4f} to "
            f"{found['bundle']:.4f}, by more than {MOST_LOST}; export it without int8"
        )
    return found


def _outputs(model: Model, sample: Sample, size: int) -> dict[str, NDArray[np.float32]]:
    parts: dict[str, list[Floats]] = {}
    names = [f"{number}-{member.name}" for number, member in enumerate(model.system.members, 1)]  # two may be equal
    for start in range(0, len(sample.views), size):
        scores = model.score_views(sample.views[start : start + size], sample.attributes[start : start + size])
        outputs = {"score": scores.score, "calibrated": scores.calibrated}
        outputs |= {f"score of {name}": scores.members[k] for k, name in enumerate(names)}
        outputs |= {f"maps of {name}": scores.maps[k] for k, name in enumerate(names)}
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
