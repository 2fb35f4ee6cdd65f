"""A finished run: its stored predictions, missing predictions computed from its checkpoint, and its attention maps.

PyTorch, checkpoint and images are loaded when first needed: stored predictions need neither network nor images.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cxr.configuration.saved import read_configuration
from cxr.errors import CxrError
from cxr.evaluation.scored import Scored
from cxr.metrics.interval import Resampling
from cxr.run.ancestry import Ancestry, read_ancestry, unknown_of
from cxr.run.directory import Run
from cxr.run.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import torch

    from cxr.data.datamodule import RadiographData
    from cxr.training.checkpoint import LoadedNetwork


class FinishedRun(Scored):
    """A finished training, or a folder of predictions.

    Args:
        options: `accelerator` (auto, cpu or gpu), and the user's folders, see `open_finished`.
    """

    def __init__(self, run: Run, options: Mapping[str, Any]) -> None:
        self.run, self.options = run, options

    @cached_property
    def provenance(self) -> dict[str, str]:
        """`checkpoint_sha256` of `best.ckpt`, with `split_fingerprint` and `labels_sha256` of its data.

        Without a checkpoint, the first is empty and the others are those of `metrics.json`.

        Raises:
            CxrError: the checkpoint cannot be read.
        """
        names = ("checkpoint_sha256", "split_fingerprint", "labels_sha256")
        about = self._about if self.run.best.exists() else self.run.metrics() | {"checkpoint_sha256": ""}
        return {name: str(about.get(name) or "") for name in names}

    @cached_property
    def ancestry(self) -> Ancestry:
        """The data its weights were trained on; unknown without a checkpoint.

        Raises:
            CxrError: the checkpoint cannot be read, or its ancestry is not in the format of this framework.
        """
        if not self.run.best.exists():
            metrics = self.run.metrics()
            of_members = "training_patients" in metrics  # an ensemble, whose members were checked
            named = [*unknown_of(metrics), *["predictions without a checkpoint"] * (not of_members)]
            return Ancestry(unknown=tuple(dict.fromkeys(named)))
        return read_ancestry(self._about.get("ancestry"), str(self.run.best))

    def predictions(self, splits: Sequence[str] | None = None) -> tuple[dict[str, Predictions], frozenset[str]]:
        """Predictions of splits: the stored ones if they belong to the checkpoint, else computed from it.

        Args:
            splits: their names; by default `val` and every test split. `test` comes last: if they are written in this
                order, a run that has `test` has them all.

        Returns:
            Predictions by split, and the names of the splits that were computed.

        Raises:
            CxrError: there are neither predictions nor a checkpoint, one of them is broken, the data cannot be read, or
                the weights were trained on a split.
        """
        run, sha256 = self.run, self.provenance["checkpoint_sha256"]
        named = (self.options.get("data") or {}).get("test_lists") or {}
        known = splits or ("val", *reversed(list(dict.fromkeys([*run.test_splits, *named]))))
        stored = {split: read_predictions(run.predictions(split)) for split in known if run.predictions(split).exists()}
        has_checkpoint = run.best.exists()
        if has_checkpoint:
            stored = {split: p for split, p in stored.items() if p.checkpoint_sha256 == sha256}
        if set(splits or ("val", "test", *named)) <= stored.keys():
            if not has_checkpoint:
                print(
                    f"{run.path} has no checkpoint: its predictions are used as stored, its training patients are "
                    "unknown"
                )
            found = {split: stored[split] for split in known if split in stored}
            for split, p in found.items():
                self.ancestry.check(str(run.path), split, p.patient.tolist(), p.image.tolist())
            return found, frozenset()
        if not has_checkpoint:
            raise CxrError(
                f"{run.path} has no checkpoints/best.ckpt and no predictions/val.parquet and test.parquet; is it a run?"
            )
        loaded, data = self._opened
        wanted = splits or ("val", *reversed(data.catalog.test_splits))
        missing = [split for split in wanted if split not in stored]
        for split in wanted:
            rows = data.catalog.rows(split)
            self.ancestry.check(str(run.path), split, rows["patient"].tolist(), rows["image"].tolist())
        from cxr.training.predict import predict

        print(
            f"{run.path}: predicting {' and '.join(missing)} with checkpoints/best.ckpt, which no stored predictions "
            "belong to",
            flush=True,
        )
        computed = {split: predict(loaded, data, split, self._device) for split in missing}
        return {split: (stored | computed)[split] for split in wanted}, frozenset(computed)

    def own_metrics(self, predicted: Predictions, resampling: Resampling) -> dict[str, Any]:
        """The metrics of a split that the run's task defines."""
        from cxr.training.build import build_task

        config = read_configuration(self._about["config"], f"the configuration in {self.run.best}")
        p, task = predicted, build_task(config)
        positives = self.run.metrics().get("train", {}).get("positives")
        return task.report(p.target, p.score, p.findings, p.patient, resampling, positives)

    def localisation(self, split: str, resampling: Resampling) -> dict[str, Any] | None:
        """Evaluation of attention maps of a test split against boxes, see `cxr.training.localise`.

        Raises:
            CxrError: checkpoint or images cannot be read.
        """
        from cxr.training.localise import localisation

        loaded, data = self._of(split)
        return localisation(data, loaded, self._device, resampling, split)

    def draw_attention(self, split: str, predictions: Mapping[str, Predictions]) -> None:
        """Draws the attention maps of a test split.

        Raises:
            CxrError: checkpoint or images cannot be read.
        """
        from cxr.training.pictures import draw_attention

        loaded, data = self._of(split)
        draw_attention(self.run, split, predictions, data, loaded, self._device)

    def _of(self, split: str) -> "tuple[LoadedNetwork, RadiographData]":
        loaded, data = self._opened
        if split not in data.catalog.test_splits:
            raise CxrError(f"{split} has no list of images; pass data.test_lists.{split}=FILE")
        return loaded, data

    @cached_property
    def _checkpoint(self) -> dict[str, Any]:
        from cxr.training.checkpoint import read_checkpoint

        return read_checkpoint(self.run.best)

    @cached_property
    def _about(self) -> dict[str, Any]:
        """The provenance in `best.ckpt`, with the SHA-256 of its weights."""
        from cxr.training.checkpoint import state_sha256

        return {**self._checkpoint["cxr"], "checkpoint_sha256": state_sha256(self._checkpoint["state_dict"])}

    @cached_property
    def _opened(self) -> "tuple[LoadedNetwork, RadiographData]":
        from cxr.training.reopen import open_finished

        return open_finished(self.run, self.options, self._checkpoint)

    @property
    def _device(self) -> "torch.device":
        from cxr.training.devices import device_of

        return device_of(str(self.options["accelerator"]))
