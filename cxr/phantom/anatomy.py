"""The normal chest: the layers of a radiograph, drawn from a patient's build."""

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from cxr.phantom.build import HEIGHTS, SIDES, Build
from cxr.phantom.canvas import Canvas, Field, Points, curve, step

AIR = 0.50  # density that a full depth of lung subtracts


@dataclass
class Scene:
    """The layers of one radiograph, `(size, size)` float32 each; findings change them in place.

    Attributes:
        build: of the patient.
        canvas: on which the layers are drawn.
        tissue: attenuation outside the lungs, bone included.
        air: aerated depth of lung, at most about 1.
        marks: attenuation inside the lungs: vessels and lines.
        lung: mask of the whole lung field.
        open: mask of the lung field that heart and mediastinum do not cover.
        heart: mask of the heart above the diaphragm.
    """

    build: Build
    canvas: Canvas
    tissue: Field
    air: Field
    marks: Field
    lung: Field
    open: Field
    heart: Field

    def density(self) -> Field:
        """What the detector records: tissue minus air plus marks."""
        return self.tissue - AIR * self.air + self.marks


def draw_chest(build: Build, canvas: Canvas) -> Scene:
    """Draws the layers of a chest without findings, except those that change `build`."""
    lung = sum((_lung(build, canvas, side) for side in SIDES), canvas.empty())
    heart, middle = _heart(build, canvas), _mediastinum(build, canvas)
    clear = (1 - 0.86 * heart) * (1 - 0.97 * middle)
    air = lung * clear
    for side in SIDES:
        air *= np.where(canvas.x * side > 0, build.air[side > 0], 1.0)
    tissue = _body(build, canvas) + 0.13 * heart * (0.4 + 0.6 * canvas.blur(heart, 0.03)) + 0.05 * middle
    tissue += _bones(build, canvas, lung) + _airways(build, canvas) + _soft_shadows(build, canvas)
    marks = _vessels(build, canvas) * lung * np.clip(clear + 0.12, 0, 1)
    above = heart * step(build.dome[1] + 0.02 - canvas.y, 0.01)
    return Scene(build, canvas, tissue.astype(np.float32), air, marks, lung, lung * clear, above)


def diaphragm(build: Build, canvas: Canvas, side: int) -> Field:
    """Height of the diaphragm in every pixel's column, body coordinates."""
    reach = side * (canvas.x - build.spines(canvas.y)) / build.width
    lateral, medial = np.clip((reach - 0.48) / 0.5, 0, 1.3), np.clip((0.48 - reach) / 0.48, 0, 1.3)
    rise = build.bulge * (0.45 * lateral**2 + 0.55 * lateral**4) + 0.045 * medial**1.7
    return np.asarray(build.dome[side > 0] + rise, np.float32)


def _lung(build: Build, canvas: Canvas, side: int) -> Field:
    outer = [build.wall(side, height) for height in HEIGHTS]
    bottom = outer[-1][1]
    apex = (side * 0.22 * build.width, build.apex + 0.012)
    inner = [(side * 0.01, bottom), (side * 0.01, 0.45), (side * 0.02, 0.25), apex]
    cage = canvas.fill(np.vstack([curve(outer), np.array(inner)]) + np.array([build.lean, 0.0]), 0.004)
    edge = canvas.blur(cage, 0.02)
    depth = cage * np.clip(0.25 + 0.95 * (2 * edge - 1), 0.2, 1)  # the lung is thin at its rim
    below = diaphragm(build, canvas, side) - canvas.y
    recess = 0.10 * step(below + 0.05, 0.03) * step(-below, 0.004)  # lung behind the dome
    depth = depth * (step(below, 0.004) + recess)
    upper = 0.86 + 0.14 * step(canvas.y - build.apex - 0.12, 0.08)
    return np.asarray(depth * upper, np.float32)


