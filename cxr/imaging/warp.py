"""From a cached image to the network's: one copy, resize or warp."""

import cv2
import numpy as np
from numpy.typing import NDArray

_EXACT = 1e-9  # two matrices that differ less are the same map


def show(image: np.ndarray, place_of: NDArray[np.float64], shown: np.ndarray) -> None:
    """Fills `shown` (S, S) with the pixels at the mapped places of `image`: a copy, a resize or a warp.

    Places between pixels are interpolated bilinearly, and those outside reflect the image. An image of twice the size
    or more is first brought to S by area, so that no pixel is skipped.
    """
    size, cached = len(shown), len(image)
    (a, b, x), (c, d, y) = place_of[:2].tolist()
    if abs(b) < _EXACT and abs(c) < _EXACT and abs(abs(a) - d) < _EXACT:  # no turn: a copy or a resize, maybe mirrored
        left = x if a > 0 else x - d * (size - 1)
        column, row = round(left), round(y)
        if (
            abs(d - 1) < _EXACT
            and max(abs(left - column), abs(y - row)) < _EXACT
            and min(column, row) >= 0
            and max(column, row) + size <= cached
        ):
            part = image[row : row + size, column : column + size]
            shown[:] = part if a > 0 else part[:, ::-1]
            return
        if abs(d - cached / size) < _EXACT and max(abs(left - (d - 1) / 2), abs(y - (d - 1) / 2)) < _EXACT:
            _resize(image, shown)
            if a < 0:
                shown[:] = shown[:, ::-1].copy()
            return
    if cached >= 2 * size:
        smaller = np.empty_like(shown)
        _resize(image, smaller)
        ratio = size / cached
        place_of = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]]) @ place_of
        image = smaller
    cv2.warpAffine(
        image,
        place_of[:2],
        (size, size),
        dst=shown,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _resize(image: np.ndarray, shown: np.ndarray) -> None:
    size = len(shown)
    if image.shape == shown.shape:
        shown[:] = image
        return
    method = cv2.INTER_AREA if len(image) >= 2 * size else cv2.INTER_LINEAR
    cv2.resize(image, (size, size), dst=shown, interpolation=method)
