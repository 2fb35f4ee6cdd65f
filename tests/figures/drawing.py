"""Inputs that the tests of figures share, and what they read off a figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray

from cxr.figures import attention
from cxr.findings import NIH14

NAN = float("nan")
MANY = [*NIH14, *(f"Calcified_pleural_plaque_{i}" for i in range(26))]
MODELS = ["densenet121-se-attention-pool-asl-seed3", "convnext_tiny.fb_in22k_ft_in1k, 320 px", "swin", "vit", "mean"]

# 6 images; A and B are unknown on one each, and the last image belongs to no split that is drawn.
LABELS = pd.DataFrame(
    {
        "A": [1.0, 1.0, 0.0, NAN, 0.0, 1.0],
        "Pleural_B": [1.0, 0.0, 0.0, 1.0, NAN, 1.0],
        "C": [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        "split": ["train", "val", "test", "train", "test", "held back"],
    }
)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def points(line: Line2D) -> NDArray[np.float64]:
    """(N, 2): where the line goes."""
    return np.asarray(line.get_xydata(), np.float64)


def random_labels(findings: list[str], images: int = 80) -> pd.DataFrame:
    values = np.random.default_rng(0).random((images, len(findings))) < 0.2
    return pd.DataFrame(values.astype(float), columns=findings)


def random_log(epochs: int) -> pd.DataFrame:
    columns = ["train/loss", "val/loss", "train/macro_auroc", "val/macro_auroc", "train/accuracy", "val/accuracy", "lr"]
    log = pd.DataFrame(np.random.default_rng(1).random((epochs, 7)), columns=columns)
    return log.assign(epoch=np.arange(epochs))


def auroc_table(findings: list[str]) -> pd.DataFrame:
    values = np.random.default_rng(2).uniform(0.5, 1, (len(findings), len(MODELS)))
    table = pd.DataFrame(values, index=findings, columns=MODELS)
    table.loc["macro average"] = table.mean()
    return table


def case(score: float = 0.9, target: float = 1.0, **changes: object) -> attention.AttentionCase:
    values = {
        "image": np.zeros((64, 96), np.uint8),
        "attention": np.eye(4),
        "finding": "Pleural_B",
        "score": score,
        "target": target,
        "image_name": "00000001_000.png",
    }
    return attention.AttentionCase(**(values | changes))  # type: ignore[arg-type]


def grid_of_mixtures(members: int, steps: int = 4) -> pd.DataFrame:
    weights = [w for w in np.ndindex(*(steps + 1,) * members) if sum(w) == steps]
    table = pd.DataFrame(np.array(weights) / steps, columns=MODELS[:members])
    return table.assign(value=0.8 + 0.01 * np.arange(len(table)) % 0.037)


# Of `metrics.json`
AREA = {"value": 0.7, "ci": [0.6, 0.8]}
GROUPS = {
    "sex": {"groups": {name: {"n": 12, "patients": 9, "macro_auroc": AREA} for name in ["F", "M " * 30, "$x_{", "_"]}}
}


def evaluated(findings: list[str]) -> dict[str, object]:
    return {"auroc": dict.fromkeys(findings, AREA), "macro_auroc": AREA, "positives": dict.fromkeys(findings, 7)}
