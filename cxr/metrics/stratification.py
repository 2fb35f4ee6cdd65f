"""Random splits of whole patients with the same share of every finding."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.errors import CxrError


def draw_patients(table: pd.DataFrame, findings: Sequence[str], share: float, seed: int) -> set[str]:
    """Draws whole patients so that `share` of the images, and of each finding's images, is drawn.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011) over patients in place of images: the finding with the fewest images left is distributed first, its patients
    in order of their images with it (ties in a seeded order), each to the side that lacks most of that finding.

    Args:
        table: the images to draw from, with `patient` and the finding columns.
        findings: what to stratify over; images without any count as one more stratum.
        share: in (0, 1).
        seed: of the order among equals.

    Returns:
        The drawn patients.
    """
    labels = (table[list(findings)] == 1).assign(**{"": True})
    labels["none"] = ~labels[list(findings)].any(axis=1)
    grouped = labels.groupby(table["patient"].to_numpy(), sort=True).sum()
    counts = grouped.to_numpy(float)  # (patients, findings + all + none)
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(counts))
    shares = (1 - share, share)
    wanted = np.outer(shares, counts.sum(axis=0))  # (2 sides, strata): images that a side still lacks
    side = np.full(len(counts), -1)
    everyone = list(grouped.columns).index("")
    while (side < 0).any():
        left = counts[side < 0].sum(axis=0)
        left[left == 0] = np.inf
        left[everyone] = np.inf
        stratum = int(left.argmin()) if np.isfinite(left).any() else everyone
        open_ = order[(side[order] < 0) & ((counts[order, stratum] > 0) | (stratum == everyone))]
        for patient in open_[np.argsort(-counts[open_, stratum], kind="stable")]:
            for column in (stratum, everyone):  # the second decides where both sides lack the same share of the first
                stay, drawn = float(wanted[0, column]) / shares[0], float(wanted[1, column]) / shares[1]
                if abs(stay - drawn) > 1e-8 + 1e-5 * abs(drawn):
                    break
            chosen = int(drawn > stay)
            side[patient] = chosen
            wanted[chosen] -= counts[patient]
    if not (side == 1).any() or not (side == 0).any():
        raise CxrError(
            f"{len(counts)} training patients cannot be split with data.val_share={share}; give a data.val_list"
        )
    return set(grouped.index[side == 1])
