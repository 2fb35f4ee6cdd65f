"""The members of an ensemble: runs whose predictions are theirs, lined up by image id, or refused.

Members are read one after the other and then forgotten but for the order of their rows; scores are read again a
finding at a time. An ensemble of twenty members on the whole data set would not fit into memory otherwise.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr.ensemble.guard import Origin, check_origins, check_patients, shared_patients
from cxr.ensemble.splits import KEPT_BYTES, Split, Test, Validation
from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions, read_predictions
from cxr.run.smoke import say_left_out, smoke_refused
from cxr.run.splits import check_chosen_on_validation
from cxr.training.finished_run import FinishedRun

SPLITS = ("val", "test")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_Kind = TypeVar("_Kind", bound=Split)


@dataclass(frozen=True)
class Column:
    """Where a member's scores of one split lie.

    Attributes:
        path: a predictions file.
        order: (N,) its rows in the order of the first member; none where they are in that order already.
    """

    path: Path
    order: NDArray[np.int64] | None


@dataclass(frozen=True)
class Members:
    """Members that fit together.

    Attributes:
        origins: what is known of each.
        validation: their scores on it.
        test: their scores on it.
        patients_in_both: patients that have validation and test images, which should be none.
    """

    origins: list[Origin]
    validation: Validation
    test: Test
    patients_in_both: tuple[str, ...]

    @property
    def keys(self) -> list[str]:
        """As they were given."""
        return [origin.key for origin in self.origins]


@dataclass
class Reader:
    """Reads the scores (M, N) of a finding from every member's file; small ones are kept in memory.

    Attributes:
        columns: of each member.
        findings: L names.
        keeps: whether what was read is kept.
    """

    columns: list[Column]
    findings: tuple[str, ...]
    keeps: bool
    _kept: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, finding: int) -> NDArray[np.float32]:
        """(M, N) float32."""
        if finding in self._kept:
            return self._kept[finding]
        scores = np.stack([self._column(column, f"score:{self.findings[finding]}") for column in self.columns])
        if self.keeps:
            self._kept[finding] = scores
        return scores

    @staticmethod
    def _column(column: Column, name: str) -> NDArray[np.float32]:
        table = pq.read_table(column.path, columns=[name], use_threads=False)
        values = np.asarray(table.column(0).to_numpy(), np.float32)
        return values if column.order is None else values[column.order]


def expand(runs: str | Sequence[str]) -> list[str]:
    """The run directories of a list of paths and globs; a glob passes over what is no run, smoke runs and ensembles.

    Raises:
        CxrError: a glob finds nothing, a path is no folder or a smoke run, one is given twice, or fewer than two are
            left.
    """
    keys: list[str] = []
    for pattern in [runs] if isinstance(runs, str) else list(runs):
        if glob.has_magic(pattern):
            trained = [path for path in sorted(glob.glob(pattern)) if _is_trained(Path(path))]
            found = [path for path in trained if not Run(Path(path)).smoke]
            say_left_out([Path(path) for path in trained if path not in found])
            if not found:
                raise CxrError(f"runs={pattern} matches no finished run")
            keys += found
        elif not Path(pattern).is_dir():
            raise CxrError(f"runs names {pattern}, which is not a run directory")
        elif Run(Path(pattern)).smoke:
            raise smoke_refused(Path(pattern))
        else:
            keys.append(pattern)
    places = [Path(key).resolve() for key in keys]
    twice = [key for key, place in zip(keys, places, strict=True) if places.count(place) > 1]
    if twice:
        raise CxrError(f"runs names {twice[0]} more than once; give each run once")
    if len(keys) < 2:
        raise CxrError(f"an ensemble needs two runs or more; runs gives {', '.join(keys) or 'none'}")
    return keys


def gather(keys: Sequence[str], accelerator: str, scratch: Path, named: Mapping[str, Any] = _NOTHING) -> Members:
    """Loads members, enters their test scores in the ledgers beside them, and lines them up with the first one.

    Args:
        keys: run directories.
        accelerator: for predictions that have to be made again.
        scratch: a folder for those; it must stay as long as the members are used.
        named: folders that the user names for their images, see `open_finished`.

    Raises:
        CxrError: a member is broken, or findings, images, patients, labels or splits differ; the two runs and the
            difference are named.
    """
    first: dict[str, Predictions] = {}
    origins: list[Origin] = []
    columns: dict[str, list[Column]] = {split: [] for split in SPLITS}
    for key in keys:
        origin, paths, loaded = load_member(key, accelerator, scratch / f"{len(origins)}", named)
        check_chosen_on_validation(loaded["val"], loaded["test"], f"what is learnt from {key}")
        first = first or loaded
        if origins:
            pair = f"{origins[0].key} and {key} cannot be one ensemble"
            check_patients(origins[0].key, first, key, loaded)
            orders = {split: _order(pair, split, first[split], loaded[split]) for split in SPLITS}
        else:
            orders = dict.fromkeys(SPLITS)
        for split in SPLITS:
            columns[split].append(Column(paths[split], orders[split]))
        origins.append(origin)
    check_origins(origins)
    for key, column in zip(keys, columns["test"], strict=True):  # the table of the ensemble judges each of them
        count_test(ledger_beside(Path(key)), read_predictions(column.path), Path(key).name, "ensemble")
    both = shared_patients(first["val"], first["test"])
    val, test = (_split(kind, first[kind.name], columns[kind.name]) for kind in (Validation, Test))
    assert isinstance(val, Validation) and isinstance(test, Test)
    return Members(origins, val, test, both)


def load_member(
    key: str, accelerator: str, scratch: Path, named: Mapping[str, Any] = _NOTHING
) -> tuple[Origin, dict[str, Path], dict[str, Predictions]]:
    """Takes the predictions that stand in a run if they belong to its checkpoint; else makes them from it.

    Args:
        key: the run directory.
        accelerator: for predictions that have to be made again.
        scratch: a folder for those.
        named: folders that the user names for its images, see `open_finished`.

    Returns:
        What is known of it, its files of validation and test, and what is in them.

    Raises:
        CxrError: it has neither, one of them is broken, or its validation is no validation.
    """
    run = Run(Path(key))
    config = run.config() if os.path.lexists(run.config_path) else {}
    finished = FinishedRun(run, {**named, "accelerator": accelerator})
    origin = Origin.of(
        key, finished.provenance["checkpoint_sha256"], finished.provenance, config, finished.ancestry.unknown
    )
    loaded, made = finished.predictions(SPLITS)
    paths = {split: scratch / f"{split}.parquet" if split in made else run.predictions(split) for split in SPLITS}
    for split in made:
        loaded[split].write(paths[split])
    return origin, paths, loaded


def _order(pair: str, split: str, a: Predictions, b: Predictions) -> NDArray[np.int64] | None:
    """Rows of `b` in the order of `a`, or none if they are; refused unless findings, images and labels are the same."""
    only = sorted(set(a.findings) ^ set(b.findings))
    if only:
        raise CxrError(f"{pair}: their findings differ in {', '.join(only)}; train them on the same findings")
    strange = set(a.image) ^ set(b.image)
    if strange:
        raise CxrError(
            f"{pair}: {len(strange)} {split} images are in one of them only, such as {min(strange)}; "
            "train them with the same split"
        )
    place = {image: row for row, image in enumerate(b.image)}
    order = np.array([place[image] for image in a.image], np.int64)
    if not np.array_equal(a.patient, b.patient[order]):
        raise CxrError(f"{pair}: the patients of their {split} images differ; give both the ids of the data set")
    columns = [b.findings.index(name) for name in a.findings]
    if not np.array_equal(a.target, b.target[order][:, columns], equal_nan=True):
        raise CxrError(f"{pair}: the labels of their {split} images differ; was the table edited in between?")
    return None if np.array_equal(order, np.arange(len(order))) else order


def _split(kind: type[_Kind], first: Predictions, columns: list[Column]) -> _Kind:
    keeps = first.score.nbytes * len(columns) <= KEPT_BYTES
    read = Reader(columns, first.findings, keeps)
    return kind(first.patient, first.findings, first.target, len(columns), read, first.image, first.attributes)


def short_names(keys: Sequence[str]) -> list[str]:
    """What tables call the members: the directory's name, or the key where two have the same."""
    names = [Path(key).name for key in keys]
    return [name if names.count(name) == 1 else key for name, key in zip(names, keys, strict=True)]


def _is_trained(path: Path) -> bool:
    run = Run(path)
    return run.best.exists() and run.metrics_path.exists()
