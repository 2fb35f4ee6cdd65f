"""The appearance and position of fourteen findings in the layers of a chest.

A finding changes the build before the chest is drawn (`REBUILD`: a large heart, a flat diaphragm), or the layers
afterwards (`PAINT`), or both. Its position comes from a random generator of the patient, so that it is the same at all
follow-ups; its severity (0.25 to 1) varies between visits.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from cxr.phantom.anatomy import Scene, diaphragm
from cxr.phantom.brush import draw_sides, half, lateral, opacify, open_spot, spot
from cxr.phantom.build import SIDES, Build
from cxr.phantom.canvas import Field, Points, curve, step
from cxr.phantom.pleura import effusion, pleural_thickening, pneumothorax

Box = tuple[float, float, float, float]  # x, y, width, height, in image sides


def rebuild(build: Build, finding: str, severity: float) -> Build:
    """The build of a patient who has `finding`."""
    return REBUILD[finding](build, severity) if finding in REBUILD else build


def paint(scene: Scene, finding: str, place: np.random.Generator, severity: float) -> list[Box]:
    """Draws a finding into `scene` and returns a box around each of its foci, in image sides of the picture."""
    if finding == "Cardiomegaly":
        return [_box(scene.heart, 0.5)]
    boxes = []
    before = scene.density()
    for _ in PAINT[finding](scene, place, severity):
        after = scene.density()
        change = np.abs(after - before)
        if change.max() > 0:  # else it is outside the picture
            boxes.append(_box(change, 0.15))
        before = after
    return boxes


def _box(change: Field, level: float) -> Box:
    """The box around all pixels above the share `level` of the greatest change."""
    inside = change > level * change.max()
    columns, rows = np.flatnonzero(inside.any(0)).tolist(), np.flatnonzero(inside.any(1)).tolist()
    left, top, size = columns[0], rows[0], len(change)
    return left / size, top / size, (columns[-1] + 1 - left) / size, (rows[-1] + 1 - top) / size


def _atelectasis(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    canvas, build = scene.canvas, scene.build
    lobar = place.random() < 0.4
    for side in draw_sides(place, 0.0 if lobar else 0.35):
        lift = (0.015 + 0.04 * severity) * place.uniform(0.6, 1.2)
        raised = step(canvas.y - diaphragm(build, canvas, side) + lift, 0.004) * half(scene, side)
        opacify(scene, 0.97 * raised)
        if lobar:
            _collapsed_lobe(scene, place, side, severity)
        else:
            for plate in range(1 + int(place.integers(1, 3))):
                _plate(scene, place, side, 0.93 - 0.11 * plate - lift, severity)
            opacify(scene, 0.3 * severity * canvas.blob(*spot(scene, side, 0.45, 0.95), 0.13, 0.06))
        yield


def _collapsed_lobe(scene: Scene, place: np.random.Generator, side: int, severity: float) -> None:
    build = scene.build
    x, y = hilum = (side * 0.05, build.heart_top + 0.05)
    if place.random() < 0.5:  # the upper lobe collapses against the mediastinum and the apex
        far = spot(scene, side, 0.55 + 0.35 * severity, 0.12)
        fissure = curve([hilum, (0.55 * far[0], y - 0.06 - 0.02 / severity), far])
        outline = np.vstack([fissure, [(side * 0.16, build.apex - 0.03), (side * 0.02, build.apex)]])
    else:  # the lower lobe collapses behind the heart
        foot = spot(scene, side, 0.45 + 0.4 * severity, 1.06)
        fissure = curve([hilum, (0.5 * (x + foot[0]), 0.5 * (y + foot[1]) - 0.01), foot])
        outline = np.vstack([fissure, [(side * 0.02, foot[1] + 0.06)]])
    opacify(scene, (0.55 + 0.32 * severity) * scene.canvas.fill(outline, 0.005), 0.03)


def _plate(scene: Scene, place: np.random.Generator, side: int, height: float, severity: float) -> None:
    start = place.uniform(0.12, 0.4)
    (x1, y1), (x2, y2) = (spot(scene, side, x, height) for x in (start, start + place.uniform(0.35, 0.55)))
    tilt, bow = place.normal(0, 0.018), place.normal(0, 0.008)
    middle = (0.5 * (x1 + x2), 0.5 * (y1 + y2) + bow)
    line = curve([(x1, y1 - tilt), middle, (x2, y2 + tilt)])
    plate = scene.canvas.stroke([(line, place.uniform(0.008, 0.015), 1.0)], 0.003)
    fade = scene.canvas.blob(*middle, 0.55 * abs(x2 - x1), 0.1, power=4)
    opacify(scene, (0.45 + 0.4 * severity) * plate * fade, 0.03)


def _consolidation(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """A lobe without air up to its fissure, with air bronchograms."""
    canvas, build = scene.canvas, scene.build
    side = draw_sides(place, 0.0)[0]
    upper = place.random() < 0.5
    height = place.uniform(0.40, 0.52) if upper else place.uniform(0.50, 0.62)
    fissure = build.apex + height * (build.dome[side > 0] - build.apex)
    slope, bow = place.normal(0.0, 0.10), place.uniform(-0.03, 0.03)
    reach = lateral(scene, side)
    border = fissure + slope * (reach - 0.5) * build.width + bow * np.sin(np.pi * reach)
    past = step((border - canvas.y) if upper else (canvas.y - border), 0.005)
    centre = spot(scene, side, 0.5, height - 0.14 if upper else height + 0.18)
    whole = canvas.blob(*centre, 0.15 + 0.10 * severity, 0.12 + 0.09 * severity, power=5)
    opacity = past * whole * half(scene, side) * (0.56 + 0.30 * severity)
    hilum = (side * 0.07, build.heart_top + 0.05)
    tubes: list[tuple[Points, float, float]] = []
    for _ in range(4):
        across, down = place.uniform(0.35, 0.75), place.uniform(-0.3, -0.05) if upper else place.uniform(0.08, 0.32)
        end = spot(scene, side, across, height + down)
        middle = (0.5 * (hilum[0] + end[0]), 0.5 * (hilum[1] + end[1]) + place.normal(0, 0.012))
        tubes.append((curve([hilum, middle, end]), 0.008, 1.0))
        tubes.append((curve([middle, (0.4 * middle[0] + 0.6 * end[0], end[1] + place.normal(0, 0.05))]), 0.006, 0.8))
    opacity *= (1 - 0.30 * canvas.stroke(tubes, 0.002)) * (1 + 0.10 * canvas.noise(place, 0.06, 3))
    opacify(scene, opacity, 0.03)
    yield


def _edema(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Batwing opacities around both hila, blurred vessels, septal lines at the bases."""
    canvas, build = scene.canvas, scene.build
    cloud = canvas.noise(place, 0.07, 4)
    scene.marks[:] = canvas.blur(scene.marks, 0.0015 + 0.0025 * severity) * (1.15 + 0.4 * severity)
    wings = canvas.empty()
    lines: list[tuple[Points, float, float]] = []
    for side in SIDES:
        x, y = side * 0.15, build.heart_top + 0.10
        wings += canvas.blob(x, y, 0.095 + 0.045 * severity, 0.15 + 0.05 * severity, side * -0.2, power=3)
        for number in range(7):
            outer = spot(scene, side, 0.99, 0.74 + 0.04 * number + place.normal(0, 0.01))
            inner = (outer[0] - side * place.uniform(0.02, 0.05), outer[1] + place.normal(0, 0.005))
            lines.append((np.array([outer, inner]), 0.003, place.uniform(0.3, 0.9)))
    opacify(scene, (0.24 + 0.36 * severity) * wings * (1 + 0.16 * cloud) + 0.10 * severity * scene.open)
    scene.marks += (0.03 + 0.07 * severity) * canvas.stroke(lines, 0.001) * scene.open
    yield


