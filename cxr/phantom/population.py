"""The population: patients, follow-ups, labels and the split into two lists.

The visits of a patient are a Markov chain. At each visit a present finding persists with probability `PERSISTENCE`.
Then, with a probability of the patient (the frailty), a new illness starts: a first finding, drawn by its share of all
labels, and further ones by their co-occurrence with the first in the published table. Findings that remain too rare to
learn or to evaluate are given to more patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.findings import NIH14
from cxr.metrics.stratification import draw_patients

# Images of each finding (diagonal) and pair of findings among the 112,120 of the NIH ChestX-ray14 release (Wang et al.,
# "ChestX-ray8", CVPR 2017; Data_Entry_2017_v2020.csv). Order: findings.NIH14.
# fmt: off
PAIRS = np.array([
    [11559,  370, 1223,  221,  3275,  424,  220,  40,  3264,  739,  590,  496,  262,  774],
    [  370, 2776,  169,  127,  1063,   44,   52,   7,   587,  102,  108,  111,   41,   49],
    [ 1223,  169, 4667,  162,  1287,  103,   79,   4,  1221,  610,  428,  251,  123,  223],
    [  221,  127,  162, 2303,   593,   30,    9,   3,   981,  129,  131,   64,  340,   33],
    [ 3275, 1063, 1287,  593, 13317,  359,  188,  21,  4000, 1254,  912,  849,  269,  996],
    [  424,   44,  103,   30,   359, 2516,   36,   4,   449,  215,  115,  151,   23,  747],
    [  220,   52,   79,    9,   188,   36, 1686,   8,   345,  117,  166,  176,   11,   80],
    [   40,    7,    4,    3,    21,    4,    8, 227,    33,   25,   10,    8,    3,    9],
    [ 3264,  587, 1221,  981,  4000,  449,  345,  33, 19894, 1159, 1546,  750,  605,  946],
    [  739,  102,  610,  129,  1254,  215,  117,  25,  1159, 5782,  906,  452,   71,  431],
    [  590,  108,  428,  131,   912,  115,  166,  10,  1546,  906, 6331,  411,   70,  341],
    [  496,  111,  251,   64,   849,  151,  176,   8,   750,  452,  411, 3385,   48,  289],
    [  262,   41,  123,  340,   269,   23,   11,   3,   605,   71,   70,   48, 1431,   41],
    [  774,   49,  223,   33,   996,  747,   80,   9,   946,  431,  341,  289,   41, 5302],
])
# fmt: on
FLOOR = 0.06  # minimum share of images with a finding
PATIENTS = 28  # minimum number of patients with a finding, per 1,200 images
TEST = 0.25  # share of the test list
PERSISTENCE = dict.fromkeys(NIH14, 0.55) | {
    "Cardiomegaly": 0.8, "Edema": 0.4, "Emphysema": 0.85, "Fibrosis": 0.85, "Hernia": 0.85, "Mass": 0.75,
    "Nodule": 0.7, "Pleural_Thickening": 0.75, "Pneumonia": 0.4,
}  # fmt: skip
# Shift of the log odds of an AP view, from the shares of AP views among the published images of each finding.
PORTABLE = {
    "Consolidation": 0.6, "Edema": 1.0, "Fibrosis": -0.8, "Hernia": -0.8, "Infiltration": 0.3, "Pneumonia": 0.4,
}  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """One radiograph: patient, follow-up, findings drawn (`shown`) and findings in the table (`written`)."""

    patient: int  # from 1
    followup: int  # from 0
    age: int
    woman: bool
    portable: bool  # AP view
    shown: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    test: bool = False
    balanced: bool = False  # in a part of a split in which all findings are as frequent as each other

    @property
    def image(self) -> str:
        """File name as in the release."""
        return f"{self.patient:08d}_{self.followup:03d}.png"


def draw_population(images: int, seed: int = 0, label_noise: float = 0.0) -> list[Visit]:
    """Draws all visits in order of patient and follow-up, without rendering.

    Args:
        images: number of radiographs.
        seed: same arguments, same population.
        label_noise: probability that a finding that is drawn is missing in the table. A finding that is not drawn is
            written with this probability times the odds of the finding, so that its prevalence is about the same.
    """
    rng = np.random.default_rng([seed, 0])
    visits: list[Visit] = []
    while len(visits) < images:
        last = visits[-1].patient if visits else 0
        visits += _patient(rng, last + 1, min(images - len(visits), max(3, images // 50)))
    shown = _top_up(rng, np.array([visit.patient for visit in visits]), _labels([visit.shown for visit in visits]))
    written = _flip(np.random.default_rng([seed, 1]), shown, label_noise)
    views = _views(rng, visits, shown)
    test = _test_images(visits, written, seed)
    return [
        replace(visit, shown=_names(shown[i]), written=_names(written[i]), portable=bool(views[i]), test=bool(test[i]))
        for i, visit in enumerate(visits)
    ]


def _test_images(visits: Sequence[Visit], written: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Marks test images, `(N,)`: of up to eight draws of patients, the first with every finding in both lists."""
    table = pd.DataFrame(written, columns=list(NIH14)).assign(patient=[str(visit.patient) for visit in visits])
    if table["patient"].nunique() < 2:
        return np.zeros(len(visits), bool)
    draws = (draw_patients(table, NIH14, TEST, 8 * seed + draw) for draw in range(8))
    marked = [table["patient"].isin(patients).to_numpy() for patients in draws]
    return next((m for m in marked if (written[m].any(0) & written[~m].any(0)).all()), marked[0])


