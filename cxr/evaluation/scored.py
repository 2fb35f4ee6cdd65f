"""What an evaluation asks of a run with scores; what needs its network is implemented in `cxr.training`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cxr.metrics.interval import Resampling
from cxr.run.ancestry import Ancestry
from cxr.run.predictions import Predictions


class Scored(ABC):
    """A run with its scores."""

    @property
    def about(self) -> dict[str, Any]:
        """Further keys of `metrics.json`."""
        return {}

    @property
    @abstractmethod
    def ancestry(self) -> Ancestry:
        """The data its weights were trained on."""

    @abstractmethod
    def predictions(self) -> tuple[dict[str, Predictions], frozenset[str]]:
        """Predictions of validation and every test split, `test` last, and the names of those computed now."""

    def own_metrics(self, predicted: Predictions, resampling: Resampling) -> dict[str, Any]:
        """Additional metrics of the run's task for a split."""
        return {}

    def localisation(self, split: str, resampling: Resampling) -> dict[str, Any] | None:
        """Metrics of attention maps against boxes; raises CxrError where the images cannot be read."""
        return None

    def draw_attention(self, split: str, predictions: Mapping[str, Predictions]) -> None:  # noqa: B027
        """Draws the attention maps of a split."""
