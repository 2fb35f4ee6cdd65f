"""Hashed patients and images that weights were trained on, including all runs they started from; in checkpoints.

A run that starts from another run's weights inherits that run's patients. Programs that evaluate weights on a split
check here that the weights were not trained on it.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.findings import check_printable

Hashes = NDArray[np.int64]

UNKNOWN = "unknown_ancestry"  # in metrics.json, where there is any
_MOST, _LONGEST = 1 << 24, 200  # hashes; characters of a source
_NOTHING: Hashes = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Ancestry:
    """The training data of weights.

    Attributes:
        trained: (n,) sorted hashes of the patients and images that they or their ancestors were trained on.
        selected: (m,) sorted hashes of those that their or an ancestor's checkpoint was selected with.
        unknown: initial weights whose training data is unknown.
    """

    trained: Hashes = field(default_factory=lambda: _NOTHING)
    selected: Hashes = field(default_factory=lambda: _NOTHING)
    unknown: tuple[str, ...] = ()

    def extended(self, train: Sequence[Iterable[str]], val: Sequence[Iterable[str]]) -> "Ancestry":
        """That of weights which start from these, given (patients, images) of training and of validation."""
        trained, selected = np.union1d(self.trained, _hashes(*train)), np.union1d(self.selected, _hashes(*val))
        return Ancestry(trained, selected, self.unknown)

    def check(self, who: str, split: str, patients: Sequence[str], images: Sequence[str]) -> None:
        """Refuses to evaluate weights on their training data.

        A validation split, with which weights are selected, may have selected their ancestors as well.

        Args:
            who: whose weights they are, for the message.
            split: the evaluated split, `val` or a test split.
            patients: (N,) of it.
            images: (N,) of it.

        Raises:
            CxrError: the weights were trained on some of these patients or images; the message names the first.
        """
        known = self.trained if split == "val" else np.union1d(self.trained, self.selected)
        for kind, names in (("patient", list(dict.fromkeys(patients))), ("image", list(images))):
            met = np.isin(_hashes_of(kind, names), known)
            if met.any():
                first = names[int(met.argmax())]
                raise CxrError(
                    f"the weights of {who}, or weights that they started from, have learnt from {met.sum()} {kind}"
                    f"{'s' * bool(met.sum() > 1)} of the {split} split, such as {first}; judge them on other patients, "
                    "or train without these weights"
                )


def unknown_note(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """What stands below a table whose runs started from weights that may have seen its images; empty if none did.

    Args:
        unknown: initial weights whose training data is unknown, by run.
    """
    named = [f"{', '.join(sources)} ({run})" for run, sources in unknown.items() if sources]
    return [f"Unknown whether first weights had seen these patients: {'; '.join(named)}."] if named else []


def unknown_of(metrics: Mapping[str, Any]) -> list[str]:
    """Initial weights whose training data is unknown, as `metrics.json` names them."""
    named = metrics.get(UNKNOWN)
    return [str(source) for source in named] if isinstance(named, list) else []


def read_ancestry(about: Any, origin: str) -> Ancestry:
    """The ancestry that a checkpoint holds; an unknown one where it holds none.

    Args:
        about: `trained` and `selected` as arrays, `unknown` as a list of texts.
        origin: what errors call the checkpoint.

    Raises:
        CxrError: it holds something else.
    """
    if about is None:
        return Ancestry(unknown=("a checkpoint of an earlier version",))
    if isinstance(about, Mapping) and set(about) == {"trained", "selected", "unknown"}:
        trained, selected, unknown = np.asarray(about["trained"]), np.asarray(about["selected"]), about["unknown"]
        hashed = all(part.ndim == 1 and part.dtype == np.int64 and len(part) <= _MOST for part in (trained, selected))
        if hashed and isinstance(unknown, list) and all(isinstance(text, str) for text in unknown):
            check_printable(unknown, "source of weights", origin)
            return Ancestry(trained, selected, tuple(text[:_LONGEST] for text in unknown))
    raise CxrError(f"{origin} does not say what its weights have learnt from as this framework writes it")


def _hashes(patients: Iterable[str], images: Iterable[str]) -> Hashes:
    return np.unique(np.concatenate([_hashes_of("patient", set(patients)), _hashes_of("image", images)]))


def _hashes_of(kind: str, names: Iterable[str]) -> Hashes:
    """(n,) eight bytes of SHA-256 each; neither case, Unicode form, space, nor leading zeros of an id make another."""
    plain = (" ".join(unicodedata.normalize("NFKC", str(name)).casefold().split()) for name in names)
    digests = [sha256(f"{kind}\t{name.lstrip('0') or '0'}".encode()).digest()[:8] for name in plain]
    return np.frombuffer(b"".join(digests), np.dtype("<i8")).astype(np.int64)