def _patient(rng: np.random.Generator, number: int, most: int) -> list[Visit]:
    """The visits of a patient: mostly one, 3.6 on average, with a long tail, as in the release."""
    shares = np.maximum(np.diag(PAIRS) / np.diag(PAIRS).sum(), 0.045)
    count = 1 if rng.random() < 0.5 else 1 + int(np.ceil(rng.lognormal(1.25, 0.95)))
    woman = bool(rng.random() < 0.435)
    age = round(15 + 75 * rng.beta(2.2, 2.6))
    frailty = 0.0 if rng.random() < 0.08 else rng.beta(1.8, 1.6)
    stays = np.array([PERSISTENCE[name] for name in NIH14])
    present = np.zeros(len(NIH14), bool)
    visits = []
    for followup in range(min(count, most)):
        present &= rng.random(len(NIH14)) < stays
        if rng.random() < (1.25 if followup == 0 else 0.6) * frailty:
            first = int(rng.choice(len(NIH14), p=shares / shares.sum()))
            cooccurrence = PAIRS[first] / PAIRS[first, first]
            present |= rng.random(len(NIH14)) < np.where(np.arange(len(NIH14)) == first, 1.0, 0.8 * cooccurrence)
        if followup and rng.random() < 0.3:
            age = min(age + 1, 95)
        visits.append(Visit(number, followup, age, woman, False, _names(present)))
    return visits


def _top_up(rng: np.random.Generator, patients: NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Gives each finding below its minimum to further patients, those with some but few findings first."""
    labels = labels.copy()
    everyone = np.unique(patients)
    least_images = max(2, round(FLOOR * len(patients)))
    least_patients = min(max(3, round(PATIENTS * len(patients) / 1200)), len(everyone))
    for column in range(labels.shape[1]):
        order = rng.permutation(everyone)
        burden = np.array([labels[patients == patient].sum(1).mean() for patient in order])
        for patient in order[np.argsort(np.where(burden == 0, 1.5, burden), kind="stable")]:
            own = patients == patient
            has = np.unique(patients[labels[:, column]])
            if labels[:, column].sum() >= least_images and len(has) >= least_patients:
                break
            if patient in has or own.sum() > 6:
                continue
            sick = own & labels.any(1)
            labels[sick if sick.any() else own, column] = True
    return labels


def _flip(rng: np.random.Generator, shown: NDArray[np.bool_], noise: float) -> NDArray[np.bool_]:
    share = shown.mean(0).clip(0, 0.5)
    chance = np.where(shown, noise, noise * share / (1 - share))
    return shown ^ (rng.random(shown.shape) < chance)


def _views(rng: np.random.Generator, visits: Sequence[Visit], shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each view is AP; it depends on the patient and, weakly, on the findings."""
    shift = np.array([PORTABLE.get(name, 0.0) for name in NIH14])
    tendency: dict[int, float] = {}
    views = []
    for visit, row in zip(visits, shown, strict=True):
        logit = tendency.setdefault(visit.patient, rng.normal(-0.65, 1.3)) + float(row @ shift)
        views.append(rng.random() < 1 / (1 + np.exp(-logit)))
    return np.array(views)


def _labels(names: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    return np.array([[finding in row for finding in NIH14] for row in names])


def _names(row: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(finding for finding, has in zip(NIH14, row, strict=True) if has)
