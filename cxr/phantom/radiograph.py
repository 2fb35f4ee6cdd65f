"""Renders a visit: the patient's build, the pose of the day, the findings, the exposure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.findings import NIH14
from cxr.phantom.anatomy import draw_chest
from cxr.phantom.build import Build, draw_build, pose
from cxr.phantom.disease import Box, paint, rebuild
from cxr.phantom.film import expose
from cxr.phantom.population import Visit

# The order of drawing: first findings in the lung, then those around it.
ORDER = (
    "Emphysema", "Fibrosis", "Edema", "Infiltration", "Pneumonia", "Consolidation", "Atelectasis", "Mass", "Nodule",
    "Pneumothorax", "Pleural_Thickening", "Effusion", "Hernia", "Cardiomegaly",
)  # fmt: skip
_BUILD, _POSE, _FILM, _PLACE, _SEVERITY = 1, 2, 3, 100, 200  # streams of random numbers


@dataclass(frozen=True)
class Radiograph:
    """A picture, `(size, size)` uint8, and for every finding boxes around its foci, as fractions of the size."""

    picture: NDArray[np.uint8]
    boxes: dict[str, list[Box]]


def patient_build(visit: Visit, seed: int) -> Build:
    """The build of a patient, the same at all visits of the same age."""
    return draw_build(_stream(seed, visit.patient, 0, _BUILD), visit.woman, visit.age)


def render(visit: Visit, seed: int = 0, size: int = 256) -> Radiograph:
    """Draws the radiograph of a visit; the same arguments give the same bytes in every process."""
    day = visit.followup + 1
    build, canvas = pose(patient_build(visit, seed), _stream(seed, visit.patient, day, _POSE), visit.portable, size)
    findings = sorted(visit.shown, key=ORDER.index)
    grade = {finding: _severity(visit, finding, seed) for finding in findings}
    for finding in findings:
        build = rebuild(build, finding, grade[finding])
    scene = draw_chest(build, canvas)
    boxes = {}
    for finding in findings:
        place = _stream(seed, visit.patient, 0, _PLACE + NIH14.index(finding))
        boxes[finding] = paint(scene, finding, place, grade[finding])
    return Radiograph(expose(scene, _stream(seed, visit.patient, day, _FILM), visit.portable), boxes)


def _severity(visit: Visit, finding: str, seed: int) -> float:
    """From 0.25 (subtle) to 1 (obvious): a value of the patient that varies a little between visits."""
    stream = _SEVERITY + NIH14.index(finding)
    typical = 0.25 + 0.75 * _stream(seed, visit.patient, 0, stream).beta(1.8, 1.6)
    change = _stream(seed, visit.patient, visit.followup + 1, stream).normal(0, 0.1)
    return float(np.clip(typical + change, 0.25, 1))


def _stream(seed: int, patient: int, day: int, stream: int) -> np.random.Generator:
    # NumPy pads seeds with zeros; all keys have the same length and end in a number that is not 0.
    return np.random.default_rng([seed, patient, day, stream])
