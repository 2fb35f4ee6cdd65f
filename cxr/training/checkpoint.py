"""What is in a checkpoint, and how a network is rebuilt from one alone."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cxr.configuration.saved import read_configuration
from cxr.data.datamodule import Batch
from cxr.errors import CxrError, first_line
from cxr.files.reading import open_regular
from cxr.findings import check_names
from cxr.imaging.preprocessing import Preprocessing, read_preprocessing
from cxr.model.network import Network, NetworkOutput
from cxr.task.base import ClassificationTask
from cxr.training.build import build_network, build_task

_PREFIX = "network."


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a state dict, sorted by name; it is not a file's hash."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class LoadedNetwork:
    """A network rebuilt from a checkpoint.

    Attributes:
        network: in evaluation mode, on the CPU.
        findings: names of its outputs.
        epoch: of the checkpoint.
        sha256: of its weights, see `state_sha256`.
        config: the run's resolved configuration.
        task: converts its logits into scores.
        split_fingerprint: of the training data, see `cxr.data.split`.
        size: side of the images that the network sees, in pixels; with `tta=crops` batches have whole cached images.
    """

    network: Network
    findings: tuple[str, ...]
    epoch: int
    sha256: str
    config: dict[str, Any]
    task: ClassificationTask
    split_fingerprint: str = ""
    size: int = 0

    @property
    def tta(self) -> str:
        """What scores are means over: `flip`, `crops` or `none`, see `cxr.training.averaged`."""
        return str(self.config.get("tta", "none"))

    @property
    def identity(self) -> str:
        """SHA-256 that identifies what computes the scores: that of the weights, without averaging."""
        return self.sha256 if self.tta == "none" else hashlib.sha256(f"{self.sha256} {self.tta}".encode()).hexdigest()

    def scores(self, batch: Batch) -> tuple[Tensor, NetworkOutput]:
        """Scores (B, L) float32 of a batch, and the network's output for the images as they are.

        With `tta=crops`, the output is that of the middle crops, and it has no attention maps: they would not lie over
        the image.
        """
        image = batch["image"]
        if self.tta == "crops":
            far = image.shape[-1] - self.size
            corners = ((far // 2, far // 2), (0, 0), (0, far), (far, 0), (far, far))
            views = [image[..., y : y + self.size, x : x + self.size] for y, x in corners]
        else:
            views = [image, image.flip(3)] if self.tta == "flip" else [image]
        outputs = [self.network({**batch, "image": view}) for view in views]
        found = [self.task.scores(output.logits.float()) for output in outputs]
        output = outputs[0]._replace(attention=None) if self.tta == "crops" else outputs[0]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0), output


def load_network(path: Path, content: dict[str, Any] | None = None) -> LoadedNetwork:
    """Rebuilds a network from one checkpoint file; no object in it is unpickled.

    Args:
        content: the result of `read_checkpoint`; by default the file is read.

    Raises:
        CxrError: the file is missing, broken, or not one of this framework's checkpoints.
    """
    checkpoint = content or read_checkpoint(path)
    about = checkpoint["cxr"]
    config = read_configuration(about["config"], f"the configuration in {path}")
    findings, preprocessing = tuple(about["findings"]), read_preprocessing(about.get("preprocessing"), str(path))
    try:
        network = build_network(config, len(findings), preprocessing, label_vectors=about.get("label_vectors"))
        task = build_task(config, findings)
    except CxrError:
        raise
    except Exception as error:  # the configuration is untrusted: its values may have any type
        raise CxrError(f"no network can be built from the configuration in {path}: {first_line(error)}") from error
    return loaded_into(network, checkpoint, path, config, task)


def loaded_into(
    network: Network, checkpoint: Mapping[str, Any], path: Path, config: dict[str, Any], task: ClassificationTask
) -> LoadedNetwork:
    """Loads a checkpoint's weights into the network of its own configuration.

    Raises:
        CxrError: they do not fit.
    """
    try:
        network.load_state_dict(network_state(checkpoint))
    except RuntimeError as error:
        raise CxrError(f"the weights in {path} do not fit its configuration: {first_line(error)}") from error
    findings, epoch = tuple(checkpoint["cxr"]["findings"]), int(checkpoint["epoch"])
    sha256, fingerprint = state_sha256(checkpoint["state_dict"]), str(checkpoint["cxr"]["split_fingerprint"])
    shown = network.preprocessing
    if config.get("tta") == "crops":
        check_crops(shown, path)
        network.preprocessing = replace(shown, size=shown.cached, crop=False)
    return LoadedNetwork(network.eval(), findings, epoch, sha256, config, task, fingerprint, shown.size)


def check_crops(preprocessing: Preprocessing, origin: Path) -> None:
    """Raises CxrError if a network does not see crops, so that `tta=crops` has none to average over."""
    if not preprocessing.crop:
        raise CxrError(f"tta=crops needs a network trained with crop=true, and that of {origin} was not; use tta=flip")


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of the network, without those of the loss, by parameter name."""
    state = checkpoint["state_dict"]
    return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, read with `weights_only=True`.

    Raises:
        CxrError: the file is missing, broken, or not a checkpoint of this framework. Values that the callers use
            without further checks have the expected types.
    """
    try:
        with open_regular(path, None) as file:
            content = file.read()
    except FileNotFoundError:
        raise CxrError(f"{path} is missing; has the run written a checkpoint yet?") from None
    return parse_checkpoint(content, path)


def parse_checkpoint(content: bytes, path: Path) -> dict[str, Any]:
    """Parses and checks the bytes of a checkpoint, see `read_checkpoint`; errors name `path`."""
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CxrError(f"{path} is not a readable checkpoint (truncated, damaged, or not a checkpoint)") from error
    if not isinstance(checkpoint, dict) or not {"cxr", "state_dict", "epoch"} <= checkpoint.keys():
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks the network's configuration")
    about, state = checkpoint["cxr"], checkpoint["state_dict"]
    texts = ("config", "split_fingerprint", "labels_sha256")
    if not isinstance(about, dict) or not all(isinstance(about.get(name), str) for name in texts):
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks one of {', '.join(texts)}")
    findings = about.get("findings")
    if not isinstance(findings, list) or not findings or not all(isinstance(name, str) for name in findings):
        raise CxrError(f"{path} is not a checkpoint of this framework: it lacks the names of its findings")
    check_names(findings, "finding", str(path))
    if type(checkpoint["epoch"]) is not int or checkpoint["epoch"] < 0:
        raise CxrError(f"{path} is not a checkpoint of this framework: its epoch is {checkpoint['epoch']!r}")
    odd = [name for name, value in state.items() if not _is_weight(name, value)] if isinstance(state, dict) else ["all"]
    if odd:
        raise CxrError(f"{path} is not a checkpoint of this framework: its weight {odd[0]!r} is not a plain tensor")
    return checkpoint


def _is_weight(name: object, value: object) -> bool:
    """Whether it is a named dense tensor with storage for all its elements; an expanded view can declare any size."""
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def resume_position(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """(epoch, number of its batches already trained on) at which training resumes from the content of `last.ckpt`.

    Raises:
        CxrError: the counts of Lightning's loops are missing or not numbers.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epoch = loop["epoch_progress"]["current"]
        batches = loop["epoch_loop.batch_progress"]["current"]["processed"] if is_within_epoch(epoch) else 0
        return int(epoch["completed"]), int(batches)
    except (KeyError, TypeError, ValueError):
        raise CxrError("last.ckpt has no epoch to resume from; was it written by this framework?") from None


def is_within_epoch(progress: Mapping[str, int]) -> bool:
    """Whether an epoch has begun and not ended, by Lightning's counts of epochs."""
    return progress["started"] > progress["processed"]
