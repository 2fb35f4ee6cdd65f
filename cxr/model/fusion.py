"""Joins non-image attributes to the image vector, between attention and head."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Below1, Positive


class NoFusion(nn.Module):
    """The image vector alone."""

    attribute_dropout = 0.0

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, vector: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, C) as it is."""
        return vector


class Join(nn.Module):
    """Concatenates the image vector with a hidden layer of age, sex and view, then drops out values of both.

    Pillai, "Multi-Label Chest X-Ray Classification via Deep Learning", 2022, joins non-image features; the layers are
    public nowhere, so these are ours. The seven inputs of the hidden layer are age in centuries, cut to [0, 1]; sex,
    1 for female; indicators of PA and AP; and for each of age, sex and view whether it is missing. Missing is 0.

    Args:
        in_features: C.
        width: of the hidden layer, which has ReLU.
        dropout: share of the joined vector that is dropped in training.
        attribute_dropout: share of images of which training hides the age; of as many, independently, sex and view.
    """

    def __init__(self, in_features: int, width: int = 32, dropout: float = 0.3, attribute_dropout: float = 0.1) -> None:
        super().__init__()
        checked_option("fusion.width", width, Positive)
        checked_option("fusion.dropout", dropout, Below1)
        checked_option("fusion.attribute_dropout", attribute_dropout, Below1)
        self.out_features, self.attribute_dropout = in_features + width, attribute_dropout
        self.hidden = nn.Sequential(nn.Linear(7, width), nn.ReLU())
        self.dropout = nn.Dropout(dropout)

    def forward(self, vector: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, C), and `attributes` (B, 5) of the batch, to (B, C + width)."""
        hidden = self.hidden(encoded(batch["attributes"]).to(vector.dtype))
        return self.dropout(torch.cat([vector, hidden.to(vector.dtype)], dim=1))


def encoded(attributes: Tensor) -> Tensor:
    """Attributes (B, 5) of a batch to the inputs (B, 7) of `Join`, all of them in [0, 1]."""
    age, male, female, pa, ap = attributes.unbind(dim=1)
    no_age, no_sex, no_view = age.isnan(), (male + female) == 0, (pa + ap) == 0
    known = torch.where(no_age, 0.0, age).clamp(0, 1)
    unknown_age, unknown_sex, unknown_view = (missing.to(age.dtype) for missing in (no_age, no_sex, no_view))
    return torch.stack([known, unknown_age, female, unknown_sex, pa, ap, unknown_view], dim=1)
