"""Predictions of a network: probabilities of a split, sharded over ranks, and attention maps of single images."""

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed as dist
from torch.utils.data import DataLoader
from tqdm import tqdm

from cxr.data.catalog import Catalog
from cxr.data.datamodule import Batch, RadiographData, Radiographs
from cxr.model.network import NetworkOutput
from cxr.run.predictions import NAMES, NUMBERS, Predictions
from cxr.training.checkpoint import LoadedNetwork

_Output = TypeVar("_Output")
_MAPS = 64  # images per batch


def predict(loaded: LoadedNetwork, data: RadiographData, split: str, device: torch.device) -> Predictions:
    """Scores every image of a split once, in the order of the table. All ranks call it and get all predictions.

    Args:
        data: loaders, already sharded if there are several ranks.
        split: `val`, `test` or a further test split.
    """
    loaded.network.to(device).eval()
    index, score = [], []
    for batch, (found, _) in outputs(loaded.scores, data.evaluation_dataloader(split), device, f"predicting {split}"):
        index.append(batch["index"])
        score.append(found.cpu())
    rows, scores = torch.cat(index).numpy(), torch.cat(score).numpy()
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = [(rows, scores)] * dist.get_world_size()
        dist.all_gather_object(parts, (rows, scores))
        rows, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return in_table_order(data.catalog, split, rows, scores, loaded.sha256)


def outputs(
    compute: Callable[[Batch], _Output], loader: DataLoader[Batch], device: torch.device, label: str
) -> Iterator[tuple[Batch, _Output]]:
    """Batches (on the CPU) and what is computed from each, without gradients, with a progress bar."""
    with torch.inference_mode():
        for batch in tqdm(loader, label, disable=not sys.stderr.isatty(), leave=False):
            yield batch, compute(on(device, batch))


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


def in_table_order(
    catalog: Catalog, split: str, index: NDArray[np.int64], score: NDArray[np.float32], checkpoint: str
) -> Predictions:
    """Predictions of a split from scores (N, L) of the rows `index` of the catalog, -1 for filler, in any order."""
    rows = catalog.rows(split)
    where = {int(row): position for position, row in enumerate(index) if row >= 0}
    order = [where[int(row)] for row in rows.index]
    names, patients = (rows[column].to_numpy(object) for column in ("image", "patient"))
    return Predictions(
        names, patients, catalog.findings, score[order].astype(np.float32), catalog.targets(split), checkpoint, split,
        rows[[name for name in (*NUMBERS, *NAMES) if name in rows]].reset_index(drop=True),
    )  # fmt: skip
