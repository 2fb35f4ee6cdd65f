"""Attention maps of the test images that radiologists drew boxes on, judged against these boxes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cxr.data.boxes import shown_boxes
from cxr.data.datamodule import RadiographData
from cxr.metrics.interval import USUAL, Resampling
from cxr.metrics.localisation import THRESHOLDS, by_finding, localise
from cxr.metrics.patients import FEWEST
from cxr.metrics.plain import intervals_of, named, single
from cxr.run.directory import Run
from cxr.training.checkpoint import LoadedNetwork
from cxr.training.devices import device_of
from cxr.training.finished import open_finished
from cxr.training.predict import attention_of


def localisation(
    data: RadiographData, loaded: LoadedNetwork, device: torch.device, resampling: Resampling = USUAL
) -> dict[str, Any] | None:
    """Pointing game, overlap and energy inside the box, over pairs of a test image and one of its boxed findings.

    Args:
        data: loaders of the run.
        loaded: its network.
        device: where it runs.
        resampling: of patients, for the intervals.

    Returns:
        Plain values: `pairs`, and a measure each with `macro` and its findings; none for a network without attention,
        or data without boxes.
    """
    rows = data.catalog.rows("test").reset_index(drop=True)
    boxes, findings = data.catalog.boxes, data.catalog.findings
    boxes = boxes[boxes["image"].isin(rows["image"])]
    if boxes.empty:
        return None
    place = {image: position for position, image in enumerate(rows["image"])}
    pairs = [
        (place[str(image)], findings.index(str(finding)), shown_boxes(drawn, data.preprocessing))
        for (image, finding), drawn in boxes.groupby(["image", "finding"], sort=True)
    ]
    positions, columns = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    maps = attention_of(loaded.network, data.dataset("test"), positions, columns, device)
    if maps is None:
        return None
    found = localise(maps, [drawn for _, _, drawn in pairs], (data.preprocessing.size, data.preprocessing.size))
    patients = rows["patient"].to_numpy()[positions]
    measures = {"pointing_game": found.pointing, "energy": found.energy}
    measures |= {f"iou_{limit:g}": found.iou[:, k] for k, limit in enumerate(THRESHOLDS)}
    said: dict[str, Any] = {"pairs": len(pairs)}
    spread = {
        name: by_finding(values, columns, len(findings), patients, resampling) for name, values in measures.items()
    }
    for name, mean in spread.items():
        said[name] = {"macro": single(mean.macro), "findings": named(findings, mean.findings)}
    boxed = {name: len(set(patients[columns == k])) for k, name in enumerate(findings)}
    few = {name: count for name, count in boxed.items() if 0 < count < FEWEST}
    return said | {"intervals": intervals_of(resampling.resamples, few, findings, spread)}


def localise_run(run: Run, options: Mapping[str, Any], resampling: Resampling) -> dict[str, Any] | None:
    """The same for the best checkpoint of a finished run.

    Args:
        run: which.
        options: `accelerator`, and folders that the user names, see `open_finished`.
        resampling: of patients, for the intervals.

    Raises:
        CxrError: its checkpoint or its images cannot be read.
    """
    loaded, data = open_finished(run, options)
    return localisation(data, loaded, device_of(str(options["accelerator"])), resampling)
