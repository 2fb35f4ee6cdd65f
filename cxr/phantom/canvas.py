"""A canvas in body coordinates, on which anatomy and findings are drawn independently of pose and picture size."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Points = NDArray[np.float64]

_SHIFT = 4  # fractional bits of the coordinates for OpenCV
_FINE = 2  # strokes are drawn at this multiple of the size, then averaged down


class Canvas:
    """Maps body coordinates to pixels and draws soft shapes there.

    Body coordinates are fractions of the picture's size: `x` is 0 at the spine and grows to the right of the picture
    (the patient's left), `y` is 0 at the top and 1 at the bottom of a picture in neutral pose.

    Args:
        size: width and height of the picture in pixels.
        turn: rotation in the image plane, degrees.
        zoom: magnification about the centre.
        shift: `(x, y)` displacement as a fraction of the size.
    """

    def __init__(
        self, size: int, turn: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.size = size
        angle = np.deg2rad(turn)
        turned = size * zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = size * (0.5 + np.array(shift)) - turned @ np.array([0.0, 0.5])
        self._matrix, self._offset = turned, offset
        rows, columns = np.mgrid[0:size, 0:size] + 0.5
        inverse = np.linalg.inv(turned)
        columns, rows = columns - offset[0], rows - offset[1]
        self.x: Field = (inverse[0, 0] * columns + inverse[0, 1] * rows).astype(np.float32)
        self.y: Field = (inverse[1, 0] * columns + inverse[1, 1] * rows).astype(np.float32)

    def empty(self) -> Field:
        """A field of zeros, `(size, size)`."""
        return np.zeros((self.size, self.size), np.float32)

    def fill(self, outline: Points, soft: float = 0.003) -> Field:
        """The mask of a closed outline, `(n, 2)` body coordinates, with an edge of width `soft`."""
        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [self._fixed(outline, 1)], 255, cv2.LINE_AA, _SHIFT)
        return self.blur(mask.astype(np.float32) / 255, soft)

    def stroke(self, lines: Iterable[tuple[Points, float, float]], soft: float = 0.0015) -> Field:
        """Open lines `(points, width, value)`, value 0 to 1; a later line covers an earlier one."""
        fine = np.zeros((self.size * _FINE, self.size * _FINE), np.uint8)
        alike = groupby(lines, lambda line: (max(1, round(line[1] * self.size * _FINE)), round(255 * line[2])))
        for (thickness, value), group in alike:
            points = [line[0] for line in group]
            ends = np.cumsum([len(line) for line in points])
            pixels = self._fixed(np.vstack(points), _FINE)
            pieces = [pixels[end - len(line) : end] for line, end in zip(points, ends, strict=True)]
            cv2.polylines(fine, pieces, False, value, thickness, cv2.LINE_AA, _SHIFT)
        return self.blur(cv2.resize(fine, None, fx=1 / _FINE, fy=1 / _FINE, interpolation=cv2.INTER_AREA) / 255.0, soft)

    def blob(self, x: float, y: float, width: float, height: float, turn: float = 0.0, power: float = 2.0) -> Field:
        """`exp(-r ** power)` of an ellipse with half axes `width` and `height`, turned by `turn` radians."""
        across, down = self.x - x, self.y - y
        cosine, sine = float(np.cos(turn)), float(np.sin(turn))
        radius = ((cosine * across + sine * down) / width) ** 2 + ((cosine * down - sine * across) / height) ** 2
        return np.exp(-(radius ** (power / 2))).astype(np.float32)

    def noise(self, rng: np.random.Generator, scale: float, octaves: int = 1) -> Field:
        """Smooth noise of mean 0 and deviation 1 whose grains have about the size `scale`.

        Each further octave adds grains of half the size and 0.6 times the height.
        """
        field = self.empty()
        for octave in range(octaves):
            coarse = max(4, round(2**octave / scale))
            grain = rng.standard_normal((coarse, coarse)).astype(np.float32)
            # each octave rotates the lattice, which would be visible otherwise
            turn = cv2.getRotationMatrix2D((coarse / 2, coarse / 2), 31.0 + 47.0 * octave, self.size / coarse / 0.70)
            turn[:, 2] += (self.size - coarse) / 2
            field += 0.6**octave * cv2.warpAffine(
                grain, turn, (self.size, self.size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)

    def blur(self, field: NDArray[Any], width: float) -> Field:
        """Gaussian blur of standard deviation `width`."""
        sigma = width * self.size
        soft: NDArray[Any] = field.astype(np.float32, copy=False)
        if sigma < 0.2:
            return soft
        coarse = max(1, int(sigma / 3))  # a wide blur of a smaller picture is the same and faster
        if coarse > 1:
            soft = cv2.resize(soft, None, fx=1 / coarse, fy=1 / coarse, interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(soft, (0, 0), sigma / coarse, borderType=cv2.BORDER_REPLICATE)
        if coarse > 1:
            soft = cv2.resize(soft, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return np.asarray(soft, np.float32)

    def _fixed(self, points: Points, scale: int) -> NDArray[np.int32]:
        pixels = (np.asarray(points, float) @ self._matrix.T + self._offset) * scale - 0.5
        return np.asarray(np.round(pixels * 2**_SHIFT), np.int32)


def curve(points: Iterable[tuple[float, float]], closed: bool = False, steps: int = 12) -> Points:
    """A smooth curve through `points` with `steps` vertices per piece."""
    knots = np.array(list(points), float)
    if closed:
        knots = np.vstack([knots[-1:], knots, knots[:2]])
    else:
        knots = np.vstack([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    windows = np.stack([knots[k : len(knots) - 3 + k] for k in range(4)])  # (4, pieces, 2)
    line = np.einsum("tk,kpc->ptc", _catmull_rom(steps), windows).reshape(-1, 2)
    return np.vstack([line, knots[-2:-1]])


@lru_cache
def _catmull_rom(steps: int) -> Points:
    """Weights of four neighbouring knots along the piece between the middle two, `(steps, 4)`."""
    t = np.linspace(0, 1, steps, endpoint=False)
    return np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1) / 2


def step(field: NDArray[Any], soft: float) -> Field:
    """A smooth step: 0 where `field` is well below 0, 1 where well above, over a width of about `soft`."""
    return np.asarray(0.5 * (1 + np.tanh(field / soft)), np.float32)
