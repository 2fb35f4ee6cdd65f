"""Opens a finished run or an ensemble of runs as a model that scores new images, with PyTorch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr.data.hierarchy import parent_columns
from cxr.errors import CxrError
from cxr.evaluation.evaluate import fit_scaling
from cxr.files.reading import read_text
from cxr.metrics.scaling import Scaling
from cxr.model.fusion import NoFusion
from cxr.run.directory import Run
from cxr.run.predictions import read_predictions
from cxr.training.checkpoint import LoadedNetwork, load_network
from cxr.use.scoring import Floats, Forward, Model, Outputs
from cxr.use.system import Member, Rule, System, read_scaling

_METHODS = {  # of ensembles, with the kind of their rule
    "Average": "mean", "Weighted": "mean", "Greedy": "mean", "Geometric": "logit", "Stacking": "logit",
    "MaxVote": "max", "HardVote": "vote",
}  # fmt: skip
_OURS = "cxr.ensemble.combine."
CALIBRATION = "platt"  # where the run has no calibration of its own


class Scorer(nn.Module):
    """A network of which the inputs are tensors and the outputs scores, in the order of a system's findings.

    Args:
        loaded: the network and its task.
        findings: L names in the order of the system.
    """

    order: Tensor

    def __init__(self, loaded: LoadedNetwork, findings: Sequence[str]) -> None:
        super().__init__()
        self.network, self.scores, self.size = loaded.network, loaded.scores, loaded.size
        order = [loaded.findings.index(name) for name in findings]
        self.same = order == list(range(len(order)))
        self.register_buffer("order", torch.tensor(order))

    def forward(self, image: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (N, 1, S, S) uint8 and attributes (N, 5) to scores (N, L) and attention maps (N, K, h, w)."""
        score, output = self.scores({"image": image, "attributes": attributes})
        attention = output.attention
        if self.same:
            return score, attention
        if attention is not None and output.attention_of == "findings":
            attention = attention[:, self.order]
        return score[:, self.order], attention


@dataclass(frozen=True)
class Opened:
    """A run as a system.

    Attributes:
        run: the directory.
        system: findings, rule, calibration, operating points.
        members: the runs of its networks.
        loaded: their networks.
        scorers: their networks with scores as outputs.
    """

    run: Run
    system: System
    members: tuple[Run, ...]
    loaded: tuple[LoadedNetwork, ...]
    scorers: tuple[Scorer, ...]

    def model(self, device: torch.device) -> Model:
        """The model that scores with these networks on a device, in float32."""
        return Model(self.system, tuple(forward_with(scorer.to(device), device) for scorer in self.scorers))


def open_run(path: str) -> Opened:
    """Opens a run, or the members of an ensemble's run.

    Args:
        path: the directory.

    Raises:
        CxrError: it is not a finished run; a member is missing or has other weights than in the ensemble; or the
            ensemble's method needs all images of a split at once, or is not one of this project.
    """
    run = Run(Path(path))
    if not run.path.is_dir():
        raise CxrError(f"run={path} is not a directory; give one of runs/")
    metrics = run.metrics()
    if run.best.exists():
        loaded = load_network(run.best)
        rule = Rule("mean", ((1.0,),) * len(loaded.findings))
        return _opened(run, metrics, (run,), (loaded,), rule, loaded.findings, loaded.identity)
    config = run.config()
    if "method" not in config or not isinstance(metrics.get("checkpoint_sha256"), dict):
        raise CxrError(f"run={path} has no checkpoints/best.ckpt and is not an ensemble; has its training finished?")
    members, networks = [], []
    for key, known in metrics["checkpoint_sha256"].items():
        member = Run(Path(str(key)))
        if not member.best.exists():
            restore = "restore that run"
            if not member.path.is_absolute():
                restore += f", or start in the folder that has it, which {Path.cwd()} is not"
            raise CxrError(f"{key}/checkpoints/best.ckpt is missing, and {path} was made from it; {restore}")
        loaded = load_network(member.best)
        if loaded.sha256 != known:
            raise CxrError(f"{key} has other weights than {path} was made from; make the ensemble again")
        members.append(member)
        networks.append(loaded)
    stored = read_predictions(run.predictions("val"))
    rule = _rule(path, config, metrics, stored.findings, [str(key) for key in metrics["checkpoint_sha256"]])
    about = json.dumps([loaded.identity for loaded in networks] + [rule.kind, rule.weights, rule.intercept])
    identity = sha256(about.encode()).hexdigest()
    return _opened(run, metrics, tuple(members), tuple(networks), rule, stored.findings, identity)


