"""The members of an ensemble: runs whose predictions are theirs, lined up by image id, or refused."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.predictions import Predictions, read_predictions
from cxr.runs import Run

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Member:
    """One run.

    Attributes:
        key: as it was given.
        predictions: of `val` and `test`.
        checkpoint_sha256: of its weights; empty for a folder of predictions alone.
        split_fingerprint: see `cxr.data.split`; empty where unknown.
        labels_sha256: see `cxr.data.catalog`; empty where unknown.
    """

    key: str
    predictions: dict[str, Predictions]
    checkpoint_sha256: str
    split_fingerprint: str
    labels_sha256: str


def expand(runs: str | Sequence[str]) -> list[str]:
    """The run directories of a list of paths and globs; a glob passes over what is no run and over ensembles.

    Raises:
        CxrError: a glob finds nothing, a path is no folder, one is given twice, or fewer than two are left.
    """
    keys: list[str] = []
    for pattern in [runs] if isinstance(runs, str) else list(runs):
        if glob.has_magic(pattern):
            found = [path for path in sorted(glob.glob(pattern)) if _is_trained(Path(path))]
            if not found:
                raise CxrError(f"runs={pattern} matches no finished run")
            keys += found
        elif not Path(pattern).is_dir():
            raise CxrError(f"runs names {pattern}, which is not a run directory")
        else:
            keys.append(pattern)
    places = [Path(key).resolve() for key in keys]
    twice = [key for key, place in zip(keys, places, strict=True) if places.count(place) > 1]
    if twice:
        raise CxrError(f"runs names {twice[0]} more than once; give each run once")
    if len(keys) < 2:
        raise CxrError(f"an ensemble needs two runs or more; runs gives {', '.join(keys) or 'none'}")
    return keys


def load_member(key: str, accelerator: str) -> Member:
    """Takes the predictions that stand in a run if they belong to its checkpoint; else makes them from the checkpoint.

    Raises:
        CxrError: it has neither, or one of them is broken.
    """
    run = Run(Path(key))
    metrics = run.metrics()
    stored = all(run.predictions(split).exists() for split in SPLITS)
    about = {name: str(metrics.get(name) or "") for name in ("split_fingerprint", "labels_sha256")}
    if not run.best.exists():
        if not stored:
            raise CxrError(
                f"{key} has no checkpoints/best.ckpt and no predictions/val.parquet and test.parquet; is it a run?"
            )
        print(f"{key} has no checkpoint: its predictions are taken as they are, its training patients are unknown")
        predictions = {split: read_predictions(run.predictions(split)) for split in SPLITS}
        return Member(key, predictions, "", about["split_fingerprint"], about["labels_sha256"])
    from cxr.training.checkpoint import read_checkpoint, state_sha256

    checkpoint = read_checkpoint(run.best)
    sha256 = state_sha256(checkpoint["state_dict"])
    about = {name: str(checkpoint["cxr"][name]) for name in about}
    if stored:
        predictions = {split: read_predictions(run.predictions(split)) for split in SPLITS}
        if all(predicted.checkpoint_sha256 == sha256 for predicted in predictions.values()):
            return Member(key, predictions, sha256, about["split_fingerprint"], about["labels_sha256"])
    from cxr.training.predict import device_of, predict_run

    print(f"{key}: predicting with checkpoints/best.ckpt, since no stored predictions belong to it", flush=True)
    predictions, _ = predict_run(run, SPLITS, device_of(accelerator))
    return Member(key, predictions, sha256, about["split_fingerprint"], about["labels_sha256"])


def line_up(members: Sequence[Member]) -> list[Member]:
    """The members with images and findings in the order of the first one.

    Raises:
        CxrError: findings, images, labels or splits differ; the two runs and the difference are named.
    """
    first = members[0]
    lined = [first]
    for member in members[1:]:
        pair = f"{first.key} and {member.key} cannot be one ensemble"
        predictions = {}
        for split in SPLITS:
            a, b = first.predictions[split], member.predictions[split]
            only = sorted(set(a.findings) ^ set(b.findings))
            if only:
                raise CxrError(f"{pair}: their findings differ in {', '.join(only)}; train them on the same findings")
            strange = set(a.image) ^ set(b.image)
            if strange:
                raise CxrError(
                    f"{pair}: {len(strange)} {split} images are in one of them only, such as {min(strange)}; "
                    "train them with the same split"
                )
            columns = [b.findings.index(name) for name in a.findings]
            b = b.ordered(list(a.image))
            b = Predictions(
                b.image, b.patient, a.findings, b.score[:, columns], b.target[:, columns], b.checkpoint_sha256
            )
            if not np.array_equal(a.target, b.target, equal_nan=True):
                raise CxrError(f"{pair}: the labels of their {split} images differ; was the table edited in between?")
            predictions[split] = b
        for name in ("split_fingerprint", "labels_sha256"):
            ours, theirs = getattr(first, name), getattr(member, name)
            if ours and theirs and ours != theirs:
                raise CxrError(f"{pair}: their {name} differ, so that one may have trained on the other's images")
        lined.append(
            Member(member.key, predictions, member.checkpoint_sha256, member.split_fingerprint, member.labels_sha256)
        )
    return lined


def stacked(members: Sequence[Member], split: str) -> NDArray[np.float32]:
    """Scores of lined-up members, (M, N, L)."""
    return np.stack([member.predictions[split].score for member in members])


def short_names(keys: Sequence[str]) -> list[str]:
    """What tables call the members: the directory's name, or the key where two have the same."""
    names = [Path(key).name for key in keys]
    return [name if names.count(name) == 1 else key for name, key in zip(names, keys, strict=True)]


def _is_trained(path: Path) -> bool:
    run = Run(path)
    return run.best.exists() and run.metrics_path.exists()
