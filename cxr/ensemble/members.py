"""The members of an ensemble: runs with matching predictions, aligned by image id."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cxr.ensemble.guard import Origin, check_origins, check_patients, shared_patients, split_options
from cxr.ensemble.splits import Test, Validation
from cxr.errors import CxrError
from cxr.evaluation.folds import out_of_fold
from cxr.run.directory import Run, runs_of
from cxr.run.folds import check_complete, fold_of
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions
from cxr.run.splits import check_chosen_on_validation
from cxr.training.finished_run import FinishedRun

SPLITS = ("val", "test")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Members:
    """Members that fit together.

    Attributes:
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
        found = runs_of(pattern)
        if glob.has_magic(pattern):
            found = [run for run in found if run.best.exists() and run.metrics_path.exists() and run.tta == "none"]
            if not found:
                raise CxrError(f"runs={pattern} matches no finished run")
            keys += [str(run.path) for run in found]
        elif not found[0].path.is_dir():
            raise CxrError(f"runs contains {pattern}, which is not a run directory")
        else:
            keys.append(pattern)
    places = [Path(key).resolve() for key in keys]
    twice = [key for key, place in zip(keys, places, strict=True) if places.count(place) > 1]
    if twice:
        raise CxrError(f"runs contains {twice[0]} more than once; give each run once")
    if len(keys) < 2:
        raise CxrError(f"an ensemble needs at least two runs; runs gives {', '.join(keys) or 'none'}")
    return keys


def gather(keys: Sequence[str], accelerator: str, named: Mapping[str, Any] = _NOTHING) -> Members:
    """Loads members, records their test scores in the ledgers beside them, and aligns them with the first one.

    Args:
        named: folders that the user gave for their images, see `open_finished`.

    Raises:
        CxrError: a member is broken, or findings, images, patients, labels or splits differ; the two runs and the
            difference are named.
    """
    first: dict[str, Predictions] = {}
    origins: list[Origin] = []
    aligned: dict[str, list[Predictions]] = {split: [] for split in SPLITS}
    for key in keys:
        origin, loaded = load_member(key, accelerator, named)
        check_chosen_on_validation(loaded["val"], loaded["test"], f"what is fitted to {key}")
        if first:
            check_patients(origins[0].key, first, key, loaded)
        first = first or loaded
        for split, p in loaded.items():
            pair = f"{(origins or [origin])[0].key} and {key} cannot be one ensemble"
            of_fold = origin.fold and split == "val"  # each fold has its own validation images
            aligned[split].append(p if of_fold else _aligned(pair, split, first[split], p))
        origins.append(origin)
    check_origins(origins)
    folds = {origin.key: origin.fold for origin in origins if origin.fold}
    if folds:
        if len(folds) < len(keys):
            other = next(key for key in keys if key not in folds)
            raise CxrError(f"{next(iter(folds))} is a fold and {other} is not; give all folds of one configuration")
        check_complete(folds)
        aligned["val"] = [out_of_fold(dict(zip(keys, aligned["val"], strict=True)))] * len(keys)
    for key, p in zip(keys, aligned["test"], strict=True):  # the tables of the ensemble show each member on test
        count_test(ledger_beside(Path(key)), p, Path(key).name, "ensemble")
    (val, *_), (test, *_) = aligned["val"], aligned["test"]
    validation, evaluated = (
        (p.patient, p.findings, p.target, np.stack([member.score.T for member in members], 1), p.image, p.attributes)
        for p, members in ((val, aligned["val"]), (test, aligned["test"]))
    )
    return Members(origins, Validation(*validation), Test(*evaluated), shared_patients(val, test), bool(folds))


def load_member(
    key: str, accelerator: str, named: Mapping[str, Any] = _NOTHING
) -> tuple[Origin, dict[str, Predictions]]:
    """Reads the stored predictions of a run if they belong to its checkpoint; otherwise computes them from it.

    Returns:
        Its origin, and its predictions of validation and test.

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
    return origin, dict(finished.predictions(SPLITS)[0])


def _aligned(pair: str, split: str, a: Predictions, b: Predictions) -> Predictions:
    """The scores of `b` in the rows and columns of `a`; checks findings, images, patients and labels."""
    only = sorted(set(a.findings) ^ set(b.findings))
    if only:
        raise CxrError(f"{pair}: their findings differ in {', '.join(only)}; train them on the same findings")
    different = set(a.image) ^ set(b.image)
    if different:
        raise CxrError(
            f"{pair}: {len(different)} {split} images are in one of them only, such as {min(different)}; "
            "train them with the same split"
        )
    b = b.ordered(a.image.tolist())
    if not np.array_equal(a.patient, b.patient):
        raise CxrError(f"{pair}: the patients of their {split} images differ; give both the ids of the data set")
    columns = [b.findings.index(name) for name in a.findings]
    if not np.array_equal(a.target, b.target[:, columns], equal_nan=True):
        raise CxrError(f"{pair}: the labels of their {split} images differ; was the table edited in between?")
    return replace(a, score=b.score[:, columns])


def short_names(keys: Sequence[str]) -> list[str]:
    """Names of the members in tables: the directory's name, or the key where two have the same."""
    names = [Path(key).name for key in keys]
    return [name if names.count(name) == 1 else key for name, key in zip(names, keys, strict=True)]
