"""Findings of the pleural space: fluid, thickening, and air between lung and chest wall."""

from collections.abc import Iterator

import numpy as np

from cxr.phantom.anatomy import Scene
from cxr.phantom.brush import draw_sides, half, lateral, opacify
from cxr.phantom.canvas import curve, step


def effusion(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Fluid in the costophrenic angle with a meniscus along the wall."""
    canvas, build = scene.canvas, scene.build
    sides = draw_sides(place, 0.35)
    for number, side in enumerate(sides):
        amount = severity * (1.0 if number == 0 else place.uniform(0.35, 0.9))
        reach = lateral(scene, side)
        top = build.dome[side > 0] + 0.075 - 0.27 * amount**1.3
        climb = 0.05 + 0.06 * amount
        surface = top - climb * (0.35 * reach**2 + 0.9 * reach**7) - 0.5 * climb * np.clip(0.45 - reach, 0, 1) ** 2
        opacify(scene, 0.95 * step(canvas.y - surface, 0.009) * half(scene, side))
        yield


def pleural_thickening(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """A band along the chest wall, or a cap over the apex, with an uneven inner edge."""
    canvas, build = scene.canvas, scene.build
    for side in draw_sides(place, 0.45):
        thick = (0.025 + 0.024 * severity) * place.uniform(0.85, 1.15)
        wave, phase = place.uniform(3, 9), place.uniform(0, 6)
        if place.random() < 0.4:  # the cap is the space above the lung when it is shifted down
            rows = max(1, round(1.8 * thick * canvas.size))
            pushed = np.vstack([np.zeros_like(scene.lung[:rows]), scene.lung[:-rows]])
            near = step(build.apex + 0.11 - canvas.y + 0.012 * np.sin(3 * wave * canvas.x * side + phase), 0.02)
            band = canvas.blur((scene.lung > 0.3) * np.clip(1.2 - 2 * pushed, 0, 1), 0.003) * near * half(scene, side)
        else:
            along = np.linspace(0, 1, 12)
            walls = [build.wall(side, float(h)) for h in place.uniform(0.2, 0.45) + along * place.uniform(0.45, 0.6)]
            swell = thick * np.sin(np.pi * (0.12 + 0.83 * along)) ** 0.5 * (1 + 0.3 * np.sin(wave * along + phase))
            inner = [(x - side * depth, y) for (x, y), depth in zip(walls, swell, strict=True)]
            outer = [(x + side * 0.01, y) for x, y in walls]
            band = canvas.fill(np.vstack([curve(outer), curve(inner)[::-1]]), 0.0035)
        opacify(scene, (0.68 + 0.27 * severity) * band, 0.03)
    yield


def pneumothorax(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Air between lung and chest wall: no markings beyond the thin pleural line."""
    canvas, build = scene.canvas, scene.build
    side = draw_sides(place, 0.0)[0]
    heights = np.linspace(0.0, 1.15, 10)
    gives = (0.10 + 0.24 * severity) * np.clip(1.1 - heights * place.uniform(0.4, 0.95), 0, 1)
    fall = (0.05 + 0.12 * severity) * np.clip(1 - heights, 0, 1)
    walls = [build.wall(side, float(height)) for height in heights]
    rim = [(x * (1 - give), y + down) for (x, y), give, down in zip(walls, gives, fall, strict=True)]
    top = (side * 0.05, rim[0][1] + 0.03)
    line = curve([top, (0.55 * rim[0][0] + 0.45 * top[0], rim[0][1] + 0.004), *rim])
    kept = canvas.fill(np.vstack([line, [(side * 0.0, rim[-1][1]), (side * 0.0, top[1])]]), 0.0015)
    free = (1 - kept) * scene.open * half(scene, side)
    scene.marks *= 1 - free
    scene.air *= 1 + 0.16 * free
    scene.air *= 1 - (0.04 + 0.14 * severity) * kept * half(scene, side)
    scene.marks += 0.07 * canvas.stroke([(line, 0.004, 1.0)], 0.0012) * scene.open
    yield