def _heart(build: Build, canvas: Canvas) -> Field:
    whole = 2 * build.width * build.ratio
    right, left = 0.34 * whole, 0.66 * whole
    top, floor = build.heart_top, build.dome[1] + 0.015
    tall = floor - top
    outline = [
        (-0.035, top), (-0.72 * right, top + 0.38 * tall), (-right, top + 0.66 * tall),
        (-0.86 * right, top + 0.93 * tall), (-0.2 * right, floor + 0.05), (0.55 * left, floor + 0.06),
        (0.95 * left, floor + 0.015), (left, top + 0.88 * tall), (0.86 * left, top + 0.68 * tall),
        (0.58 * left, top + 0.40 * tall), (0.060, top + 0.13 * tall), (0.040, top - 0.01),
    ]  # fmt: skip
    return canvas.fill(curve(outline, closed=True), 0.006)


def _mediastinum(build: Build, canvas: Canvas) -> Field:
    knob, arch = build.knob, build.heart_top - 0.085
    spread = 0.018 * build.unfolded
    outline = [
        (-0.052, -0.05), (-0.050, build.apex + 0.03), (-0.043 - spread * 0.7, arch - 0.02),
        (-0.048 - spread, build.heart_top), (-0.05, build.heart_top + 0.25), (-0.04, build.dome[0] + 0.2),
        (0.045, build.dome[1] + 0.2), (0.045 + 0.6 * spread, build.heart_top + 0.25),
        (0.066 + 0.4 * spread, build.heart_top + 0.03), (0.050 + 0.5 * spread, arch + knob + 0.022),
        (0.034 + knob, arch), (0.036 + 0.4 * knob, arch - knob - 0.008), (0.046, build.apex + 0.03), (0.052, -0.05),
    ]  # fmt: skip
    outline = [(x + build.spine(y), y) for x, y in outline]
    return canvas.fill(curve(outline, closed=True), 0.004)


def _body(build: Build, canvas: Canvas) -> Field:
    """Thickness of soft tissue: neck, shoulders, trunk and arms, thin towards the skin."""
    wide = build.width + build.flank
    slope = build.shoulder
    trunk = [(-0.085, -0.08), (-0.095, 0.0), (-0.13, 0.045), (-0.26, 0.045 + 0.25 * slope)]
    trunk += [
        (-0.40, 0.05 + 0.65 * slope),
        (-0.50, 0.06 + 1.25 * slope),
        (-0.52, 0.28),
        (-wide - 0.02, 0.38),
        (-wide, 0.50),
    ]
    breast = 0.012 + 0.045 * build.breast if build.woman else 0.0
    low = build.dome[0] + build.breast_drop
    trunk += [(-wide - 0.45 * breast, low - 0.13), (-wide - breast, low - 0.05), (-wide - 0.3 * breast, low + 0.05)]
    trunk += [(-wide - 0.35 * build.flank, 0.92), (-wide - 0.9 * build.flank, 1.15)]
    outline = np.vstack([curve(trunk), curve([(-x, y) for x, y in trunk[::-1]])])
    mask = canvas.fill(outline, 0.006)
    arms = [curve([(side * 0.455, 0.12 + slope), (side * 0.52, 0.33), (side * 0.60, 0.6)]) for side in SIDES]
    mask = np.maximum(mask, canvas.stroke([(arm, 0.115, 1.0) for arm in arms], 0.006))
    rim = np.clip(2 * canvas.blur(mask, 0.035) - 1, 0, 1) * mask
    texture = canvas.noise(np.random.default_rng(build.tree + 1), 0.12, 4)
    thick = mask * (0.38 + 0.62 * rim) * (1 + 0.018 * texture)
    belly, chest = step(canvas.y - build.dome[0] - 0.06, 0.14), step(canvas.y - 0.42, 0.2)
    depth = 0.63 + build.flank + 0.26 * belly + 0.05 * chest - 0.10 * step(0.13 - canvas.y, 0.05)
    return np.asarray(thick * depth, np.float32)