def _emphysema_build(build: Build, severity: float) -> Build:
    low = 0.035 + 0.04 * severity
    return replace(
        build,
        dome=(build.dome[0] + low, build.dome[1] + low),
        bulge=build.bulge * (0.75 - 0.40 * severity),
        ratio=build.ratio * (0.92 - 0.12 * severity),
        width=build.width * (1.02 + 0.02 * severity),
        rib_gap=build.rib_gap * 1.06,
        vessels=build.vessels * (0.85 - 0.3 * severity),
        air=(1.06 + 0.09 * severity,) * 2,
    )


def _emphysema(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    canvas = scene.canvas
    for _ in range(int(place.integers(1, 4))):
        side = draw_sides(place, 0.0)[0]
        x, y = open_spot(scene, place, side, (0.4, 0.85), (0.1, 0.6))
        wide, tall = place.uniform(0.035, 0.07), place.uniform(0.04, 0.08)
        hollow = canvas.blob(x, y, wide, tall, power=5) * scene.open
        turn = np.linspace(0, 2 * np.pi, 40)
        ring = np.stack([x + 0.95 * wide * np.cos(turn), y + 0.95 * tall * np.sin(turn)], 1)
        scene.marks *= 1 - hollow
        scene.air += 0.09 * hollow
        scene.marks += 0.035 * (0.5 + 0.5 * severity) * canvas.stroke([(ring, 0.004, 1.0)], 0.001) * scene.open
    yield


def _fibrosis_build(build: Build, severity: float) -> Build:
    rise = 0.010 + 0.025 * severity
    return replace(build, dome=(build.dome[0] - rise, build.dome[1] - rise))


def _fibrosis(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """A net of fine lines, densest at the periphery of the bases."""
    canvas, build = scene.canvas, scene.build
    net = 0.7 * np.exp(-((canvas.noise(place, 0.023) / 0.25) ** 2))
    net = net + 0.8 * np.exp(-((canvas.noise(place, 0.014) / 0.3) ** 2))
    net = canvas.blur(net, 0.0015) * np.clip(1 + 0.4 * canvas.noise(place, 0.1), 0.2, 2)
    rim = np.maximum(lateral(scene, -1), lateral(scene, 1))
    height = (canvas.y - build.apex) / (min(build.dome) - build.apex)
    basal = step(height - 0.55 + 0.25 * (rim - 0.6), 0.22)
    weight = np.clip(0.15 + 0.85 * basal * np.clip(0.35 + 0.8 * rim, 0, 1), 0, 1)
    opacify(scene, weight * (0.12 + (0.20 + 0.24 * severity) * net))
    yield


def _hernia(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Stomach behind the heart: a round shadow above the diaphragm with an air-fluid level."""
    canvas, build = scene.canvas, scene.build
    side = 1 if place.random() < 0.75 else -1
    radius = (0.072 + 0.045 * severity) * place.uniform(0.9, 1.1)
    x, y = side * place.uniform(0.02, 0.09), max(build.dome) - 0.45 * radius - place.uniform(0.01, 0.04)
    sack = step(1 - ((canvas.x - x) / (1.15 * radius)) ** 2 - ((canvas.y - y) / radius) ** 2, 0.11)
    gas = step(1 - ((canvas.x - x) / (1.0 * radius)) ** 2 - ((canvas.y - y) / (0.85 * radius)) ** 2, 0.18)
    level = y + place.uniform(-0.15, 0.2) * radius
    gas *= step(level - canvas.y, 0.005)
    scene.air *= 1 - 0.92 * sack
    scene.marks *= 1 - sack
    scene.tissue += 0.10 * sack - (0.33 + 0.10 * severity) * gas
    yield


def _infiltration(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Ill-defined haze in a few patches, often on both sides."""
    canvas = scene.canvas
    grain = canvas.noise(place, 0.08, 4)
    streaks = np.abs(canvas.noise(place, 0.025, 2))
    for side in draw_sides(place, 0.6):
        patches = canvas.empty()
        for _ in range(int(place.integers(2, 4))):
            x, y = open_spot(scene, place, side, (0.25, 0.8), (0.25, 0.85))
            patches += canvas.blob(x, y, place.uniform(0.05, 0.09), place.uniform(0.05, 0.09), place.uniform(0, 3))
        texture = np.clip(1 + 0.28 * grain + 0.25 * (streaks - 0.8), 0.2, 2)
        opacify(scene, (0.30 + 0.26 * severity) * (np.clip(patches, 0, 1.2) * half(scene, side) * texture))
        yield


def _mass(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """A round, slightly lobed shadow of more than 3 cm."""
    side = draw_sides(place, 0.0)[0]
    x, y = open_spot(scene, place, side, (0.3, 0.8), (0.18, 0.85))
    _round(scene, place, x, y, 0.045 + 0.035 * severity, 0.10, 0.58 + 0.32 * severity)
    yield


def _nodule(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """One to three round shadows of less than 3 cm."""
    for _ in range(int(place.integers(1, 4))):
        side = draw_sides(place, 0.0)[0]
        x, y = open_spot(scene, place, side, (0.3, 0.88), (0.15, 0.9))
        _round(scene, place, x, y, place.uniform(0.020, 0.027) + 0.012 * severity, 0.05, 0.62 + 0.30 * severity)
        yield


def _round(
    scene: Scene, place: np.random.Generator, x: float, y: float, radius: float, lobes: float, opacity: float
) -> None:
    canvas = scene.canvas
    angle = np.arctan2(canvas.y - y, canvas.x - x)
    edge = 1 + lobes * sum(np.sin(k * angle + place.uniform(0, 6.3)) * place.normal(0, 1) / k for k in (2, 3, 5))
    distance = np.hypot(canvas.x - x, canvas.y - y) / (radius * edge)
    opacify(scene, opacity * step(1 - distance, 0.20) * np.clip(1.1 - 0.35 * distance**2, 0, 1), 0.03)


def _pneumonia(scene: Scene, place: np.random.Generator, severity: float) -> Iterator[None]:
    """Patchy, blurred airspace opacities within one segment, a fan from the hilum."""
    canvas = scene.canvas
    side = draw_sides(place, 0.0)[0]
    x, y = open_spot(scene, place, side, (0.45, 0.6), (0.35, 0.88))
    hilum = (side * 0.08, scene.build.heart_top + 0.05)
    turn = float(np.arctan2(y - hilum[1], x - hilum[0]))
    fan = canvas.blob(x, y, 0.105 + 0.03 * severity, 0.065 + 0.03 * severity, turn, power=3)
    buds = step(canvas.noise(place, 0.045, 3) + 0.3, 0.9)
    opacify(scene, (0.52 + 0.33 * severity) * canvas.blur(fan * (0.35 + 0.7 * buds), 0.004) * half(scene, side))
    yield


def _cardiomegaly_build(build: Build, severity: float) -> Build:
    return replace(build, ratio=max(build.ratio * 1.12, 0.545 + 0.11 * severity), vessels=build.vessels * 1.1)


REBUILD: dict[str, Callable[[Build, float], Build]] = {
    "Cardiomegaly": _cardiomegaly_build, "Emphysema": _emphysema_build, "Fibrosis": _fibrosis_build,
}  # fmt: skip
PAINT: dict[str, Callable[[Scene, np.random.Generator, float], Iterator[None]]] = {
    "Atelectasis": _atelectasis, "Consolidation": _consolidation, "Edema": _edema, "Effusion": effusion,
    "Emphysema": _emphysema, "Fibrosis": _fibrosis, "Hernia": _hernia, "Infiltration": _infiltration, "Mass": _mass,
    "Nodule": _nodule, "Pleural_Thickening": pleural_thickening, "Pneumonia": _pneumonia, "Pneumothorax": pneumothorax,
}  # fmt: skip
