"""The members of an ensemble: runs with matching predictions, aligned by image id.

Members are loaded one after the other, and only the order of their rows is kept; scores are read again one finding at a
time. Otherwise twenty members on the whole data set would not fit into memory.
"""

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxr.ensemble.guard import Origin, check_origins, check_patients, shared_patients, split_options
from cxr.ensemble.splits import Test, Validation
from cxr.errors import CxrError
from cxr.evaluation.folds import out_of_fold
from cxr.run.directory import Run
from cxr.run.folds import check_complete, fold_of
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions, read_predictions
from cxr.run.smoke import print_skipped, smoke_refused
from cxr.run.splits import check_chosen_on_validation
from cxr.training.finished_run import FinishedRun

SPLITS = ("val", "test")
KEPT_BYTES = 256 * 2**20  # scores of a split up to this size stay in memory once they are read
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_Read = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Members:
    """Members that fit together.

    Attributes:
        origins: what is known of each.
        validation: their scores on it.
        test: their scores on it.
        patients_in_both: patients with validation and test images; should be empty.
        folds: whether they are the folds of a cross-validation; each then has the out-of-fold scores on validation.
    """

    origins: list[Origin]
    validation: Validation
    test: Test
    patients_in_both: tuple[str, ...]
    folds: bool = False

    @property
    def keys(self) -> list[str]:
        """The run directories as they were given."""
        return [origin.key for origin in self.origins]

    @property
    def hierarchy(self) -> Any:
        """The tree of findings that all of them follow; none if they differ."""
        first = self.origins[0].hierarchy
        return first if all(origin.hierarchy == first for origin in self.origins) else None


def expand(runs: str | Sequence[str]) -> list[str]:
    """The run directories of a list of paths and globs.

    A glob skips unfinished runs, smoke runs, ensembles and runs with `tta`.

    Raises:
        CxrError: a glob finds nothing, a path is not a folder or is a smoke run, a run is given twice, or there is only
            one.
    """
    keys: list[str] = []
    for pattern in [runs] if isinstance(runs, str) else list(runs):
        if glob.has_magic(pattern):
            runs_of = {path: Run(Path(path)) for path in sorted(glob.glob(pattern))}
            trained = {
                path: run
                for path, run in runs_of.items()
                if run.best.exists() and run.metrics_path.exists() and not run.mirrors
            }
            print_skipped([run.path for run in trained.values() if run.smoke])
            found = [path for path, run in trained.items() if not run.smoke]
            if not found:
                raise CxrError(f"runs={pattern} matches no finished run")
            keys += found
        elif not Path(pattern).is_dir():
            raise CxrError(f"runs contains {pattern}, which is not a run directory")
        elif Run(Path(pattern)).smoke:
            raise smoke_refused(Path(pattern))
        else:
            keys.append(pattern)
    places = [Path(key).resolve() for key in keys]
    twice = [key for key, place in zip(keys, places, strict=True) if places.count(place) > 1]
    if twice:
        raise CxrError(f"runs contains {twice[0]} more than once; give each run once")
    if len(keys) < 2:
        raise CxrError(f"an ensemble needs at least two runs; runs gives {', '.join(keys) or 'none'}")
    return keys


