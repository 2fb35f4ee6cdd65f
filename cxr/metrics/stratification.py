"""Random splits of whole patients with the same share of every finding."""

from collections.abc import Sequence
from operator import truediv

import numpy as np
import pandas as pd

from cxr.errors import CxrError


def draw_patients(table: pd.DataFrame, findings: Sequence[str], share: float, seed: int) -> set[str]:
    """Draws whole patients so that `share` of the images, and of each finding's images, is drawn.

    Args:
        table: the images to draw from, with `patient` and the finding columns.
        findings: what to stratify over, see `assign_patients`.
        share: in (0, 1).
        seed: of the order among equals.

    Returns:
        The drawn patients.

    Raises:
        CxrError: there are too few patients.
    """
    side = assign_patients(table, findings, (1 - share, share), seed)
    if side.nunique() < 2:
        raise CxrError(
            f"{len(side)} training patients cannot be split with data.val_share={share}; give a data.val_list"
        )
    return set(side.index[side == 1])


def assign_patients(table: pd.DataFrame, findings: Sequence[str], shares: Sequence[float], seed: int) -> pd.Series:
    """Assigns whole patients to sides so that each side has its share of the images, and of each finding's images.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011) over patients instead of images: the finding with the fewest images left is distributed first, its patients
    in order of their images with it (ties in a seeded order), each to the side that lacks most of that finding.

    Args:
        table: the images, with `patient` and the finding columns.
        findings: what to stratify over; images without any count as one more stratum.
        shares: of the sides; they sum to one.
        seed: of the order among equals.

    Returns:
        The side of each patient, an int in [0, len(shares)), by patient.
    """
    codes, ids = pd.factorize(table["patient"].to_numpy(object), sort=True)
    labels = table[list(findings)].to_numpy(float) == 1
    strata = [*labels.T, np.ones(len(labels)), ~labels.any(axis=1)]  # findings, all images, images without a finding
    counts = np.stack([np.bincount(codes, stratum, len(ids)) for stratum in strata], axis=1)  # images by patient
    waiting = np.random.default_rng([seed, 0x5EED]).permutation(len(counts))
    left = counts.sum(axis=0)
    wanted = np.outer(shares, left)  # (sides, strata): images that a side still lacks
    side = np.full(len(counts), -1)
    everyone = len(findings)
    while len(waiting):
        rest = np.where(left == 0, np.inf, left)
        rest[everyone] = np.inf
        stratum = int(rest.argmin()) if np.isfinite(rest).any() else everyone
        numbers = counts[waiting, stratum]
        now = (numbers > 0) | (stratum == everyone)
        patients = waiting[now][np.argsort(-numbers[now], kind="stable")]
        lacks, lacks_images = wanted[:, [stratum, everyone]].T.tolist()
        lacking = list(map(truediv, lacks, shares))
        chosen = []
        for number, images in zip(counts[patients, stratum].tolist(), counts[patients, everyone].tolist(), strict=True):
            most, close = max(lacking), 1e-8 + 1e-5 * abs(lacking[-1])
            to = lacking.index(most)
            lacking[to] = -np.inf
            if most - max(lacking) <= close:  # sides lack the same share of this stratum
                lacking[to] = most
                of_images = list(map(truediv, lacks_images, shares))
                to = of_images.index(max(of_images))
            chosen.append(to)
            lacks[to] -= number
            lacks_images[to] -= images
            lacking[to] = lacks[to] / shares[to]
        side[patients], waiting = chosen, waiting[~now]
        np.subtract.at(wanted, side[patients], counts[patients])
        left -= counts[patients].sum(axis=0)
    return pd.Series(side, index=ids)