def _opened(
    run: Run, metrics: Mapping[str, Any], members: tuple[Run, ...], loaded: tuple[LoadedNetwork, ...], rule: Rule,
    findings: tuple[str, ...], model: str,
) -> Opened:  # fmt: skip
    described = tuple(_member(member, one) for member, one in zip(members, loaded, strict=True))
    parents = {_parents(one, findings) for one in loaded}
    common = parents.pop() if len(parents) == 1 else (-1,) * len(findings)
    points = metrics.get("val", {}).get("operating_points") or {}
    system = System(
        run.path.resolve().name, model, findings, common, described, rule, _scaling(run, findings),
        {name: tuple(at["threshold"].get(finding) for finding in findings) for name, at in points.items()},
    )  # fmt: skip
    return Opened(run, system, members, loaded, tuple(Scorer(one, findings) for one in loaded))


def _member(run: Run, loaded: LoadedNetwork) -> Member:
    network = loaded.network
    size = network.preprocessing.size
    with torch.inference_mode():
        image, attributes = torch.zeros(1, 1, size, size, dtype=torch.uint8), torch.zeros(1, 5)
        maps = loaded.scores({"image": image, "attributes": attributes})[1].attention is not None
    joins = not isinstance(network.fusion, NoFusion)
    return Member(run.path.resolve().name, network.preprocessing, joins, network.attention_of if maps else "")


def _parents(loaded: LoadedNetwork, findings: Sequence[str]) -> tuple[int, ...]:
    tree = getattr(loaded.task, "hierarchy", None)
    return tuple(parent_columns(tree, findings)) if tree else (-1,) * len(findings)


def _scaling(run: Run, findings: tuple[str, ...]) -> Scaling | None:
    """The calibration of the run, or else one fitted on its validation scores; None without those."""
    path = run.path / "calibration.json"
    try:
        return read_scaling(json.loads(read_text(path)), findings, str(path))
    except FileNotFoundError:
        pass
    except (ValueError, RecursionError):
        raise CxrError(f"{path} is not JSON; remove it, or write it again with python -m cxr evaluate") from None
    if not run.predictions("val").exists():
        return None
    return fit_scaling(read_predictions(run.predictions("val")), CALIBRATION)


def _rule(
    path: str, config: Mapping[str, Any], metrics: Mapping[str, Any], findings: Sequence[str], keys: Sequence[str]
) -> Rule:
    """The rule of an ensemble from its configuration and its `metrics.json`."""
    target = str(config["method"].get("_target_"))
    kind = _METHODS.get(target.removeprefix(_OURS)) if target.startswith(_OURS) else None
    if kind is None:
        why = "ranks an image among all images of a split" if target.endswith(".RankAverage") else "is not known here"
        raise CxrError(f"{path} combines its members with {target}, which {why}; use another method")
    try:
        if target == f"{_OURS}Stacking":
            each = [metrics["coefficients"][finding] for finding in findings]
            weights = tuple(tuple(float(one["members"][key]) for key in keys) for one in each)
            return Rule(kind, weights, tuple(float(one["intercept"]) for one in each))
        if kind in ("max", "vote"):
            return Rule(kind)
        shared = metrics["weights"] if set(metrics["weights"]) == set(keys) else None
        weights = tuple(
            tuple(float((shared or metrics["weights"][finding])[key]) for key in keys) for finding in findings
        )
        return Rule(kind, weights, (0.0,) * len(findings) if kind == "logit" else ())
    except (KeyError, TypeError, ValueError) as error:
        raise CxrError(f"{path}/metrics.json lacks weights of {error}; make the ensemble again") from None


def forward_with(scorer: Scorer, device: torch.device) -> Forward:
    """A member that PyTorch computes on a device."""

    def forward(image: NDArray[np.uint8], attributes: Floats) -> Outputs:
        with torch.inference_mode():
            score, maps = scorer(torch.from_numpy(image).to(device), torch.from_numpy(attributes).to(device))
        return score.cpu().numpy(), None if maps is None else maps.float().cpu().numpy(), None

    return forward
