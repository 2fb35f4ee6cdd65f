"""First weights: those of a finished run, `init=runs/a`, what they have learnt from, and which of them are frozen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cxr.configuration.kinds import written
from cxr.errors import CxrError
from cxr.imaging.preprocessing import read_preprocessing
from cxr.model.network import Network
from cxr.run.ancestry import Ancestry, read_ancestry
from cxr.run.directory import Run
from cxr.training.checkpoint import network_state, read_checkpoint

PARTS = ("backbone", "attention", "head")
_HEAD = "head."


def ancestry_of_options(config: Mapping[str, Any]) -> Ancestry:
    """What the weights that the backbone's options name have learnt from.

    The weights of timm's own hub are of photographs; those of a file, or of another hub, may be of anything. So may
    those of a backbone of the user's own, if one of its options is a text, which may name a file.
    """
    backbone = config["backbone"]
    if backbone.get("weights"):
        return Ancestry(unknown=(f"backbone.weights={Path(str(backbone['weights'])).name}",))
    ours = str(backbone["_target_"]).startswith("cxr.")
    texts = [key for key, value in backbone.items() if isinstance(value, str) and key not in ("_target_", "name")]
    if backbone.get("pretrained") and (not ours or ":" in str(backbone.get("name"))):
        return Ancestry(unknown=(f"the pretrained weights of {backbone.get('name') or backbone['_target_']}",))
    if texts and not ours:
        return Ancestry(unknown=(f"the first weights of {backbone['_target_']}",))
    return Ancestry()


def start_from(
    network: Network,
    init: str,
    findings: Sequence[str],
    judged: Mapping[str, pd.DataFrame] | None = None,
    with_head: bool = True,
) -> Ancestry:
    """Loads the weights of a finished run's best checkpoint, and returns what they have learnt from.

    Backbone and attention must be those of the run. The head is taken over if it fits and its findings are the same;
    otherwise it starts anew, which is printed.

    Args:
        network: whose weights are replaced.
        init: a run directory, or a checkpoint file.
        findings: L names of the network's outputs.
        judged: rows (`patient`, `image`) of the splits that the network will be judged on, by name.
        with_head: whether the head is taken over where it fits.

    Raises:
        CxrError: there is no checkpoint, its weights do not fit, or they have learnt from one of these splits.
    """
    place = Path(init).expanduser()
    path = Run(place).best if place.is_dir() else place
    if not path.exists():
        raise CxrError(f"init={init} is no finished run: {path} is missing; give runs/<name>, or a checkpoint file")
    checkpoint = read_checkpoint(path)
    about, state, own = checkpoint["cxr"], network_state(checkpoint), network.state_dict()
    head = [name for name in own if name.startswith(_HEAD)]
    fits = all(name in state and state[name].shape == own[name].shape for name in head)
    same = with_head and fits and tuple(about["findings"]) == tuple(findings)
    taken = [name for name in own if same or not name.startswith(_HEAD)]
    wrong = [name for name in taken if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own and not name.startswith(_HEAD)]
    if wrong:
        raise CxrError(
            f"init={init} has the weights of another network: {wrong[0]} and {len(wrong) - 1} more do not fit; choose "
            "its backbone and attention"
        )
    learnt = read_preprocessing(about.get("preprocessing"), str(path))
    for name in ("mean", "std"):
        theirs, mine = getattr(learnt, name), getattr(network.preprocessing, name)
        if theirs != mine:
            raise CxrError(
                f"init={init} learnt with backbone.{name}={theirs}, and this network has {mine}; pass "
                f"backbone.{name}={theirs}"
            )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(state[name])
    ancestry = read_ancestry(about.get("ancestry"), str(path))
    for split, rows in (judged or {}).items():
        ancestry.check(f"init={init}", split, rows["patient"].tolist(), rows["image"].tolist())
    print(f"first weights are those of {path}" + ("" if same else "; the head starts anew"), flush=True)
    return ancestry


def check_frozen(config: Mapping[str, Any]) -> None:
    """Refuses `freeze` where it names no part of a network, or would keep a backbone of random weights.

    Raises:
        CxrError: either.
    """
    backbone, parts = config["backbone"], config["freeze"]
    for name in parts:
        if name not in PARTS:
            raise CxrError(f"freeze={written(parts)} names {name}; the parts of a network are {', '.join(PARTS)}")
    ours = str(backbone["_target_"]).startswith("cxr.")
    if "backbone" in parts and ours and not (config["init"] or backbone["pretrained"] or backbone["weights"]):
        raise CxrError(
            f"freeze={written(parts)} keeps the first weights of the backbone, which are random; pass "
            "init=runs/<name>, a finished run, or backbone.pretrained=true"
        )


def freeze(network: Network, parts: Sequence[str]) -> None:
    """Keeps parts of a network as they are: no gradient, and batch norm in evaluation mode, which keeps its buffers.

    Args:
        network: in training mode.
        parts: of `backbone`, `attention` and `head`.

    Raises:
        CxrError: nothing is left to train.
    """
    for name in parts:
        network.get_submodule(name).eval().requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise CxrError(f"freeze={written(list(parts))} leaves nothing to train; take a part out")
