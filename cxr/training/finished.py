"""A run opened again after its training: its scores, the missing ones made from its checkpoint, and its attention.

PyTorch, checkpoint and images are loaded when they are first needed: stored scores need neither network nor images.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cxr.errors import CxrError
from cxr.metrics.interval import Resampling
from cxr.run.directory import Run
from cxr.run.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import torch

    from cxr.data.datamodule import RadiographData
    from cxr.training.checkpoint import LoadedNetwork


class FinishedRun:
    """A run whose training is over, or a folder of predictions.

    Args:
        run: the directory.
        options: `accelerator` (auto, cpu or gpu), and the folders that the user names, see `data_to_score`.
    """

    def __init__(self, run: Run, options: Mapping[str, Any]) -> None:
        self.run, self.options = run, options

    @cached_property
    def provenance(self) -> dict[str, str]:
        """`checkpoint_sha256` of `best.ckpt`, with `split_fingerprint` and `labels_sha256` of its data.

        Where there is no checkpoint, the first is empty and the others are those of `metrics.json`.

        Raises:
            CxrError: the checkpoint cannot be read.
        """
        names = ("split_fingerprint", "labels_sha256")
        if not self.run.best.exists():
            metrics = self.run.metrics()
            return {"checkpoint_sha256": "", **{name: str(metrics.get(name) or "") for name in names}}
        from cxr.training.checkpoint import read_checkpoint, state_sha256

        checkpoint = read_checkpoint(self.run.best)
        about = {name: str(checkpoint["cxr"][name]) for name in names}
        return {"checkpoint_sha256": state_sha256(checkpoint["state_dict"]), **about}

    def predictions(self, splits: Sequence[str] | None = None) -> tuple[dict[str, Predictions], frozenset[str]]:
        """Scores of splits: those that stand in the run if they belong to its checkpoint; else made from it.

        Args:
            splits: which; by default `val` and every test split. `test` comes last, and whoever writes them in this
                order may take a run that has `test` to have them all.

        Returns:
            Predictions by split, and the names of those that were made.

        Raises:
            CxrError: there are neither scores nor a checkpoint, one of them is broken, or the data cannot be read.
        """
        run, sha256 = self.run, self.provenance["checkpoint_sha256"]
        known = splits or ("val", *reversed(run.test_splits))
        stored = {split: read_predictions(run.predictions(split)) for split in known if run.predictions(split).exists()}
        has_checkpoint = run.best.exists()
        if has_checkpoint:
            stored = {split: p for split, p in stored.items() if p.checkpoint_sha256 == sha256}
        if {"val", "test"} <= stored.keys():
            if not has_checkpoint:
                print(
                    f"{run.path} has no checkpoint: its predictions are taken as they are, its training patients are "
                    "unknown"
                )
            return {split: stored[split] for split in known if split in stored}, frozenset()
        if not has_checkpoint:
            raise CxrError(
                f"{run.path} has no checkpoints/best.ckpt and no predictions/val.parquet and test.parquet; is it a run?"
            )
        data, _ = self._data
        wanted = splits or ("val", *reversed(data.catalog.test_splits))
        missing = [split for split in wanted if split not in stored]
        from cxr.training.predict import predict

        print(
            f"{run.path}: predicting {' and '.join(missing)} with checkpoints/best.ckpt, since no stored predictions "
            "belong to it",
            flush=True,
        )
        made = {split: predict(self._loaded, data, split, self._device) for split in missing}
        return {split: (stored | made)[split] for split in wanted}, frozenset(made)

    def own_metrics(self, predicted: Predictions) -> dict[str, float]:
        """What the run's task adds to the metrics of a split."""
        return self._loaded.task.metrics(predicted.target, predicted.score)

    def localisation(self, split: str, resampling: Resampling) -> dict[str, Any] | None:
        """Attention maps of a test split judged against boxes, see `cxr.training.localise`.

        Raises:
            CxrError: checkpoint or images cannot be read.
        """
        from cxr.training.localise import localisation

        data, root = self._data
        return localisation(data, self._loaded, self._device, root, resampling, split)

    def draw_attention(self, split: str, predictions: Mapping[str, Predictions]) -> None:
        """Writes the picture of attention maps of a test split.

        Raises:
            CxrError: checkpoint or images cannot be read.
        """
        from cxr.training.pictures import draw_attention

        data, root = self._data
        draw_attention(self.run, split, predictions, data, self._loaded, self._device, root)

    @cached_property
    def _loaded(self) -> "LoadedNetwork":
        from cxr.training.checkpoint import load_network

        return load_network(self.run.best)

    @cached_property
    def _data(self) -> "tuple[RadiographData, str]":
        """The loaders, and the data set's folder."""
        from cxr.training.prepare import data_to_score

        data, config = data_to_score(self.run.with_places(self._loaded.config), self.options, str(self.run.path))
        return data, str(config["data"]["root"])

    @property
    def _device(self) -> "torch.device":
        from cxr.training.predict import device_of

        return device_of(str(self.options["accelerator"]))
