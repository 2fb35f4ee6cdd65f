"""Identifies the split of predictions, and checks that choices are made on validation."""

from collections.abc import Sequence
from hashlib import sha256

from cxr.data.split import alike_but_zeros
from cxr.errors import CxrError, counted
from cxr.run.predictions import Predictions

# SHA-256 of the sorted names of the published test_list.txt of ChestX-ray14, joined by line feeds: 25,596 images.
NIH_TEST = "38ca5ef7f756092946f57c1a59faca882ed589a1ab1f72590b45dc06c6d5e1cc"
NOT_DISJOINT = "NOT patient-disjoint"
OWN = "own patient split"


def check_chosen_on_validation(val: Predictions, test: Predictions | None, what: str) -> None:
    """Checks that predictions used for a choice (weights, thresholds, calibration) are of validation.

    Args:
        val: predictions used for the choice.
        test: predictions that the choice will be evaluated on, if known.
        what: name of the choice in errors.

    Raises:
        CxrError: `val` was written as another split, or shares images with `test`.
    """
    if val.split not in ("", "val"):
        raise CxrError(
            f"{what} may be chosen on validation only; these predictions are of the split {val.split}, whatever the "
            "name of their file"
        )
    if test is not None:
        both = sorted(set(val.image) & set(test.image))
        if both:
            raise CxrError(
                f"{what} may be chosen on validation only, and {len(both)} of its images are test images, such as "
                f"{both[0]}; give disjoint splits"
            )


def images_sha256(images: Sequence[str]) -> str:
    """SHA-256 of image names, sorted and joined by line feeds: identifies a split independently of its source."""
    return sha256("\n".join(sorted(images)).encode()).hexdigest()


def describe_split(val: Predictions, test: Predictions) -> str:
    """Describes a split: official or own, and whether patients are shared or differ only by leading zeros."""
    shared = sorted(set(val.patient) & set(test.patient))
    if shared:
        return f"{NOT_DISJOINT}: validation and test share {counted(len(shared), 'patient')}, such as {shared[0]}"
    kind = "official NIH split" if images_sha256(list(test.image)) == NIH_TEST else OWN
    own = {*val.patient}
    alike = [pair for pair in alike_but_zeros([*own, *test.patient]) if (pair[0] in own) != (pair[1] in own)]
    if alike:
        kind += f"; patients {alike[0][0]} and {alike[0][1]} differ only by leading zeros and count as two"
    return kind
