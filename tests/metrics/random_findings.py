"""Random targets, scores and patients, as the tests of several metrics need them; nothing of the package."""

import numpy as np

NAN = float("nan")


def findings(
    seed: int, images: int = 300, prevalence: tuple[float, ...] = (0.5, 0.1, 0.02), unknown: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets with NaN (N, L), float32 scores with many ties (N, L), and text patients (N,)."""
    rng = np.random.default_rng(seed)
    target = (rng.random((images, len(prevalence))) < prevalence).astype(np.float32)
    target[:2] = [[0.0], [1.0]]
    score = np.clip(rng.normal(0.3, 0.2, target.shape) + 0.2 * target, 0, 1).round(2).astype(np.float32)
    hidden = rng.random(target.shape) < unknown
    hidden[:2] = False
    patient = np.array([f"p{number}" for number in rng.integers(0, images // 3, images)])
    return np.where(hidden, np.float32(NAN), target), score, patient


def clustered(rng: np.random.Generator, patients: int, separation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One finding of images whose labels and scores resemble each other within a patient; about 10% positives.

    With standard normal noise, the true AUROC is Phi(separation / sqrt(2)) up to what clustering of labels adds.
    """
    patient = np.repeat(np.arange(patients), rng.geometric(1 / 3, patients))
    label = np.sqrt(0.3) * rng.normal(size=patients)[patient] + np.sqrt(0.7) * rng.normal(size=len(patient))
    noise = np.sqrt(0.3) * rng.normal(size=patients)[patient] + np.sqrt(0.7) * rng.normal(size=len(patient))
    target = (label > 1.2815515655446004).astype(np.float32)[:, None]
    score = (1 / (1 + np.exp(-(noise[:, None] + separation * target)))).astype(np.float32)
    return target, score, patient
