"""The whole network: uint8 radiographs in; logits, attention map and image vector out; preprocessing included."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cxr.errors import CxrError
from cxr.imaging.preprocessing import Preprocessing
from cxr.model.backbone import Backbone

MAPS = ("heads", "findings")


class NetworkOutput(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logits: (B, L).
        attention: maps (B, K, h, w), or none.
        embedding: (B, C).
        attention_of: whether the K maps are those of `heads`, which a picture averages, or of the L `findings`, each
            of which has its own.
    """

    logits: Tensor
    attention: Tensor | None
    embedding: Tensor
    attention_of: str = "heads"


class Network(nn.Module):
    """Backbone, attention and head in a row, with normalisation in front, on the device where the network lives.

    Args:
        backbone: feature extractor.
        attention: pools the feature map; its attribute `attention_of` (default `heads`) states whose its maps are. One
            with `scores_positions` receives the head too, and returns logits, vector and maps.
        head: from the vector to logits.
        preprocessing: of the input.

    Raises:
        CxrError: the attention's `attention_of` is neither `heads` nor `findings`.
    """

    def __init__(self, backbone: Backbone, attention: nn.Module, head: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone, self.attention, self.head = backbone, attention, head
        self.preprocessing = preprocessing
        self.attention_of = str(getattr(attention, "attention_of", "heads"))
        if self.attention_of not in MAPS:
            raise CxrError(
                f"{type(attention).__name__}.attention_of is {self.attention_of!r}; it must be {' or '.join(MAPS)}"
            )

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """A batch to the output; its `image` is (B, 1, H, W) uint8, where H and W are `preprocessing.size`.

        Raises:
            CxrError: the attention gives other than one map a finding, and says that they are those of findings.
        """
        normalised = self.preprocessing.normalise(batch["image"].float()).contiguous(memory_format=torch.channels_last)
        features = self.backbone(normalised)
        if getattr(self.attention, "scores_positions", False):
            logits, vector, attention = self.attention(features, self.head)
        else:
            vector, attention = self.attention(features)
            logits = self.head(vector)
        if self.attention_of == "findings" and attention is not None and attention.shape[1] != logits.shape[1]:
            raise CxrError(
                f"{type(self.attention).__name__} gives {attention.shape[1]} maps for {logits.shape[1]} findings; "
                "give each finding one, or leave out attention_of"
            )
        return NetworkOutput(logits, attention, vector, self.attention_of)
