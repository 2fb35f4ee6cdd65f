"""The leak guard of ensembles: no member may be trained on patients that another member is evaluated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cxr.errors import CxrError, counted
from cxr.run.predictions import Predictions

# Options that determine the training patients of a run without a fingerprint.
SPLIT_OPTIONS = ("train_list", "val_list", "test_list", "val_share", "split_seed")
_SHOWN = 3  # patients named in a message


@dataclass(frozen=True)
class Origin:
    """What is known of the origin of a member.

    Attributes:
        key: the run directory as it was given.
        checkpoint_sha256: of its weights; empty for a folder without a checkpoint.
        split_fingerprint: see `cxr.data.split`; empty where unknown.
        labels_sha256: see `cxr.data.catalog`; empty where unknown.
        split_options: `SPLIT_OPTIONS` of its configuration; empty without one.
        unknown: its initial weights with unknown training data, see `cxr.run.ancestry`.
        hierarchy: the tree of findings that its scores follow, see `cxr.data.hierarchy`.
        fold: `data.fold` and `data.folds` of a fold of a cross-validation, else None.
    """

    key: str
    checkpoint_sha256: str
    split_fingerprint: str
    labels_sha256: str
    split_options: dict[str, Any]
    unknown: tuple[str, ...] = ()
    hierarchy: Any = None
    fold: tuple[int, int] | None = None

    @property
    def training_patients(self) -> str:
        """For metrics.json."""
        return "those of its split" if self.checkpoint_sha256 and self.split_fingerprint else "unknown"


def split_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """`SPLIT_OPTIONS` of a run's configuration; with a `val_list` nothing is drawn, and the options of the draw go."""
    data = config.get("data") or {}
    names = SPLIT_OPTIONS[:3] if data.get("val_list") is not None else SPLIT_OPTIONS
    return {name: data[name] for name in names if name in data}


def shared_patients(a: Predictions, b: Predictions) -> tuple[str, ...]:
    """Patients with images in both, in order."""
    return tuple(sorted(set(a.patient) & set(b.patient)))


def check_patients(
    first: str, first_predictions: Mapping[str, Predictions], second: str, second_predictions: Mapping[str, Predictions]
) -> None:
    """Refuses two members if a validation patient of one is a test patient of the other.

    A patient in both splits of one member is ignored here: a warning for the whole ensemble reports it.

    Raises:
        CxrError: the members, the number of such patients and some of them are named.
    """
    members = ((first, first_predictions), (second, second_predictions))
    own = {patient for _, splits in members for patient in shared_patients(splits["val"], splits["test"])}
    for (a, learnt), (b, evaluated) in (members, members[::-1]):
        leaking = sorted(set(shared_patients(learnt["val"], evaluated["test"])) - own)
        if leaking:
            raise CxrError(
                f"{first} and {second} cannot be one ensemble: {b} has {counted(len(leaking), 'validation patient')} "
                f"of {a} in test, such as {', '.join(leaking[:_SHOWN])}; train them with the same split"
            )


def check_origins(origins: Sequence[Origin]) -> None:
    """Refuses members if training patients of one may be validation or test patients of another.

    Every pair is compared: by the fingerprint of the split where both are known, otherwise by the options that
    determine it. Folds have different splits; their validation predictions are checked by `out_of_fold`.

    Raises:
        CxrError: the two members and the difference are named.
    """
    for a, b in combinations(origins, 2):
        pair = f"{a.key} and {b.key} cannot be one ensemble"
        for name in ("labels_sha256",) if a.fold and b.fold else ("split_fingerprint", "labels_sha256"):
            known = {value for origin in (a, b) if (value := getattr(origin, name))}
            if len(known) == 2:
                raise CxrError(f"{pair}: their {name} differ, so one may have been trained on the other's images")
        if (a.fold and b.fold) or (a.split_fingerprint and b.split_fingerprint):
            continue
        for name in sorted(set(a.split_options) & set(b.split_options)):
            if a.split_options[name] != b.split_options[name]:
                raise CxrError(
                    f"{pair}: data.{name} is {a.split_options[name]} in one and {b.split_options[name]} in the other, "
                    "so one may have been trained on the other's patients"
                )


def overlap_warning(patients: Sequence[str]) -> str:
    """The warning that validation and test share patients."""
    return (
        f"NOT patient-disjoint: validation and test share {counted(len(patients), 'patient')}, such as "
        f"{', '.join(patients[:_SHOWN])}; methods that learn on validation have seen them, and test values are too high"
    )
