"""Scores for findings that a network was not trained on, from the text of their names: `evaluate zero_shot=[Hernia]`.

Tiu et al., "Expert-level detection of pathologies from unannotated chest X-ray images via self-supervised learning",
Nature Biomedical Engineering 2022: the softmax over the cosines of an image with "<name>" and with "no <name>".
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr.data.datamodule import Batch
from cxr.errors import CxrError
from cxr.files.writing import staged, unwritable, write_text
from cxr.findings import check_known
from cxr.model.network import Network
from cxr.model.text import FileVectors, LabelVectorHead, SentenceVectors
from cxr.run.ancestry import UNKNOWN, read_ancestry
from cxr.run.directory import Run, name_taken_error
from cxr.training.catalog import read_source
from cxr.training.checkpoint import LoadedNetwork, read_checkpoint
from cxr.training.devices import device_of
from cxr.training.predict import predict_with
from cxr.training.reopen import here, open_finished


def write_zero_shot(run: Run, findings: Sequence[str], options: Mapping[str, Any]) -> Run:
    """Writes a folder of predictions beside a run, `<run>-zero_shot`, for findings that it was not trained on.

    Args:
        run: a finished run with `head=label_vectors`.
        findings: labelled by its data set, and not among its own.
        options: those of `evaluate`; `text.file` or `text.model` names the encoder that the run was trained with.

    Raises:
        CxrError: the folder exists, the run has another head, or a finding or the encoder does not fit.
    """
    run.refuse_smoke()
    if run.tta != "none":
        raise CxrError(f"zero_shot does not average over views, and {run.path} does; leave out tta={run.tta}")
    made = Run(run.path.with_name(f"{run.path.name}-zero_shot"))
    if os.path.lexists(made.path):
        raise name_taken_error(made.path, "rename it, or evaluate it with run=")
    content = read_checkpoint(run.best)
    loaded, data = open_finished(run, options, content)
    read = read_source(here(run, loaded, options))
    check_known(findings, read.findings, "zero_shot")
    texts = _texts(loaded, findings, options["text"])
    labels = read.table.set_index("image")[list(findings)]
    catalog = replace(data.catalog, table=data.catalog.table.join(labels, on="image"), findings=tuple(findings))
    ancestry = read_ancestry(content["cxr"].get("ancestry"), str(run.best))
    about = {
        "split_fingerprint": loaded.split_fingerprint,
        "labels_sha256": catalog.labels_sha256,
        "training_patients": {run.path.name: "those of its split"},
        **({UNKNOWN: list(ancestry.unknown)} if ancestry.unknown else {}),
    }
    device = device_of(str(options["accelerator"]))
    network = loaded.network.to(device).eval()
    texts = texts.to(device)

    def scores(batch: Batch) -> Tensor:
        return zero_shot_scores(network, network.fusion(network(batch).embedding, batch), texts)

    try:
        with staged(made.path) as staging:
            for split in ("val", *reversed(catalog.test_splits)):
                rows = catalog.rows(split)
                ancestry.check(str(run.path), split, rows["patient"].tolist(), rows["image"].tolist())
                of_split = predict_with(scores, catalog, data, split, device, loaded.sha256)
                of_split.write(staging / "predictions" / f"{split}.parquet")
            write_text(staging / "metrics.json", json.dumps(about, indent=1) + "\n")
            os.rename(staging, made.path)
    except OSError as error:
        raise unwritable(made.path, error) from error
    return made


def zero_shot_scores(network: Network, vector: Tensor, texts: Tensor) -> Tensor:
    """The softmax over the cosines with the two prompts of each finding, whose first entry is the score.

    Args:
        network: with a `LabelVectorHead`.
        vector: (B, C), the input of the head.
        texts: (2, L, E), the vectors of "<name>" and of "no <name>".

    Returns:
        (B, L) float32 in [0, 1].
    """
    head = network.head
    assert isinstance(head, LabelVectorHead)
    with torch.inference_mode():
        present, absent = (head.of_image(vector) @ head.of_text(each).T for each in texts)
        return torch.sigmoid(present - absent).float()


def _texts(loaded: LoadedNetwork, findings: Sequence[str], named: Mapping[str, Any]) -> Tensor:
    """(2, L, E) the vectors of the prompts, from the encoder of the training."""
    head = loaded.network.head
    if not isinstance(head, LabelVectorHead) or loaded.network.scores_positions:
        raise CxrError("zero_shot needs a run with head=label_vectors, which compares images with text")
    if trained := [name for name in findings if name in loaded.findings]:
        raise CxrError(f"zero_shot names {trained[0]}, which the run was trained on; evaluate it without zero_shot")
    if (named["file"] is None) == (named["model"] is None):
        raise CxrError("zero_shot needs the encoder of the run's text: pass text.model=DIR, or text.file=FILE")
    text: FileVectors | SentenceVectors
    text = FileVectors(named["file"]) if named["file"] else SentenceVectors(named["model"])
    known = text.vectors(loaded.findings)
    if known.shape != head.vectors.shape or not np.allclose(known, head.vectors.cpu(), atol=1e-4):
        raise CxrError(
            f"text.{'file' if named['file'] else 'model'} gives other vectors than those that the run was trained "
            "with; pass the same file or model"
        )
    names = [name.replace("_", " ") for name in findings]
    return torch.stack([text.prompts(names), text.prompts([f"no {name}" for name in names])])
