"""Attention pooling: from a feature map (B, C, h, w) to a vector and the attention maps (B, K, h, w)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import From0, Positive
from cxr.errors import CxrError
from cxr.model.head import LinearHead

# Softmax temperatures by the number of heads; 99 is the maximum (Zhu and Wu, their code).
TEMPERATURES = {1: (1,), 2: (1, 99), 4: (1, 2, 4, 99), 6: (1, 2, 3, 4, 5, 99), 8: (1, 2, 3, 4, 5, 6, 7, 99)}
MAXIMUM = 99


class AveragePooling(nn.Module):
    """Average pooling over positions, without a map."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """(B, C, h, w) to (B, C) and no map."""
        return features.mean(dim=(2, 3)), None


class LocationAttention(nn.Module):
    """One scalar per position from a 1x1 convolution, softmax over positions, and the weighted sum of the features.

    Kejriwal et al., "Classification of Chest X-ray Image into Multiple Disease Findings Simultaneously". The
    convolution has no bias, which the softmax would cancel, and starts at zero, where it is average pooling.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.out_features = in_features
        self.score = nn.Conv2d(in_features, 1, kernel_size=1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, C) and weights (B, 1, h, w) that sum to one over positions."""
        weights = self.score(features).flatten(2).softmax(dim=2)
        vector = (features.flatten(2) * weights).sum(dim=2)
        return vector, weights.unflatten(2, features.shape[2:])


class MultiHeadAttention(nn.Module):
    """K learned queries, each with a softmax over positions and a weighted sum of the features, which are concatenated.

    Ours, for the future work of Kejriwal et al.: `LocationAttention` with K queries in place of one. The queries start
    at zero, which is average pooling; the head makes them differ from the first step on.

    Args:
        in_features: C of the feature map.
        heads: K; the vector has K * C values.
    """

    def __init__(self, in_features: int, heads: int = 4) -> None:
        super().__init__()
        checked_option("attention.heads", heads, Positive)
        self.out_features = heads * in_features
        self.score = nn.Conv2d(in_features, heads, kernel_size=1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, K * C) and weights (B, K, h, w), each of which sums to one over positions."""
        weights = self.score(features).flatten(2).softmax(dim=2)
        vectors = weights @ features.flatten(2).transpose(1, 2)
        return vectors.flatten(1), weights.unflatten(2, features.shape[2:])


class ClassSpecificResidualAttention(nn.Module):
    """Scores every position with the head, then adds each finding's attention-weighted score to its mean score.

    Zhu and Wu, "Residual Attention: A Simple but Effective Method for Multi-Label Recognition", ICCV 2021. With the
    score s_lj of finding l at position j::

        z_l = sum over heads (mean_j s_lj + lam * sum_j a_lj s_lj),  a_lj = softmax over j of T s_lj

    and the maximum over j for T = 99. With `head=linear` s_lj = w_l . x_j / |w_l| (+ the head's bias, which the paper
    does not have), so that one head adds no parameter. Any other head scores positions as it scores vectors (ours).
    Each further head has its own linear classifier without a bias.

    Args:
        in_features: C of the feature map.
        findings: L.
        heads: 1, 2, 4, 6 or 8; their temperatures are in `TEMPERATURES`.
        lam: weight of the attention term, from .1 to .5 in the paper.
    """

    attention_of = "findings"
    scores_positions = True  # called with the head, and returns logits

    def __init__(self, in_features: int, findings: int, heads: int = 1, lam: float = 0.1) -> None:
        super().__init__()
        if heads not in TEMPERATURES:
            raise CxrError(f"attention.heads={heads} is unknown; choose one of {', '.join(map(str, TEMPERATURES))}")
        checked_option("attention.lam", lam, From0)
        self.out_features, self.lam, self.temperatures = in_features, lam, TEMPERATURES[heads]
        self.classifiers = nn.ModuleList(nn.Linear(in_features, findings, bias=False) for _ in range(heads - 1))

    def forward(self, features: Tensor, head: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Pools the scores of positions.

        Args:
            features: (B, C, h, w).
            head: (N, C) to (N, L).

        Returns:
            Logits (B, L); the mean feature vector (B, C); and maps (B, L, h, w), the mean of a over heads, each of
            which sums to one over positions.
        """
        positions = features.flatten(2).transpose(1, 2)
        logits, maps = [], []
        for temperature, classifier in zip(self.temperatures, (head, *self.classifiers), strict=True):
            scores = _normalised_scores(classifier, positions).transpose(1, 2)
            if temperature == MAXIMUM:
                weights = F.one_hot(scores.argmax(dim=2), scores.shape[2]).to(scores.dtype)
            else:
                weights = (temperature * scores).softmax(dim=2)
            logits.append(scores.mean(dim=2) + self.lam * (weights * scores).sum(dim=2))
            maps.append(weights)
        attention = torch.stack(maps).mean(dim=0)
        vector = positions.mean(dim=1)
        return torch.stack(logits).sum(dim=0), vector, attention.view(*attention.shape[:2], *features.shape[2:])


def _normalised_scores(classifier: nn.Module, positions: Tensor) -> Tensor:
    """Scores (B, hw, L) of positions (B, hw, C); the rows of a linear classifier are scaled to unit length."""
    if isinstance(classifier, LinearHead):
        dropout, classifier = classifier.layers
        positions = dropout(positions)
    if isinstance(classifier, nn.Linear):
        return F.linear(positions, F.normalize(classifier.weight, dim=1), classifier.bias)
    scores: Tensor = classifier(positions.flatten(0, 1))
    return scores.view(*positions.shape[:2], -1)


class GapMaskAttention(nn.Module):
    """One sigmoid mask; the features' average under it: GAP(mask * features) / GAP(mask), then a small dense layer.

    The form in the code that the location-attention paper descends from: batch norm; 1x1 convolutions of 128, 32 and 16
    channels with ELU; 2x2 average smoothing at stride 1 that keeps the size; 1x1 convolution and sigmoid; after
    pooling, dropout 0.5, dense 128 with ELU, dropout 0.5.

    Args:
        in_features: C of the feature map.
        channels: widths of the 1x1 convolutions.
        dense: size of the vector.
        dropout: before and after the dense layer.
    """

    def __init__(
        self, in_features: int, channels: tuple[int, ...] = (128, 32, 16), dense: int = 128, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.out_features = dense
        self.norm = nn.BatchNorm2d(in_features)
        layers: list[nn.Module] = []
        for width_in, width_out in zip((in_features, *channels), channels, strict=False):
            layers += [nn.Conv2d(width_in, width_out, kernel_size=1), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.mask = nn.Conv2d(channels[-1], 1, kernel_size=1)
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, dense), nn.ELU(), nn.Dropout(dropout))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, dense) and the mask (B, 1, h, w), each weight in (0, 1)."""
        normed = self.norm(features)
        mask = torch.sigmoid(self.mask(smooth(self.layers(normed))))
        pooled = (mask * normed).mean(dim=(2, 3)) / mask.mean(dim=(2, 3))
        return self.dense(pooled), mask


def smooth(features: Tensor) -> Tensor:
    """2x2 mean at stride 1 of the same size: the last row and column average only values inside the map."""
    padded = F.pad(features, (0, 1, 0, 1))
    inside = F.pad(torch.ones_like(features[:1, :1]), (0, 1, 0, 1))
    return F.avg_pool2d(padded, 2, stride=1) / F.avg_pool2d(inside, 2, stride=1)