def _bones(build: Build, canvas: Canvas, lung: Field) -> Field:
    thin = build.rib_width
    behind: list[tuple[Points, float, float]] = []
    before: list[tuple[Points, float, float]] = []
    for side in SIDES:
        for number in range(11):
            start = build.apex + 0.018 + build.rib_gap * (number - 0.3)
            drop = build.rib_drop * (0.55 + 0.75 * min(number, 6) / 6)
            reach = (start + drop - build.apex) / (build.base(side) - build.apex)
            out = build.wall(side, max(0.04, reach))[0] * 1.015
            back = [(0.03 * side, start + 0.012), (0.28 * out, start - 0.008), (0.62 * out, start + 0.10 * drop)]
            back += [(0.88 * out, start + 0.5 * drop), (out, start + drop)]
            line = curve([(x + build.spine(y), y) for x, y in back])
            behind += [(line, thin, 1.0), (line, thin * 0.55, 0.62)]
            if number < 8:
                fall = 0.075 + 0.012 * min(number, 5)
                front = [(out, start + drop), (0.93 * out, start + drop + 0.45 * fall)]
                front += [(0.72 * out, start + drop + 0.85 * fall), (0.42 * out, start + drop + 1.05 * fall)]
                line = curve(front)
                before += [(line, thin * 1.05, 0.8), (line, thin * 0.6, 0.52)]
    bones = 0.088 * canvas.stroke(behind, 0.0025) + 0.055 * canvas.stroke(before, 0.0035)
    bones *= 0.25 + 0.75 * np.clip(2 * canvas.blur(lung, 0.02), 0, 1)
    bones += _spine(build, canvas) + _shoulders(build, canvas)
    return np.asarray(bones * build.bone, np.float32)


def _shoulders(build: Build, canvas: Canvas) -> Field:
    """Clavicles, upper arms and scapulae."""
    clavicles: list[tuple[Points, float, float]] = []
    arms = canvas.empty()
    for side in SIDES:
        low = build.apex + 0.09
        rise = build.clavicle
        points = [(0.030, low), (0.10, low - 0.22 * rise), (0.19, low - 0.75 * rise), (0.29, low - 1.1 * rise)]
        points += [(0.38, low - 1.05 * rise)]
        line = curve([(side * x, y) for x, y in points])
        clavicles += [(line, 0.023, 1.0), (line, 0.013, 0.66)]
        arms += 0.14 * canvas.blob(side * 0.445, build.apex + 0.02 + build.shoulder, 0.052, 0.052, power=6)
        shaft = curve([(side * 0.455, build.apex + 0.05 + build.shoulder), (side * 0.52, 0.33), (side * 0.55, 0.5)])
        arms += 0.13 * canvas.stroke([(shaft, 0.045, 1.0), (shaft, 0.025, 0.7)], 0.003)
        shove = 0.085 * build.scapula
        edge = build.wall(side, 0.2)[0] * side + 0.045 - shove
        blade = [(edge + 0.085, 0.15), (edge + 0.015, 0.20), (edge + 0.012, 0.34), (edge + 0.035, 0.42)]
        blade += [(edge + 0.075, 0.33), (edge + 0.13, 0.19)]
        outline = curve([(side * x, y + build.apex - 0.10) for x, y in blade], closed=True)
        rim = canvas.stroke([(np.asarray(outline), 0.005, 1.0)], 0.002)
        arms += 0.045 * canvas.fill(outline, 0.003) + 0.05 * rim
    return np.asarray(0.12 * canvas.stroke(clavicles, 0.002) * step(0.35 - np.abs(canvas.x), 0.03) + arms, np.float32)


def _spine(build: Build, canvas: Canvas) -> Field:
    gap = 0.058
    across = (canvas.x - build.spines(canvas.y)) / 0.036
    phase = (canvas.y - build.apex) / gap
    ripple = np.cos(2 * np.pi * phase)
    column = np.exp(-((across / (1.0 - 0.06 * ripple)) ** 8))
    bodies = 0.085 + 0.028 * ripple
    pedicles = np.exp(-(((np.abs(across) - 0.62) / 0.2) ** 2) - ((phase - np.round(phase)) / 0.2) ** 2)
    process = np.exp(-((across / 0.13) ** 2) - ((phase - np.floor(phase) - 0.5) / 0.28) ** 2)
    return np.asarray(column * (bodies + 0.03 * pedicles + 0.03 * process), np.float32)


