"""Tools for drawing findings: positions in a lung, and the replacement of air by something denser."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.phantom.anatomy import Scene
from cxr.phantom.canvas import Field, step


def opacify(scene: Scene, opacity: NDArray[Any], tissue: float = 0.0) -> None:
    """Replaces a share `opacity` (0 to 1) of the air by fluid, with additional density `tissue`."""
    opacity = np.asarray(np.clip(opacity, 0, 1), np.float32)
    scene.tissue += tissue * opacity * np.clip(scene.air, 0, 1)
    scene.air *= 1 - opacity
    scene.marks *= 1 - 0.6 * opacity


def draw_sides(place: np.random.Generator, both: float) -> tuple[int, ...]:
    """The right, the left or, with probability `both`, both lungs."""
    chance, first = place.random(), 1 if place.random() < 0.5 else -1
    return (first, -first) if chance < both else (first,)


def spot(scene: Scene, side: int, across: float, height: float) -> tuple[float, float]:
    """A point in a lung: `across` from mediastinum (0) to wall (1), `height` from apex (0) to dome (1)."""
    build = scene.build
    y = build.apex + height * (build.dome[side > 0] - build.apex)
    wall = abs(build.wall(side, (y - build.apex) / (build.base(side) - build.apex))[0])
    return side * (0.055 + across * (wall - 0.055)), y


def open_spot(
    scene: Scene, place: np.random.Generator, side: int, across: tuple[float, float], height: tuple[float, float]
) -> tuple[float, float]:
    """A random point of a lung that heart and diaphragm do not cover."""
    tries = [spot(scene, side, place.uniform(*across), place.uniform(*height)) for _ in range(8)]
    nearest = [np.argmin((scene.canvas.x - x) ** 2 + (scene.canvas.y - y) ** 2) for x, y in tries]
    free = [min(float(scene.open.flat[pixel]), 0.6) for pixel in nearest]
    return tries[int(np.argmax(free))]  # the first that is more than 0.6 free, else the freest


def half(scene: Scene, side: int) -> Field:
    """A mask of one side of the spine."""
    return step(side * (scene.canvas.x - scene.build.spines(scene.canvas.y)), 0.004)


def lateral(scene: Scene, side: int) -> Field:
    """Distance from the midline, in half widths of the lungs."""
    return np.asarray(np.clip(side * scene.canvas.x / scene.build.width, 0, 1.2), np.float32)
