"""The build of a patient, constant over follow-ups, and the pose at a visit."""

from dataclasses import dataclass, replace
from math import sin

import numpy as np

from cxr.phantom.canvas import Canvas, Field

SIDES = (-1, 1)  # the patient's right (left of the picture) and left


@dataclass(frozen=True)
class Build:
    """The build of a patient, lengths as fractions of the picture's size.

    Findings and the view change copies of it (a large heart, a flat diaphragm) before anything is drawn.
    """

    woman: bool
    width: float  # half width of the lungs where they are widest
    apex: float  # top of the lungs
    dome: tuple[float, float]  # top of the right and left diaphragm
    bulge: float  # height of a dome above its costophrenic angle
    flank: float  # soft tissue outside the ribs
    ratio: float  # cardiothoracic ratio
    heart_top: float
    knob: float  # radius of the aortic knob
    unfolded: float  # unfolding of the aorta, 0 to 1
    calcified: float
    rib_gap: float
    rib_width: float
    rib_drop: float
    shoulder: float  # fall of the shoulders
    bone: float  # density of bone, about 1
    clavicle: float  # rise of the clavicles
    breast: float  # 0 for men
    breast_drop: float
    bubble: float  # gas in the stomach
    lean: float  # scoliosis
    vessels: float  # prominence of the vessels
    tree: int  # seed of the vessel tree
    scapula: float = 0.0  # overlap of the scapulae with the lungs
    air: tuple[float, float] = (1.0, 1.0)  # aeration of the right and left lung

    def base(self, side: int) -> float:
        """Height of the costophrenic angle."""
        return self.dome[side > 0] + self.bulge

    def spine(self, y: float) -> float:
        """Position of the spine at height `y`."""
        return self.lean * sin(5.0 * (y - 0.2))

    def spines(self, y: Field) -> Field:
        """Position of the spine at every pixel's height."""
        return np.asarray(self.lean * np.sin(5.0 * (y - 0.2)), np.float32)

    def wall(self, side: int, height: float) -> tuple[float, float]:
        """The point of the chest wall at `height` (0 at the apex, 1 at the costophrenic angle)."""
        reach = np.interp(height, HEIGHTS, REACHES)
        return side * self.width * float(reach), self.apex + height * (self.base(side) - self.apex)


# Half width of the lungs, as a share of the widest, from the apex (0) to the costophrenic angle (1) and below.
HEIGHTS = (0.0, 0.03, 0.09, 0.2, 0.4, 0.65, 0.85, 1.0, 1.12)
REACHES = (0.42, 0.58, 0.71, 0.84, 0.945, 1.0, 1.01, 0.99, 0.95)


def draw_build(rng: np.random.Generator, woman: bool, age: float) -> Build:
    """Draws a patient's build; `age` in years at the first visit."""
    old = float(np.clip((age - 40) / 45, 0, 1))
    dome = rng.normal(0.715, 0.025)
    return Build(
        woman=woman,
        width=float(np.clip(rng.normal(0.345 if woman else 0.358, 0.017), 0.30, 0.40)),
        apex=rng.normal(0.105, 0.015),
        dome=(dome, dome + rng.uniform(0.005, 0.035)),
        bulge=rng.uniform(0.085, 0.125),
        flank=float(np.clip(rng.gamma(4, 0.016), 0.018, 0.15)),
        ratio=float(np.clip(rng.normal(0.435, 0.028) + 0.02 * old, 0.36, 0.50)),
        heart_top=rng.normal(0.37, 0.012),
        knob=float(rng.uniform(0.026, 0.034) + 0.012 * old),
        unfolded=float(np.clip(old * rng.uniform(0.2, 1.1), 0, 1)),
        calcified=float(np.clip(2 * old - 0.6, 0, 1) * rng.uniform(0, 1)),
        rib_gap=rng.normal(0.064, 0.003),
        rib_width=rng.uniform(0.016, 0.021),
        rib_drop=rng.normal(0.085, 0.015),
        shoulder=rng.uniform(0.05, 0.12),
        bone=float(rng.normal(1.08, 0.1) - 0.35 * old * rng.uniform(0.4, 1)),
        clavicle=float(np.clip(rng.normal(0.055, 0.012), 0.03, 0.075)),
        breast=rng.uniform(0.25, 1.0) if woman else 0.0,
        breast_drop=rng.uniform(-0.04, 0.06),
        bubble=float(max(0.0, rng.normal(0.5, 0.4))),
        lean=rng.normal(0, 0.006),
        vessels=rng.uniform(0.8, 1.2),
        tree=int(rng.integers(2**31)),
    )


def pose(build: Build, rng: np.random.Generator, portable: bool, size: int) -> tuple[Build, Canvas]:
    """The build at a visit, with depth of breath and pose; on a portable (AP) view magnified and supine."""
    breath = rng.normal(0, 0.010) - (0.028 if portable else 0.0)
    changed = replace(
        build,
        dome=(build.dome[0] + breath, build.dome[1] + breath + rng.normal(0, 0.004)),
        ratio=build.ratio * (1.10 if portable else 1.0) * rng.normal(1, 0.012),
        clavicle=build.clavicle * rng.normal(1, 0.15) - (0.02 if portable else 0.0),
        scapula=rng.uniform(0.5, 1.0) if portable else rng.uniform(0.0, 0.25),
        bubble=build.bubble * rng.uniform(0.5, 1.3),
        breast_drop=build.breast_drop + rng.normal(0, 0.01),
        width=build.width * rng.normal(1, 0.008),
    )
    turn = rng.normal(0, 2.4 if portable else 1.2)
    zoom = rng.normal(1.03 if portable else 1.0, 0.035)
    shift = (rng.normal(0, 0.014), rng.normal(0, 0.016))
    return changed, Canvas(size, turn, zoom, shift)
