"""Scores of findings that were not trained, from the text of their names."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from cxr.cli.evaluate import evaluate
from cxr.errors import CxrError
from cxr.findings import NIH14
from cxr.model.text import LabelVectorHead
from cxr.run.directory import Run
from cxr.training.checkpoint import load_network
from cxr.training.reopen import open_finished
from cxr.training.zero_shot import zero_shot_scores
from tests.end_to_end.conftest import environment, here, phantoms, train  # noqa: F401  # fixtures
from tests.evaluation.test_run import options

Train = Callable[..., Any]


def test_scores_are_a_softmax_over_the_cosines_with_both_prompts() -> None:
    torch.manual_seed(1)
    head, vector, texts = LabelVectorHead(5, 2, torch.randn(2, 7), width=4), torch.randn(6, 5), torch.randn(2, 3, 7)
    found = zero_shot_scores(SimpleNamespace(head=head), vector, texts)  # type: ignore[arg-type]
    with torch.no_grad():
        image, text = head.of_image(vector).numpy(), head.of_text(texts).numpy()
    cosines = np.stack([cosine_similarity(image, prompt) for prompt in text])  # (2, 6, 3)
    np.testing.assert_allclose(found.numpy(), softmax(cosines, axis=0)[0], atol=1e-6)


@pytest.mark.slow
def test_a_finding_that_was_left_out_is_scored_beside_the_run(train: Train, here: Path) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    names = [*NIH14, "Pleural Thickening", "no Pleural Thickening", "no Mass"]
    vectors = {name: rng.normal(size=6) for name in names}
    np.savez(here / "v.npz", **vectors)
    trained = "text=file", "text.file=v.npz", "head=label_vectors", "data.exclude=[Mass,Pleural_Thickening]"
    assert train(*trained, "name=a", "trainer.max_epochs=1").code == 0
    wanted = ["Mass", "Pleural_Thickening"]
    place = {"root": None, "file": None, "roles": None, "train_list": None, "val_list": None, "test_list": None}
    asked = {"resamples": 2, "accelerator": "cpu", "data": {**place, "test_lists": {}}, "cache": {"dir": None}}

    def score(run: str = "runs/a", findings: list[str] = wanted, file: str | None = "v.npz") -> float:
        text = {"file": file and str(here / file), "model": None}
        return evaluate(options("evaluate", run=str(here / run), zero_shot=findings, text=text, **asked))

    value, run = score(), here / "runs" / "a-zero_shot"
    network = load_network(here / "runs/a/checkpoints/best.ckpt").network
    data = open_finished(Run(here / "runs/a"), asked)[1]
    batches = list(data.evaluation_dataloader("test"))
    with torch.no_grad():
        image = torch.cat([network.head.of_image(network(batch).embedding) for batch in batches])  # type: ignore[operator,union-attr]
    frame = pd.read_parquet(run / "predictions" / "test.parquet").set_index("image")
    rows = torch.cat([batch["index"] for batch in batches]).numpy()
    table = frame.loc[data.catalog.table["image"][rows[rows >= 0]]]
    for name, called in zip(wanted, ("Mass", "Pleural Thickening"), strict=True):
        prompts = torch.tensor(np.stack([vectors[called], vectors[f"no {called}"]]), dtype=torch.float32)
        with torch.no_grad():
            cosine = cosine_similarity(image.numpy(), network.head.of_text(prompts).numpy())  # type: ignore[operator,union-attr]
        np.testing.assert_allclose(table[f"score:{name}"], softmax(cosine, axis=1)[rows >= 0, 0], atol=1e-5)
    metrics = json.loads((run / "metrics.json").read_text())
    areas = [roc_auc_score(frame[f"target:{name}"], frame[f"score:{name}"]) for name in wanted]
    assert value == pytest.approx(np.mean(areas)) and metrics["test"]["auroc"].keys() == set(wanted)
    assert "unknown" not in (run / "evaluation" / "auroc.md").read_text(), "the ancestry is that of the run"

    np.savez(here / "other.npz", **{name: rng.normal(size=6) for name in names})
    refusals = [
        (lambda: score(), "a-zero_shot exists; rename it"),
        (lambda: score(findings=["Edema"]), "names Edema, which the run was trained on"),
        (lambda: score(findings=["Rupture"]), "zero_shot names an unknown finding 'Rupture'"),
        (lambda: score(file="other.npz"), "other vectors than those that the run was trained with"),
        (lambda: score(file=None), r"pass text\.model=DIR, or text\.file=FILE"),
    ]
    for k, (call, said) in enumerate(refusals):
        if k == 1:
            run.rename(here / "kept")
        with pytest.raises(CxrError, match=said):
            call()
        assert k == 0 or not run.exists()
    assert train("name=plain", "trainer.max_epochs=1").code == 0
    with pytest.raises(CxrError, match="needs a run with head=label_vectors"):
        score("runs/plain", ["Mass"])
