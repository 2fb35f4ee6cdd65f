"""The whole network, from uint8 radiographs to logits, attention maps and an image vector, including normalisation."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.fusion import NoFusion

MAPS = ("heads", "findings")


class NetworkOutput(NamedTuple):
    """The output of a network for a batch.

    Attributes:
        logits: (B, L).
        attention: maps (B, K, h, w), or none.
        embedding: (B, C).
        attention_of: `heads` if the K maps are averaged in figures, or `findings` if map k is that of finding k.
    """

    logits: Tensor
    attention: Tensor | None
    embedding: Tensor
    attention_of: str = "heads"


class Network(nn.Module):
    """Normalisation, backbone, attention, fusion and head in sequence.

    Args:
        attention: pools the feature map; see `NetworkOutput` for its attribute `attention_of` (default `heads`). One
            with `scores_positions` receives the head, too, and returns logits, vector and maps.
        fusion: from the vector and the batch to the vector that the head classifies; by default the vector itself.

    Raises:
        CxrError: the attention's `attention_of` is neither `heads` nor `findings`; or it returns logits itself and
            `fusion` is given.
    """

    def __init__(
        self,
        backbone: nn.Module,
        attention: nn.Module,
        head: nn.Module,
        preprocessing: Preprocessing,
        fusion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.attention, self.head = backbone, attention, head
        self.fusion = fusion or NoFusion(int(attention.out_features))  # type: ignore[arg-type]
        self.scores_positions = bool(getattr(attention, "scores_positions", False))
        if self.scores_positions and not isinstance(self.fusion, NoFusion):
            raise CxrError(
                f"{type(attention).__name__} scores positions, and {type(self.fusion).__name__} joins attributes to "
                "one vector per image; choose another attention, or fusion=none"
            )
        self.preprocessing = preprocessing
        self.attention_of = str(getattr(attention, "attention_of", "heads"))
        if self.attention_of not in MAPS:
            raise CxrError(
                f"{type(attention).__name__}.attention_of is {self.attention_of!r}; it must be {' or '.join(MAPS)}"
            )

    @property
    def embedding(self) -> int:
        """C, the length of the image vector."""
        return int(self.attention.out_features)  # type: ignore[arg-type]

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """A batch to the output; its `image` is (B, 1, H, W) uint8, where H and W are `preprocessing.size`.

        Raises:
            CxrError: `attention_of` is `findings` and the number of maps is not that of findings.
        """
        normalised = self.preprocessing.normalise(batch["image"].float()).contiguous(memory_format=torch.channels_last)
        features = self.backbone(normalised)
        if self.scores_positions:
            logits, vector, attention = self.attention(features, self.head)
        else:
            vector, attention = self.attention(features)
            logits = self.head(self.fusion(vector, batch))
        if self.attention_of == "findings" and attention is not None and attention.shape[1] != logits.shape[1]:
            raise CxrError(
                f"{type(self.attention).__name__} returns {attention.shape[1]} maps for {logits.shape[1]} findings; "
                "return one per finding, or remove attention_of"
            )
        return NetworkOutput(logits, attention, vector, self.attention_of)
