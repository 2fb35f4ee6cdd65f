"""The leak guard of ensembles: no member may have learnt from patients that another one is judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cxr.errors import CxrError
from cxr.run.predictions import Predictions

# What decides which patients a run was trained on, where nothing but its configuration is left.
SPLIT_OPTIONS = ("train_list", "val_list", "test_list", "val_share", "split_seed")
_SHOWN = 3  # patients named in a message


@dataclass(frozen=True)
class Origin:
    """What is known of where a member comes from.

    Attributes:
        key: the run directory as it was given.
        checkpoint_sha256: of its weights; empty for a folder without a checkpoint.
        split_fingerprint: see `cxr.data.split`; empty where unknown.
        labels_sha256: see `cxr.data.catalog`; empty where unknown.
        split_options: `SPLIT_OPTIONS` of its configuration; empty where it has none.
        unknown: its first weights of which nobody knows what they have learnt from, see `cxr.run.ancestry`.
    """

    key: str
    checkpoint_sha256: str
    split_fingerprint: str
    labels_sha256: str
    split_options: dict[str, Any]
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        key: str,
        checkpoint_sha256: str,
        about: Mapping[str, str],
        config: Mapping[str, Any],
        unknown: tuple[str, ...] = (),
    ) -> "Origin":
        """From the checksums of a checkpoint or of metrics.json and the content of config.yaml."""
        data = config.get("data") or {}
        options = {name: data[name] for name in SPLIT_OPTIONS if name in data}
        if options.get("val_list") is not None:  # then nothing is drawn
            options = {name: value for name, value in options.items() if name not in ("val_share", "split_seed")}
        return cls(key, checkpoint_sha256, about["split_fingerprint"], about["labels_sha256"], options, unknown)

    @property
    def training_patients(self) -> str:
        """For metrics.json."""
        return "those of its split" if self.checkpoint_sha256 and self.split_fingerprint else "unknown"


def shared_patients(a: Predictions, b: Predictions) -> tuple[str, ...]:
    """Patients with images in both, in order."""
    return tuple(sorted(set(a.patient) & set(b.patient)))


def check_patients(
    first: str, first_predictions: Mapping[str, Predictions], second: str, second_predictions: Mapping[str, Predictions]
) -> None:
    """Refuses two members if a validation patient of one is a test patient of the other.

    A patient on both sides of one member's own split is passed over here: that is said of the whole ensemble.

    Raises:
        CxrError: the members, the number of such patients and some of them are named.
    """
    own = set(shared_patients(first_predictions["val"], first_predictions["test"]))
    own |= set(shared_patients(second_predictions["val"], second_predictions["test"]))
    for a, val, b, test in (
        (first, first_predictions["val"], second, second_predictions["test"]),
        (second, second_predictions["val"], first, first_predictions["test"]),
    ):
        leaking = sorted(set(shared_patients(val, test)) - own)
        if leaking:
            raise CxrError(
                f"{first} and {second} cannot be one ensemble: {len(leaking)} validation patients of {a} are test "
                f"patients of {b}, such as {', '.join(leaking[:_SHOWN])}; train them with the same split"
            )


def check_origins(origins: Sequence[Origin]) -> None:
    """Refuses members whose training patients may be validation or test patients of another one.

    Every pair is compared: by the fingerprint of the split where both are known, else by the options that decide it.

    Raises:
        CxrError: the two members and what differs are named.
    """
    for a, b in combinations(origins, 2):
        pair = f"{a.key} and {b.key} cannot be one ensemble"
        for name in ("split_fingerprint", "labels_sha256"):
            ours, theirs = getattr(a, name), getattr(b, name)
            if ours and theirs and ours != theirs:
                raise CxrError(f"{pair}: their {name} differ, so that one may have trained on the other's images")
        if a.split_fingerprint and b.split_fingerprint:
            continue
        for name in sorted(set(a.split_options) & set(b.split_options)):
            ours, theirs = a.split_options[name], b.split_options[name]
            if ours != theirs:
                raise CxrError(
                    f"{pair}: data.{name} is {ours} in one and {theirs} in the other, so that one may have trained on "
                    "the other's patients"
                )


def said_of_overlap(patients: Sequence[str]) -> str:
    """The warning that validation and test share patients."""
    return (
        f"NOT patient-disjoint: {len(patients)} patients have validation and test images, such as "
        f"{', '.join(patients[:_SHOWN])}; what is learnt on validation has seen them, and test values are too high"
    )
