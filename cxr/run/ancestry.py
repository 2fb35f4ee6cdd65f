"""Ancestry: hashes of the patients and images that weights were trained on, stored in checkpoints.

A run that starts from another run's weights inherits that run's ancestry. Programs that evaluate weights on a split
check that the weights were not trained on it.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError, counted
from cxr.findings import check_printable

Hashes = NDArray[np.int64]

UNKNOWN = "unknown_ancestry"  # key of metrics.json
_MOST, _LONGEST = 1 << 24, 200  # hashes; characters of a source
_NOTHING: Hashes = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Ancestry:
    """The training data of weights.

    Attributes:
        trained: (n,) sorted hashes of the patients and images that the weights or their ancestors were trained on.
        selected: (m,) sorted hashes of the patients and images of the validation splits that selected them.
        unknown: names of initial weights with unknown training data.
    """

    trained: Hashes = field(default_factory=lambda: _NOTHING)
    selected: Hashes = field(default_factory=lambda: _NOTHING)
    unknown: tuple[str, ...] = ()

    def extended(self, train: Sequence[Iterable[str]], val: Sequence[Iterable[str]]) -> "Ancestry":
        """The ancestry of weights that start from these weights and are trained on further data."""
        trained, selected = np.union1d(self.trained, _hashes(*train)), np.union1d(self.selected, _hashes(*val))
        return Ancestry(trained, selected, self.unknown)

    def check(self, origin: str, split: str, patients: Sequence[str], images: Sequence[str]) -> None:
        """Refuses to evaluate weights on their training data.

        A test split must not have selected the weights or their ancestors either. A validation split may.

        Args:
            origin: name of the weights in errors.
            patients: (N,) ids in the split.
            images: (N,) ids in the split.

        Raises:
            CxrError: the weights were trained on some of these patients or images; the message names the first.
        """
        known = self.trained if split == "val" else np.union1d(self.trained, self.selected)
        for kind, names in (("patient", list(dict.fromkeys(patients))), ("image", list(images))):
            met = np.isin(_hashes_of(kind, names), known)
            if met.any():
                first = names[int(met.argmax())]
                raise CxrError(
                    f"the weights of {origin}, or weights they started from, were trained or selected with "
                    f"{counted(int(met.sum()), kind)} of the {split} split, such as {first}; evaluate them on other "
                    "patients, or train without these weights"
                )


def unknown_note(unknown: Mapping[str, Sequence[str]]) -> list[str]:
    """A note for a table of runs that started from weights with unknown training data; empty without such runs."""
    named = [f"{', '.join(sources)} ({run})" for run, sources in unknown.items() if sources]
    return [f"Initial weights with unknown training patients: {'; '.join(named)}."] if named else []


def unknown_of(metrics: Mapping[str, Any]) -> list[str]:
    """Initial weights with unknown training data, from `metrics.json`."""
    named = metrics.get(UNKNOWN)
    return [str(source) for source in named] if isinstance(named, list) else []


def read_ancestry(about: Any, origin: str) -> Ancestry:
    """Reads the ancestry in a checkpoint.

    Args:
        about: `trained` and `selected` as arrays, `unknown` as a list of texts; None in checkpoints of earlier
            versions, whose ancestry is unknown.
        origin: name of the checkpoint in errors.

    Raises:
        CxrError: the content has another format.
    """
    if about is None:
        return Ancestry(unknown=("a checkpoint of an earlier version",))
    if isinstance(about, Mapping) and set(about) == {"trained", "selected", "unknown"}:
        trained, selected, unknown = np.asarray(about["trained"]), np.asarray(about["selected"]), about["unknown"]
        hashed = all(part.ndim == 1 and part.dtype == np.int64 and len(part) <= _MOST for part in (trained, selected))
        if hashed and isinstance(unknown, list) and all(isinstance(text, str) for text in unknown):
            check_printable(unknown, "source of weights", origin)
            return Ancestry(trained, selected, tuple(text[:_LONGEST] for text in unknown))
    raise CxrError(f"{origin} has an invalid ancestry of its weights; was it edited? restore it")


def _hashes(patients: Iterable[str], images: Iterable[str]) -> Hashes:
    return np.unique(np.concatenate([_hashes_of("patient", set(patients)), _hashes_of("image", images)]))


def _hashes_of(kind: str, names: Iterable[str]) -> Hashes:
    """(n,) eight bytes of SHA-256; ids that differ in case, Unicode form, space or leading zeros have equal hashes."""
    plain = (" ".join(unicodedata.normalize("NFKC", str(name)).casefold().split()) for name in names)
    digests = [sha256(f"{kind}\t{name.lstrip('0') or '0'}".encode()).digest()[:8] for name in plain]
    return np.frombuffer(b"".join(digests), np.dtype("<i8")).astype(np.int64)
