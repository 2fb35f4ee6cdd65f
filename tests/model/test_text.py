"""Vectors of label texts, and the classifier that compares images with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from cxr.errors import CxrError
from cxr.model.text import FileVectors, LabelVectorHead, SentenceVectors


def test_vectors_come_in_the_order_of_the_findings(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", Mass=np.array([1.0, 2.0]), Nodule=np.array([3.0, 4.0]), Edema=np.zeros(2))
    found = FileVectors(str(tmp_path / "v.npz")).vectors(["Nodule", "Mass"])
    assert found.dtype == torch.float32 and found.tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"Mass": [1.0]}, "has no vector named Nodule"),
        ({"Mass": [1.0], "Nodule": [1.0, 2.0]}, "vectors of one length"),
        ({"Mass": [1.0], "Nodule": [np.nan]}, "must contain finite vectors"),
        ({"Mass": ["a"], "Nodule": ["b"]}, "must contain finite vectors"),
    ],
)
def test_a_file_that_does_not_serve_is_refused(tmp_path: Path, arrays: dict[str, list[float]], said: str) -> None:
    np.savez(tmp_path / "v.npz", **{name: np.array(values) for name, values in arrays.items()})
    with pytest.raises(CxrError, match=said):
        FileVectors(str(tmp_path / "v.npz")).vectors(["Mass", "Nodule"])


def test_objects_in_a_file_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", Mass=np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(CxrError, match=r"not a \.npz file that can be read"):
        FileVectors(str(tmp_path / "v.npz")).vectors(["Mass"])


def test_a_missing_file_and_a_missing_model_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"text\.file=.*no\.npz is not a \.npz file"):
        FileVectors(str(tmp_path / "no.npz")).vectors(["Mass"])
    with pytest.raises(CxrError, match=r"EXTRAS=text|is not a folder"):
        SentenceVectors(str(tmp_path / "none")).vectors(["Mass"])


def test_logits_are_scaled_cosines_of_the_projections_plus_a_bias() -> None:
    torch.manual_seed(0)
    head = LabelVectorHead(5, 3, torch.randn(3, 7), width=4, scale=10.0)
    torch.nn.init.normal_(head.bias)
    images = torch.randn(6, 5)
    with torch.no_grad():
        cosine = cosine_similarity(head.of_image(images).numpy(), head.of_text(head.vectors).numpy())
        np.testing.assert_allclose(head(images), 10 * cosine + head.bias.numpy(), atol=1e-5)
    assert "vectors" in head.state_dict()