def gather(keys: Sequence[str], accelerator: str, scratch: Path, named: Mapping[str, Any] = _NOTHING) -> Members:
    """Loads members, records their test scores in the ledgers beside them, and aligns them with the first one.

    Args:
        keys: run directories.
        accelerator: for predictions that must be computed again.
        scratch: a folder for those; it must exist as long as the members are used.
        named: folders that the user gave for their images, see `open_finished`.

    Raises:
        CxrError: a member is broken, or findings, images, patients, labels or splits differ; the two runs and the
            difference are named.
    """
    first: dict[str, Predictions] = {}
    origins: list[Origin] = []
    paths: dict[str, list[Path]] = {split: [] for split in SPLITS}
    orders: dict[str, list[NDArray[np.int64] | None]] = {split: [] for split in SPLITS}
    for key in keys:
        origin, files, loaded = load_member(key, accelerator, scratch / f"{len(origins)}", named)
        check_chosen_on_validation(loaded["val"], loaded["test"], f"what is fitted to {key}")
        if first:
            check_patients(origins[0].key, first, key, loaded)
        first = first or loaded
        for split in ("test",) if origin.fold else SPLITS:
            pair = f"{(origins or [origin])[0].key} and {key} cannot be one ensemble"
            orders[split].append(_order(pair, split, first[split], loaded[split]))
            paths[split].append(files[split])
        if origin.fold:
            paths["val"].append(files["val"])
        origins.append(origin)
    check_origins(origins)
    folds = {origin.key: origin.fold for origin in origins if origin.fold}
    if folds:
        if len(folds) < len(keys):
            other = next(key for key in keys if key not in folds)
            raise CxrError(f"{next(iter(folds))} is a fold and {other} is not; give all folds of one configuration")
        check_complete(folds)
        first["val"] = out_of_fold(dict(zip(keys, map(read_predictions, paths["val"]), strict=True)))
        pooled = scratch / "val.parquet"
        first["val"].write(pooled)
        paths["val"], orders["val"] = [pooled] * len(keys), [None] * len(keys)
    for key, path in zip(keys, paths["test"], strict=True):  # the tables of the ensemble show each member on test
        count_test(ledger_beside(Path(key)), read_predictions(path), Path(key).name, "ensemble")
    val, test = (
        (p.patient, p.findings, p.target, len(keys), _reader(paths[split], orders[split], p), p.image, p.attributes)
        for split, p in first.items()
    )
    return Members(origins, Validation(*val), Test(*test), shared_patients(first["val"], first["test"]), bool(folds))


def load_member(
    key: str, accelerator: str, scratch: Path, named: Mapping[str, Any] = _NOTHING
) -> tuple[Origin, dict[str, Path], dict[str, Predictions]]:
    """Reads the stored predictions of a run if they belong to its checkpoint; otherwise computes them from it.

    Args:
        key: the run directory.
        accelerator: for predictions that must be computed again.
        scratch: a folder for those.
        named: folders that the user gave for its images, see `open_finished`.

    Returns:
        Its origin, and its files and predictions of validation and test.

    Raises:
        CxrError: it has neither, one of them is broken, or its validation predictions are of another split.
    """
    run = Run(Path(key))
    config = run.config() if os.path.lexists(run.config_path) else {}
    finished = FinishedRun(run, {**named, "accelerator": accelerator})
    origin = Origin(
        key, **finished.provenance, split_options=split_options(config), unknown=finished.ancestry.unknown,
        fold=fold_of(config), hierarchy=run.hierarchy,
    )  # fmt: skip
    loaded, computed = finished.predictions(SPLITS)
    paths = {split: scratch / f"{split}.parquet" if split in computed else run.predictions(split) for split in SPLITS}
    for split in computed:
        loaded[split].write(paths[split])
    return origin, paths, loaded


def _order(pair: str, split: str, a: Predictions, b: Predictions) -> NDArray[np.int64] | None:
    """Rows of `b` in the order of `a`, None if they are the same; checks findings, images, patients and labels."""
    only = sorted(set(a.findings) ^ set(b.findings))
    if only:
        raise CxrError(f"{pair}: their findings differ in {', '.join(only)}; train them on the same findings")
    different = set(a.image) ^ set(b.image)
    if different:
        raise CxrError(
            f"{pair}: {len(different)} {split} images are in one of them only, such as {min(different)}; "
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


def _reader(paths: list[Path], orders: list[NDArray[np.int64] | None], first: Predictions) -> _Read:
    """Reads the scores (M, N) of a finding from every member's file; small splits are kept in memory."""

    def read(finding: int) -> NDArray[np.float32]:
        columns = []
        for path, order in zip(paths, orders, strict=True):
            table = pq.read_table(path, columns=[f"score:{first.findings[finding]}"], use_threads=False)
            values = np.asarray(table.column(0).to_numpy(), np.float32)
            columns.append(values if order is None else values[order])
        return np.stack(columns)

    return cache(read) if first.score.nbytes * len(paths) <= KEPT_BYTES else read


def short_names(keys: Sequence[str]) -> list[str]:
    """Names of the members in tables: the directory's name, or the key where two have the same."""
    names = [Path(key).name for key in keys]
    return [name if names.count(name) == 1 else key for name, key in zip(names, keys, strict=True)]