def _airways(build: Build, canvas: Canvas) -> Field:
    """Trachea and main bronchi: air, hence negative."""
    fork = build.heart_top - 0.025
    bend = (-0.010 - 0.008 * build.unfolded, fork - 0.07)
    down = curve([(0.0, -0.05), (-0.002, build.apex + 0.05), bend, (-0.004, fork)])
    right = curve([(-0.004, fork), (-0.03, fork + 0.035), (-0.05, fork + 0.075)])
    left = curve([(-0.004, fork), (0.035, fork + 0.03), (0.065, fork + 0.05)])
    tube = canvas.stroke([(down, 0.030, 1.0), (right, 0.020, 0.6), (left, 0.018, 0.6)], 0.004)
    return -0.13 * tube


def _soft_shadows(build: Build, canvas: Canvas) -> Field:
    """Breasts, stomach bubble and a calcified arch."""
    shadow = canvas.empty()
    for side in SIDES if build.woman else ():
        size = 0.085 + 0.045 * build.breast
        x, y = side * 0.66 * build.width, build.dome[0] - 0.085 + build.breast_drop
        oval = canvas.blob(x, y, size * 1.15, size, side * 0.3, power=8)
        oval *= 0.12 + 0.88 * step(canvas.y - y + 0.35 * size, 0.09)
        shadow += (0.09 + 0.15 * build.breast) * canvas.blur(oval, 0.003)
    y = build.dome[1] + 0.05
    gas = canvas.blob(0.15, y, 0.065, 0.028 + 0.012 * build.bubble, -0.15, power=4)
    shadow -= 0.30 * min(1.0, build.bubble) * gas * step(canvas.y - diaphragm(build, canvas, 1) - 0.012, 0.005)
    if build.calcified > 0.1:
        turn = np.linspace(-1.9, 0.9, 24)
        arch = build.heart_top - 0.085
        rim = np.stack([0.034 + (build.knob - 0.004) * np.cos(turn), arch + build.knob * np.sin(turn)], 1)
        shadow += 0.12 * build.calcified * canvas.stroke([(rim, 0.005, 1.0)], 0.0015)
    return shadow


def _vessels(build: Build, canvas: Canvas) -> Field:
    """Hila, and vessels that branch and taper towards the periphery."""
    rng = np.random.default_rng(build.tree)
    lines: list[tuple[Points, float, float]] = []

    def grow(x: float, y: float, angle: float, width: float, length: float) -> None:
        bend = rng.normal(0, 0.25)
        middle = (x + 0.5 * length * cos(angle), y + 0.5 * length * sin(angle))
        end = (middle[0] + 0.5 * length * cos(angle + bend), middle[1] + 0.5 * length * sin(angle + bend))
        lines.append((np.array([(x, y), middle, end]), width, round(20 * min(1.0, 0.25 + 55 * width)) / 20))
        if width < 0.0025:
            return
        for fork in (-1, 1):
            turn = angle + bend + fork * rng.uniform(0.15, 0.55)
            grow(*end, turn, width * rng.uniform(0.60, 0.78), length * rng.uniform(0.68, 0.92))

    hilum = build.heart_top + 0.045
    shadow = canvas.empty()
    for side in SIDES:
        x, y = side * (0.075 if side < 0 else 0.085), hilum - 0.02 * (side > 0)
        for angle in (-1.25, -0.75, -0.25, 0.25, 0.65, 1.0, 1.35):
            angle += rng.normal(0, 0.1)
            start = (x - side * 0.015, y + 0.035 * angle)
            grow(*start, angle if side > 0 else np.pi - angle, rng.uniform(0.0085, 0.0115), rng.uniform(0.075, 0.10))
        shadow += canvas.blob(x, y, 0.028, 0.055, side * -0.25)
    lines.sort(key=lambda line: line[1])
    tree = canvas.stroke(lines, 0.0012)
    texture = canvas.noise(rng, 0.03, 3)
    return np.asarray(build.vessels * (0.070 * tree + 0.075 * shadow) + 0.008 * texture, np.float32)
