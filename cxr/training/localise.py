"""Evaluation of attention maps against radiologists' boxes on the test images that have them."""

from typing import Any

import numpy as np
import torch

from cxr.data.boxes import shown_boxes
from cxr.data.datamodule import RadiographData
from cxr.metrics.interval import DEFAULT, Resampling
from cxr.metrics.localisation import THRESHOLDS, by_finding, localise
from cxr.metrics.patients import FEWEST
from cxr.metrics.plain import intervals_of, named, single
from cxr.training.checkpoint import LoadedNetwork
from cxr.training.predict import attention_of


def localisation(
    data: RadiographData, loaded: LoadedNetwork, device: torch.device, resampling: Resampling = DEFAULT,
    split: str = "test",
) -> dict[str, Any] | None:  # fmt: skip
    """Pointing game, overlap and energy inside the box, over pairs of a test image and one of its boxed findings.

    Returns:
        Plain values: `pairs`, and for each measure `macro` and `findings`; None for a network without attention, or
        data without boxes.
    """
    rows = data.catalog.rows(split).reset_index(drop=True)
    boxes, findings = data.catalog.boxes, data.catalog.findings
    boxes = boxes[boxes["image"].isin(rows["image"])]
    if boxes.empty:
        return None
    position_of = {image: position for position, image in enumerate(rows["image"])}
    pairs = [
        (position_of[str(image)], findings.index(str(finding)), shown_boxes(drawn, data.preprocessing))
        for (image, finding), drawn in boxes.groupby(["image", "finding"], sort=True)
    ]
    positions, columns = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    maps = attention_of(loaded, data.dataset(split), positions, columns, device)
    if maps is None:
        return None
    found = localise(maps, [drawn for _, _, drawn in pairs], (data.preprocessing.size, data.preprocessing.size))
    patients = rows["patient"].to_numpy()[positions]
    measures = {"pointing_game": found.pointing, "energy": found.energy}
    measures |= {f"iou_{limit:g}": found.iou[:, k] for k, limit in enumerate(THRESHOLDS)}
    result: dict[str, Any] = {"pairs": len(pairs)}
    spread = {
        name: by_finding(values, columns, len(findings), patients, resampling) for name, values in measures.items()
    }
    for name, mean in spread.items():
        result[name] = {"macro": single(mean.macro), "findings": named(findings, mean.findings)}
    boxed = {name: len(set(patients[columns == k])) for k, name in enumerate(findings)}
    few = {name: count for name, count in boxed.items() if 0 < count < FEWEST}
    return result | {"intervals": intervals_of(resampling.resamples, few, findings, spread)}
