"""The figures of a finished run. They are drawn here because attention maps need the network and the images."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.boxes import shown_boxes
from cxr.data.catalog import Catalog
from cxr.data.datamodule import RadiographData
from cxr.errors import counted
from cxr.figures.attention import AttentionCase, attention_maps
from cxr.figures.canvas import attempt, draw
from cxr.figures.curves import roc_curves
from cxr.figures.labels import cooccurrence, prevalence
from cxr.figures.learning import learning_curves
from cxr.findings import NIH8
from cxr.run.directory import Run
from cxr.run.predictions import Predictions
from cxr.training.checkpoint import LoadedNetwork
from cxr.training.log import read_log
from cxr.training.predict import attention_of

_OF_EACH = 4  # images of true positives, of false positives and of false negatives


def draw_run(
    run: Run,
    catalog: Catalog,
    predictions: dict[str, Predictions],
    data: RadiographData,
    loaded: LoadedNetwork,
    device: torch.device,
) -> None:
    """Writes prevalence, co-occurrence, learning curves, ROC curves and attention maps into `figures/`."""
    title = run.path.name
    draw_catalog(run, catalog)
    curves = run.figures / "learning_curves.png"
    draw(curves, learning_curves, read_log(run.log), title, loaded.epoch, loaded.task.monitor.name)
    for split, predicted in predictions.items():
        path = run.figures / f"roc_{split}.png"
        draw(path, roc_curves, predicted.target, predicted.score, predicted.findings, f"{title}, {split}")
    for split in predictions:
        if split != "val":
            draw_attention(run, split, predictions, data, loaded, device)


def draw_attention(
    run: Run,
    split: str,
    predictions: Mapping[str, Predictions],
    data: RadiographData,
    loaded: LoadedNetwork,
    device: torch.device,
) -> None:
    """Writes `figures/attention_<split>.png` of a test split, see `attention_cases`."""
    path = run.figures / f"attention_{split}.png"
    with attempt(path):
        cut = thresholds(predictions["val"])
        cases = attention_cases(predictions[split], cut, data, loaded, device, split)
        if cases:
            per_finding = loaded.network.attention_of == "findings"
            draw(path, attention_maps, cases, f"{run.path.name}, {split}", per_finding)


def draw_catalog(run: Run, catalog: Catalog) -> None:
    """Draws prevalence and co-occurrence of the run's findings, and co-occurrence of ChestX-ray8's eight among them."""
    table, findings = catalog.table, catalog.findings
    draw(run.figures / "prevalence.png", prevalence, table, findings)
    draw(run.figures / "cooccurrence.png", cooccurrence, table, findings, f"all {counted(len(findings), 'finding')}")
    eight = [name for name in NIH8 if name in findings]
    if len(eight) == len(NIH8) < len(findings):
        path = run.figures / "cooccurrence_chestxray8.png"
        draw(path, cooccurrence, table, eight, "the eight findings of ChestX-ray8")


def attention_cases(
    predicted: Predictions,
    threshold: NDArray[np.float32],
    data: RadiographData,
    loaded: LoadedNetwork,
    device: torch.device,
    split: str = "test",
) -> list[AttentionCase]:
    """The most confident correct and wrong predictions with attention maps; empty for a network without attention."""
    chosen = confident(predicted.target, predicted.score, threshold)
    dataset = data.dataset(split)
    positions, columns = (np.array([pair[part] for pair in chosen], np.int64) for part in (0, 1))
    maps = attention_of(loaded, dataset, positions, columns, device)
    if maps is None:
        return []
    images = [dataset.image(row) for row, _ in chosen]
    rows = data.catalog.rows(split)
    boxes = data.catalog.boxes
    cases = []
    for (row, column), image, attention in zip(chosen, images, maps, strict=True):
        finding, name = predicted.findings[column], str(rows["image"].iloc[row])
        mine = boxes[(boxes["image"] == name) & (boxes["finding"] == finding)]
        drawn = [(x, y, w, h) for x, y, w, h in shown_boxes(mine, data.preprocessing)]
        score, target = float(predicted.score[row, column]), float(predicted.target[row, column])
        cases.append(AttentionCase(image, attention, finding, score, target, name, drawn, float(threshold[column])))
    return cases


def thresholds(val: Predictions) -> NDArray[np.float32]:
    """(L,) scores at which as many validation images are called as bear the finding; rare findings seldom reach 0.5."""
    known = ~np.isnan(val.target)
    cuts = [
        np.sort(val.score[known[:, k], k])[::-1][max(0, int((val.target[:, k] == 1).sum()) - 1)]
        if known[:, k].any()
        else 0.5
        for k in range(len(val.findings))
    ]
    return np.array(cuts, np.float32)


def confident(
    target: NDArray[np.float32], score: NDArray[np.float32], threshold: NDArray[np.float32]
) -> list[tuple[int, int]]:
    """(image, finding) pairs: true positives, false positives and false negatives, each with the most confident first.

    Confidence is the rank of a score among those of its finding, so that frequent findings do not dominate. A finding
    and an image occur once in each of the three groups.

    Args:
        target: (N, L).
        score: (N, L).
        threshold: (L,), the lowest score of a positive prediction.
    """
    ranks = score.argsort(axis=0).argsort(axis=0) / max(1, len(score) - 1)
    called, present, absent = score >= threshold, target == 1, target == 0
    hits = _top(np.where(present & called, ranks, -1), _OF_EACH)
    alarms = _top(np.where(absent & called, ranks, -1), _OF_EACH)
    missed = _top(np.where(present & ~called, 1 - ranks, -1), _OF_EACH)
    return hits + alarms + missed


def _top(confidence: NDArray[np.floating], count: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    remaining = confidence.copy()
    while len(found) < count and (remaining >= 0).any():
        row, column = np.unravel_index(int(remaining.argmax()), remaining.shape)
        found.append((int(row), int(column)))
        remaining[row, :], remaining[:, column] = -1, -1
    return found
