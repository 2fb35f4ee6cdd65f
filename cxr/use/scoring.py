"""Scores radiographs with a system: from pixels to scores, calibrated scores, calls and attention maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.imaging.decode import gray, read_file, reduced
from cxr.use.system import System
from cxr.use.unusual import stretched

Floats = NDArray[np.float32]
Views = tuple[NDArray[np.uint8], ...]
UNKNOWN = (np.nan, 0.0, 0.0, 0.0, 0.0)  # age in centuries, male, female, PA, AP

Outputs = tuple[Floats, Floats | None, Floats | None]
"""Scores (N, L) of a member; maps (N, K, h, w), or None; and, for detectors, features (N, F), or None."""

Forward = Callable[[NDArray[np.uint8], Floats], Outputs]
"""A member: from images (N, 1, S, S) uint8 and attributes (N, 5) to `Outputs`."""


@dataclass(frozen=True)
class Scores:
    """The scores of N images.

    Attributes:
        score: (N, L) float32, probabilities of the system.
        calibrated: (N, L), or None without a calibration.
        calls: for each operating point (N, L): 1, 0, or NaN where it has no threshold.
        members: (M, N, L), scores of each member.
        maps: for each member its attention maps (N, K, h, w), or None.
        features: of the first member (N, F), if there are detectors.
    """

    score: Floats
    calibrated: Floats | None
    calls: dict[str, Floats]
    members: Floats
    maps: tuple[Floats | None, ...] = ()
    features: Floats | None = None


@dataclass(frozen=True)
class Model:
    """A system with its networks, which PyTorch or ONNX Runtime computes.

    Attributes:
        system: findings, rule, calibration, operating points.
        forwards: one for each member.
        digest: SHA-256 of the bundle that it was loaded from; empty for a run.
    """

    system: System
    forwards: tuple[Forward, ...]
    digest: str = ""

    def views(self, pixels: NDArray[np.uint8]) -> Views:
        """A radiograph (H, W) uint8 as each member sees it, (S, S) uint8.

        Raises:
            BadImage: it is blank.
        """
        small, shown = dict[int, NDArray[np.uint8]](), []
        for member in self.system.members:
            size = member.preprocessing.cached
            if size not in small:
                small[size] = reduced(pixels, size)
            shown.append(member.preprocessing.view(small[size]))
        return tuple(shown)

    def unusual(
        self, shape: Sequence[int], views: Views, features: Floats | None
    ) -> tuple[list[str], NDArray[np.float64] | None]:
        """Warnings of what is unusual about an image, and the values (3,) of the detectors, if there are any.

        Args:
            shape: (H, W) of the decoded image.
            views: of the image.
            features: (F,) of the image, a row of `Scores.features`.
        """
        long, detectors = stretched(*shape), self.system.detectors
        if detectors is None or features is None:
            return long, None
        values = detectors.values(views[0], features)
        return long + detectors.warnings(views[0], values), values

    def score_views(self, views: Sequence[Views], attributes: Floats | None = None) -> Scores:
        """Scores N images.

        Args:
            views: of each image, see `views`.
            attributes: (N, 5) float32: age in centuries or NaN, then 1 or 0 for male, female, PA and AP; by default
                unknown. Only systems that were trained with them use them.
        """
        known = np.tile(np.array(UNKNOWN, np.float32), (len(views), 1)) if attributes is None else attributes
        members, maps, features = [], [], []
        for position, forward in enumerate(self.forwards):
            score, attention, pooled = forward(np.stack([view[position] for view in views])[:, None], known)
            members.append(score)
            maps.append(attention)
            features.append(pooled)
        each = np.stack(members)
        score = self.system.combine(each)
        return Scores(score, self.system.calibrate(score), self.system.calls(score), each, tuple(maps), features[0])

    def score_image(self, pixels: NDArray[np.uint8], attributes: Floats | None = None) -> Scores:
        """Scores one decoded radiograph (H, W) uint8; N is 1.

        Raises:
            BadImage: it is blank.
        """
        return self.score_views([self.views(pixels)], attributes)

    def score_file(self, path: str | Path) -> dict[str, float]:
        """Scores one image file: finding to calibrated score, or to score where nothing was calibrated.

        Raises:
            BadImage: the file cannot be used.
        """
        found = self.score_image(gray(read_file(str(path))))
        shown = found.score if found.calibrated is None else found.calibrated
        return dict(zip(self.system.findings, shown[0].tolist(), strict=True))
