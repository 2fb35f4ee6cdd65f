"""Initial weights from a finished run, `init=runs/a`, the data they were trained on, and frozen parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cxr.configuration.kinds import as_override
from cxr.errors import CxrError
from cxr.imaging.preprocessing import read_preprocessing
from cxr.model.network import Network
from cxr.run.ancestry import Ancestry, read_ancestry
from cxr.run.directory import Run
from cxr.training.checkpoint import network_state, read_checkpoint

PARTS = ("backbone", "attention", "fusion", "head")
_HEAD = "head."


def ancestry_of_options(config: Mapping[str, Any]) -> Ancestry:
    """The training data of the weights that the backbone's options name.

    Weights of timm's own hub were trained on photographs. The training data of a file or of another hub are unknown. So
    are those of a custom backbone with a string option, which may name a file.
    """
    backbone = config["backbone"]
    if backbone.get("weights"):
        return Ancestry(unknown=(f"backbone.weights={Path(str(backbone['weights'])).name}",))
    custom = not str(backbone["_target_"]).startswith("cxr.")
    texts = [key for key, value in backbone.items() if isinstance(value, str) and key not in ("_target_", "name")]
    if backbone.get("pretrained") and (custom or ":" in str(backbone.get("name"))):
        return Ancestry(unknown=(f"the pretrained weights of {backbone.get('name') or backbone['_target_']}",))
    if texts and custom:
        return Ancestry(unknown=(f"the initial weights of {backbone['_target_']}",))
    return Ancestry()


def start_from(
    network: Network,
    init: str,
    findings: Sequence[str],
    evaluated: Mapping[str, pd.DataFrame] | None = None,
    with_head: bool = True,
) -> Ancestry:
    """Loads the weights of a finished run's best checkpoint, and returns the data they were trained on.

    Backbone and attention must be those of the run. The head's weights are loaded if its shapes and findings are the
    same; otherwise it keeps its random initialization, which is printed.

    Args:
        init: a run directory or a checkpoint file.
        findings: L names of the network's outputs.
        evaluated: rows (`patient`, `image`) of the splits on which the network will be evaluated, by name.
        with_head: load the head's weights if they fit.

    Raises:
        CxrError: there is no checkpoint, its weights do not fit, or they were trained on one of these splits.
    """
    given = Path(init).expanduser()
    path = Run(given).best if given.is_dir() else given
    if not path.exists():
        raise CxrError(f"init={init} is not a finished run: {path} is missing; pass runs/<name> or a checkpoint file")
    checkpoint = read_checkpoint(path)
    about, source, target = checkpoint["cxr"], network_state(checkpoint), network.state_dict()

    def fits(name: str) -> bool:
        return name in source and source[name].shape == target[name].shape

    same_head = with_head and tuple(about["findings"]) == tuple(findings)
    same_head = same_head and all(fits(name) for name in target if name.startswith(_HEAD))
    loaded = [name for name in target if same_head or not name.startswith(_HEAD)]
    wrong = [name for name in loaded if not fits(name)]
    wrong += [name for name in source if name not in target and not name.startswith(_HEAD)]
    if wrong:
        raise CxrError(
            f"init={init} has the weights of another network: {wrong[0]} and {len(wrong) - 1} more do not fit; choose "
            "its backbone and attention"
        )
    preprocessing = read_preprocessing(about.get("preprocessing"), str(path))
    for name in ("mean", "std"):
        before, now = getattr(preprocessing, name), getattr(network.preprocessing, name)
        if before != now:
            raise CxrError(
                f"init={init} was trained with backbone.{name}={before}, and this network has {now}; pass "
                f"backbone.{name}={before}"
            )
    with torch.no_grad():
        for name in loaded:
            target[name].copy_(source[name])
    ancestry = read_ancestry(about.get("ancestry"), str(path))
    for split, rows in (evaluated or {}).items():
        ancestry.check(f"init={init}", split, rows["patient"].tolist(), rows["image"].tolist())
    print(f"initial weights: {path}" + ("" if same_head else "; the head is initialized randomly"), flush=True)
    return ancestry


def check_frozen(config: Mapping[str, Any]) -> None:
    """Raises CxrError if `freeze` names no part of a network, or freezes a backbone of random weights."""
    backbone, parts = config["backbone"], config["freeze"]
    for name in parts:
        if name not in PARTS:
            raise CxrError(f"freeze={as_override(parts)} names {name}; the parts of a network are {', '.join(PARTS)}")
    custom = not str(backbone["_target_"]).startswith("cxr.")
    if "backbone" in parts and not custom and not (config["init"] or backbone["pretrained"] or backbone["weights"]):
        raise CxrError(
            f"freeze={as_override(parts)} freezes the initial weights of the backbone, which are random; pass "
            "init=runs/<name>, a finished run, or backbone.pretrained=true"
        )


def freeze(network: Network, parts: Sequence[str]) -> None:
    """Freezes parts of a network: no gradients, and batch norm in evaluation mode, which keeps its buffers.

    Raises:
        CxrError: nothing is left to train.
    """
    for name in parts:
        network.get_submodule(name).eval().requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise CxrError(f"freeze={as_override(list(parts))} leaves nothing to train; remove a part")
