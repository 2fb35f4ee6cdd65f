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
_TAU = "cxr.training.callbacks.tau_norm.TauNormalisation"


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
    kept_parts: Sequence[str] = (),
) -> Ancestry:
    """Loads the weights of a finished run's best checkpoint, and returns the data they were trained on.

    The weights of a part are loaded if their names and shapes, and for the head the findings, are those of the run; the
    backbone's must be. The other parts keep their random initialization, which is printed.

    Args:
        init: a run directory or a checkpoint file.
        findings: L names of the network's outputs.
        evaluated: rows (`patient`, `image`) of the splits on which the network will be evaluated, by name.
        with_head: load the head's weights if they fit.
        kept_parts: see `kept_parts`.

    Raises:
        CxrError: there is no checkpoint, its weights do not fit, a kept part does not fit, or they were
            trained on one of these splits.
    """
    given = Path(init).expanduser()
    path = Run(given).best if given.is_dir() else given
    if not path.exists():
        raise CxrError(f"init={init} is not a finished run: {path} is missing; pass runs/<name> or a checkpoint file")
    checkpoint = read_checkpoint(path)
    about, source, target = checkpoint["cxr"], network_state(checkpoint), network.state_dict()

    def shapes(state: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in state.items() if name.startswith(f"{part}.")}

    other = [part for part in PARTS if shapes(source, part) != shapes(target, part)]
    if "head" not in other and not (with_head and tuple(about["findings"]) == tuple(findings)):
        other.append("head")
    if "backbone" in other:
        ours, theirs = shapes(target, "backbone"), shapes(source, "backbone")
        wrong = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        raise CxrError(
            f"init={init} has the weights of another network: {wrong[0]} and {len(wrong) - 1} more do not fit; choose "
            "the backbone of that run"
        )
    kept = next((part for part in kept_parts if part in other), None)
    if kept:
        raise CxrError(
            f"freeze={kept} or callbacks=tau_norm keeps the {kept} of init={init}, which does not fit this network; "
            f"choose the {kept} and the findings of that run ({', '.join(about['findings'])}), and init_head=true"
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
        for name, value in target.items():
            if name.partition(".")[0] not in other:
                value.copy_(source[name])
    ancestry = read_ancestry(about.get("ancestry"), str(path))
    for split, rows in (evaluated or {}).items():
        ancestry.check(f"init={init}", split, rows["patient"].tolist(), rows["image"].tolist())
    print(f"initial weights: {path}" + "".join(_not_loaded(part, target) for part in other), flush=True)
    return ancestry


def _not_loaded(part: str, state: Mapping[str, torch.Tensor]) -> str:
    """What becomes of a part that is not that of the run."""
    has = any(name.startswith(f"{part}.") for name in state)
    return f"; the {part} is initialized randomly" if has else f"; the {part} of that run is not used"


def kept_parts(config: Mapping[str, Any]) -> list[str]:
    """The parts that keep their initial weights, which must then be those of `init`."""
    tau = any(node["_target_"] == _TAU for node in config["callbacks"].values())
    return list(dict.fromkeys([*config["freeze"], *["head"] * tau]))


def check_frozen(config: Mapping[str, Any]) -> None:
    """Raises CxrError if `freeze` names no part of a network, or random weights of backbone or head would be kept."""
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
    kept = next((part for part in kept_parts(config) if part != "backbone"), None)
    if kept and not config["init"]:
        raise CxrError(
            f"freeze={as_override(parts)} or callbacks=tau_norm keeps the initial weights of the {kept}, which are "
            "random; pass init=runs/<name>, a finished run"
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
