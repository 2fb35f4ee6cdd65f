"""Vectors of label texts, and a classifier that compares an image with them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.errors import CxrError, first_line

# In words of our own, after the Fleischner Society's glossary of terms for thoracic imaging (Hansell et al. 2008).
DEFINITIONS = {
    "Atelectasis": "part of a lung has collapsed and contains less air",
    "Cardiomegaly": "the heart is enlarged, wider than half of the chest",
    "Consolidation": "air in the alveoli is replaced by fluid or cells, so that the lung looks dense",
    "Edema": "fluid has collected in the tissue and the air spaces of the lungs",
    "Effusion": "fluid has collected in the space between lung and chest wall",
    "Emphysema": "air spaces are permanently enlarged and their walls destroyed, so that the lungs are overinflated",
    "Fibrosis": "scar tissue has formed in the lung and distorts it",
    "Hernia": "an abdominal organ has moved through the diaphragm into the chest",
    "Infiltration": "an ill-defined opacity in the lung, from a substance that is normally not there",
    "Mass": "a round opacity in the lung of more than three centimetres",
    "Nodule": "a round opacity in the lung of at most three centimetres",
    "Pleural_Thickening": "the membrane around the lung is thickened",
    "Pneumonia": "an infection that inflames the lung",
    "Pneumothorax": "air in the space between lung and chest wall, so that the lung has collapsed",
    "Calcification of the Aorta": "calcium deposits in the wall of the aorta",
    "Tortuous Aorta": "the aorta is elongated and winds",
    "Pneumoperitoneum": "free air in the abdomen, below the diaphragm",
    "Pneumomediastinum": "air around the organs between the lungs",
    "Subcutaneous Emphysema": "air in the tissue below the skin",
    "No Finding": "a chest radiograph without an abnormality",
}


class FileVectors:
    """Vectors from a file.

    Args:
        file: `.npz` with a one-dimensional array for each finding, named after it; arrays of one length.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def vectors(self, findings: Sequence[str]) -> Tensor:
        """(L, E) float32.

        Raises:
            CxrError: the file cannot be read, lacks a finding, or has vectors of different lengths.
        """
        try:
            with np.load(Path(self.file).expanduser(), allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in findings if name in arrays}
        except Exception as error:
            raise CxrError(
                f"text.file={self.file} is not a .npz file that can be read: {first_line(error)}; write it with "
                "numpy.savez(FILE, **{finding: vector})"
            ) from error
        absent = [name for name in findings if name not in found]
        if absent:
            raise CxrError(f"text.file={self.file} has no vector named {absent[0]}; add one for each finding")
        shapes = {array.shape for array in found.values()}
        numeric = all(np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all() for array in found.values())
        if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not numeric:
            raise CxrError(
                f"text.file={self.file} must contain finite vectors of one length; it has the shapes "
                f"{', '.join(map(str, sorted(shapes)))}"
            )
        return torch.from_numpy(np.stack([found[name] for name in findings]).astype(np.float32))

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32; the file has an array named after each text."""
        return self.vectors(texts)


class SentenceVectors:
    """Vectors of "<name>: <definition>", or the name alone without a definition, from a sentence-transformers model.

    Args:
        model: folder of the model; nothing is downloaded.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    def vectors(self, findings: Sequence[str]) -> Tensor:
        """(L, E) float32.

        Raises:
            CxrError: sentence-transformers is not installed, or the folder is not a model.
        """
        return self.prompts(
            [f"{name.replace('_', ' ')}: {DEFINITIONS.get(name, '')}".rstrip(": ") for name in findings]
        )

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32, of the texts as they are; raises as `vectors`."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise CxrError("text=sentence needs sentence-transformers; run make setup EXTRAS=text") from None
        folder = Path(self.model).expanduser()
        if not folder.is_dir():
            raise CxrError(f"text.model={self.model} is not a folder; give the folder of a sentence-transformers model")
        try:
            encoder = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            return torch.as_tensor(encoder.encode(list(texts), show_progress_bar=False), dtype=torch.float32)
        except Exception as error:
            raise CxrError(f"text.model={self.model} cannot encode the findings: {first_line(error)}") from error


class Projection(nn.Sequential):
    """Two layers with ReLU between them into a common space, and a length of 1."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, vector: Tensor) -> Tensor:
        """(..., features) to (..., width)."""
        return F.normalize(super().forward(vector), dim=-1)  # type: ignore[no-untyped-call]


class LabelVectorHead(nn.Module):
    """scale * cos(P_v x, P_t e_l) + b_l, where e_l is the frozen vector of finding l's text.

    Args:
        in_features: C.
        findings: L.
        label_vectors: (L, E), e.
        width: of the common space.
        scale: factor of the cosine.
    """

    vectors: Tensor

    def __init__(
        self, in_features: int, findings: int, label_vectors: Tensor, width: int = 128, scale: float = 10.0
    ) -> None:
        super().__init__()
        self.of_image, self.of_text = Projection(in_features, width), Projection(label_vectors.shape[1], width)
        self.bias, self.scale = nn.Parameter(torch.zeros(findings)), scale
        self.register_buffer("vectors", label_vectors.clone())

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) to logits (B, L)."""
        return self.scale * self.of_image(vector) @ self.of_text(self.vectors).T + self.bias
