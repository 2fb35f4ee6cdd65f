"""Predictions of a network: probabilities of a split, sharded over ranks, and attention maps of single images."""

import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist
from tqdm import tqdm

from cxr.data.catalog import Catalog
from cxr.data.datamodule import Batch, RadiographData, Radiographs
from cxr.model.network import NetworkOutput
from cxr.run.predictions import NAMES, NUMBERS, Predictions
from cxr.training.checkpoint import LoadedNetwork

_MAPS = 64  # images per batch


def predict(loaded: LoadedNetwork, data: RadiographData, split: str, device: torch.device) -> Predictions:
    """Scores every image of a split once, in the order of the table. All ranks call it and get all predictions.

    Args:
        data: loaders, already sharded if there are several ranks.
        split: `val`, `test` or a further test split.
    """
    loaded.network.to(device).eval()
    return predict_with(lambda batch: loaded.scores(batch)[0], data.catalog, data, split, device, loaded.sha256)


def predict_with(
    scores: Callable[[Batch], Tensor],
    catalog: Catalog,
    data: RadiographData,
    split: str,
    device: torch.device,
    sha256: str,
) -> Predictions:
    """As `predict`, with a function from a batch on the device to scores (B, L) of the findings of a catalog."""
    index, score = [], []
    loader = data.evaluation_dataloader(split)
    with torch.inference_mode():
        for batch in tqdm(loader, f"predicting {split}", disable=not sys.stderr.isatty(), leave=False):
            index.append(batch["index"])
            score.append(scores(on(device, batch)).cpu())
    rows, found = torch.cat(index).numpy(), torch.cat(score).numpy()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = [(rows, found)] * dist.get_world_size()
        dist.all_gather_object(parts, (rows, found))
        rows, found = (np.concatenate(column) for column in zip(*parts, strict=True))
    where = {int(row): position for position, row in enumerate(rows) if row >= 0}  # -1 is filler
    table = catalog.rows(split)
    order = [where[int(row)] for row in table.index]
    names, patients = (table[column].to_numpy(object) for column in ("image", "patient"))
    return Predictions(
        names, patients, catalog.findings, found[order].astype(np.float32), catalog.targets(split), sha256, split,
        table[[name for name in (*NUMBERS, *NAMES) if name in table]].reset_index(drop=True),
    )  # fmt: skip


def attention_of(
    loaded: LoadedNetwork, images: Radiographs, positions: NDArray[np.int64], findings: NDArray[np.int64],
    device: torch.device,
) -> NDArray[np.float32] | None:  # fmt: skip
    """The attention map of an image for a finding: that of the finding if the network has one, else the heads' mean.

    Args:
        images: of a split.
        positions: (N,), indices of images.
        findings: (N,), for each image the index of a finding among the outputs.

    Returns:
        Maps (N, h, w); none if the network has no attention, or scores crops.
    """
    if loaded.tta == "crops":
        return None
    network = loaded.network
    network.to(device).eval()
    parts = []
    for start in range(0, len(positions), _MAPS):
        chosen = slice(start, start + _MAPS)
        with torch.inference_mode():
            output: NetworkOutput = network(on(device, images.batch(positions[chosen])))
        if output.attention is None:
            return None
        maps = output.attention.float().cpu().numpy()
        per_finding = output.attention_of == "findings"
        parts.append(maps[np.arange(len(maps)), findings[chosen]] if per_finding else maps.mean(axis=1))
    return np.concatenate(parts) if parts else None


def on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}
