"""A population with exactly one finding per image, long-tailed in training as in Holste et al., 2022."""

import numpy as np

from cxr.findings import NIH14, NO_FINDING
from cxr.phantom.population import PAIRS, Visit

# From the most to the least frequent: No Finding, then by the counts of the NIH release.
LONG_TAIL = (NO_FINDING, *(NIH14[k] for k in np.argsort(-np.diag(PAIRS))))
IMBALANCE = 100  # images of the first finding, per image of the last one
BALANCED = {"val": 0.1, "test": 0.2}  # shares of the images in which all findings are as frequent as each other
FIRST_PATIENT = 100_001  # above those of `draw_population`, so that weights trained on its phantoms can be used
TAIL_TEST = 0.1  # share of further test images, long-tailed as those of training


def draw_long_tail(images: int, seed: int = 0) -> list[Visit]:
    """Draws visits, one per patient, without rendering.

    Validation and most of test are `balanced`: each finding is on as many images. Training and the rest of test are
    long-tailed: from one finding to the next the number of images falls by the same factor, and by `IMBALANCE` in all.

    Args:
        images: number of radiographs; each finding needs an image in every part, so that about 15 fewer may be drawn.
        seed: same arguments, same population.
    """
    rng = np.random.default_rng([seed, 2])
    falling = IMBALANCE ** (-np.arange(len(LONG_TAIL)) / (len(LONG_TAIL) - 1))
    even = np.full(len(LONG_TAIL), 1 / len(LONG_TAIL))
    parts = [(1 - sum(BALANCED.values()) - TAIL_TEST, falling, False, False), (TAIL_TEST, falling, True, False)]
    parts += [(share, even, split == "test", True) for split, share in BALANCED.items()]
    visits: list[Visit] = []
    for share, frequency, test, balanced in parts:
        counts = np.maximum(1, np.round(share * images * frequency / frequency.sum())).astype(int)
        for finding in np.repeat(LONG_TAIL, counts):
            age, woman, portable = round(15 + 75 * rng.beta(2.2, 2.6)), rng.random() < 0.435, rng.random() < 0.4
            shown = () if finding == NO_FINDING else (str(finding),)
            visits.append(Visit(FIRST_PATIENT + len(visits), 0, age, woman, portable, shown, shown, test, balanced))
    return visits
