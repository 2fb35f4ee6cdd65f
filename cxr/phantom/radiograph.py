"""One visit drawn from start to end: the patient's build, the pose of the day, the findings, the film."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr.findings import NIH14
from cxr.phantom.anatomy import draw_chest
from cxr.phantom.build import Build, draw_build, stand
from cxr.phantom.disease import Box, paint, rebuild
from cxr.phantom.film import expose
from cxr.phantom.population import Visit

# Later ones lie over earlier ones: what the lung holds first, then what surrounds it.
ORDER = (
    "Emphysema",
    "Fibrosis",
    "Edema",
    "Infiltration",
    "Pneumonia",
    "Consolidation",
    "Atelectasis",
    "Mass",
    "Nodule",
    "Pneumothorax",
    "Pleural_Thickening",
    "Effusion",
    "Hernia",
    "Cardiomegaly",
)
_BUILD, _STAND, _FILM, _PLACE, _SEVERITY = 1, 2, 3, 100, 200  # streams of random numbers


@dataclass(frozen=True)
class Radiograph:
    """A picture, `(size, size)` uint8, and for every finding shown a box around each focus, in image sides."""

    picture: NDArray[np.uint8]
    boxes: dict[str, list[Box]]


def patient_build(visit: Visit, seed: int) -> Build:
    """The build that a patient keeps over his visits (his age alone moves it a little)."""
    return draw_build(_stream(seed, visit.patient, 0, _BUILD), visit.woman, visit.age)


def render(visit: Visit, seed: int = 0, size: int = 256) -> Radiograph:
    """Draws the radiograph of a visit; same arguments, same bytes, in whatever process."""
    day = visit.followup + 1
    build, canvas = stand(patient_build(visit, seed), _stream(seed, visit.patient, day, _STAND), visit.portable, size)
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
    """From 0.25 (subtle) to 1 (plain): a patient's own degree that waxes and wanes."""
    stream = _SEVERITY + NIH14.index(finding)
    own = _stream(seed, visit.patient, 0, stream).beta(1.8, 1.6)
    return float(
        np.clip(0.25 + 0.75 * own + _stream(seed, visit.patient, visit.followup + 1, stream).normal(0, 0.1), 0.25, 1)
    )


def _stream(seed: int, patient: int, day: int, stream: int) -> np.random.Generator:
    # NumPy pads a seed's words with zeros, so every key has the same length and ends in a word that is not 0.
    return np.random.default_rng([seed, patient, day, stream])
