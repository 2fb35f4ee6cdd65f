"""Age, sex and view of radiographs as numbers, and their random omission in training."""

import numpy as np
import pandas as pd

from cxr.data.augment import Draws
from cxr.data.augment.draws import uniform

ATTRIBUTES = ("age", "male", "female", "pa", "ap")
_OF = np.array([0, 1, 1, 2, 2])  # the quantity of each column: age, sex or view
_STREAM = 0xA77  # number of the random stream; augmentation uses small numbers and 0x0C09


def attributes(rows: pd.DataFrame) -> np.ndarray:
    """Non-image features, (N, 5) float32, see `ATTRIBUTES`: age in centuries, then indicators; unknown is NaN or 0."""
    sex, view = rows["sex"], rows["view"].str.upper()
    columns = [rows["age"] / 100, sex == "M", sex == "F", view == "PA", view == "AP"]
    return np.stack([column.to_numpy(np.float32) for column in columns], axis=1)


def hidden(values: np.ndarray, share: float, seed: int, draws: Draws) -> np.ndarray:
    """Makes age, sex and view unknown, each in a random `share` of the images, as a function of `seed` and draws.

    Args:
        values: (B, 5) attributes.
        share: probability, in [0, 1].
        seed: of the run.
        draws: the images.
    """
    if share == 0:
        return values
    chosen = uniform(seed, draws, _STREAM, 3)[:, _OF] < share
    unknown = np.array([np.nan, 0, 0, 0, 0], np.float32)
    return np.where(chosen, unknown, values)
