"""From the layers of a chest to the picture: scatter, exposure, noise, collimation, markers and devices."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.phantom.anatomy import Scene
from cxr.phantom.build import SIDES
from cxr.phantom.canvas import Canvas, Field, Points, curve


def expose(scene: Scene, rng: np.random.Generator, portable: bool) -> NDArray[np.uint8]:
    """The picture of a scene, `(size, size)` uint8: bone and tissue bright, air dark."""
    canvas = scene.canvas
    density = scene.density() + _hardware(scene, rng, portable)
    scatter = rng.uniform(0.12, 0.22) if portable else rng.uniform(0.02, 0.10)
    density = (1 - scatter) * density + scatter * canvas.blur(density, 0.06)
    gain = rng.uniform(1.35, 2.15)
    picture = 1 - np.exp(-gain * np.clip(density, 0, None))
    picture += rng.uniform(0.25, 0.55) * (picture - canvas.blur(picture, 0.045))  # the edge boost of digital detectors
    picture += 0.25 * (picture - canvas.blur(picture, 0.006))
    slope = rng.uniform(-0.05, 0.05, 2)
    picture += slope[0] * canvas.x + slope[1] * (canvas.y - 0.5)
    low, high = rng.uniform(-0.02, 0.07), rng.uniform(0.86, 1.0)
    picture = np.clip((picture - low) / (high - low), 0, 1) ** rng.uniform(0.85, 1.15)
    grain = rng.standard_normal(picture.shape).astype(np.float32)
    level = rng.uniform(0.004, 0.010) * (1.4 if portable else 1.0)
    picture += level * (0.4 + np.sqrt(np.clip(picture, 0, 1))) * (0.6 * grain + 0.9 * canvas.blur(grain, 0.004))
    picture = _collimate(canvas, rng, picture)
    _marker(canvas, rng, picture)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _collimate(canvas: Canvas, rng: np.random.Generator, picture: Field) -> Field:
    """Sometimes a dark or, after inversion, bright border of collimation on one or two sides."""
    if rng.random() > 0.3:
        return picture
    across = (np.arange(canvas.size, dtype=np.float32) + 0.5) / canvas.size
    level = 0.0 if rng.random() < 0.8 else 0.95
    for axis in rng.permutation(4)[: rng.integers(1, 3)]:
        depth = rng.uniform(0.008, 0.035)
        line = across if axis % 2 else 1 - across
        cut = np.clip((depth - line) * canvas.size, 0, 1)
        cut = cut[:, None] if axis < 2 else cut[None, :]
        picture = np.asarray(picture * (1 - cut) + level * cut, np.float32)
    return picture


def _marker(canvas: Canvas, rng: np.random.Generator, picture: Field) -> None:
    """A side marker, on most pictures."""
    chance, left, tilt = rng.random(), rng.random() < 0.7, rng.normal(0, 0.15)
    x, y = rng.uniform(0.02, 0.07), rng.uniform(0.03, 0.16)
    if chance > 0.75:
        return
    size = canvas.size
    place = (int(size * (1 - x - 0.04 if left else x)), int(size * y + size * 0.03))
    ink = np.zeros((size, size), np.uint8)
    cv2.putText(ink, "L" if left else "R", place, cv2.FONT_HERSHEY_SIMPLEX, size / 480, 255, 1, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D(place, float(np.rad2deg(tilt)), 1.0)
    turned = cv2.warpAffine(ink, turn, (size, size))
    np.maximum(picture, turned.astype(np.float32) / 255 * rng.uniform(0.8, 1.0), out=picture)


def _hardware(scene: Scene, rng: np.random.Generator, portable: bool) -> Field:
    """Tubes, catheters and leads; they depend on the view, never on a finding."""
    canvas, build = scene.canvas, scene.build
    chances = rng.random(4)
    lines: list[tuple[Points, float, float]] = []
    dots: list[tuple[float, float]] = []
    fork = build.heart_top - 0.025
    if chances[0] < (0.35 if portable else 0.02):  # endotracheal or nasogastric tube
        end = fork - 0.05 if rng.random() < 0.5 else build.dome[1] + 0.06
        way = [(0.004, -0.06), (rng.normal(0, 0.004), 0.12), (-0.006, fork - 0.07), (0.01, end)]
        lines.append((curve(way), 0.007, 0.55))
    if chances[1] < (0.4 if portable else 0.06):  # central venous catheter
        side = -1 if rng.random() < 0.7 else 1
        top = build.apex + rng.uniform(0.05, 0.1)
        way = [(side * 0.30, top - 0.01), (side * 0.16, top + 0.01), (side * 0.05, top + 0.05), (-0.038, fork - 0.02)]
        lines.append((curve([*way, (-0.042, fork + rng.uniform(0.03, 0.10))]), 0.005, 0.5))
    if chances[2] < (0.5 if portable else 0.04):  # electrocardiogram leads
        for side in SIDES:
            x, y = side * rng.uniform(0.18, 0.32), rng.uniform(0.16, 0.5)
            dots.append((x, y))
            far = (x + side * rng.uniform(0.0, 0.2), rng.uniform(0.7, 1.1))
            lines.append((curve([(x, y), (x + side * rng.normal(0.03, 0.06), y + 0.25), far]), 0.004, 0.32))
    field = 0.55 * canvas.stroke(lines, 0.001)
    for x, y in dots:
        field += 0.25 * canvas.blob(x, y, 0.010, 0.010, power=6)
    return field
