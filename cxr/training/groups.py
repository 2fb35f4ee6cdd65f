"""Groups of parameters with their own learning rate and weight decay: `optimizer.groups`."""

from collections.abc import Iterable, Mapping
from typing import Any

from timm.models._manipulate import group_with_matcher
from torch import nn
from torch.optim import Optimizer

from cxr.configuration.targets import build
from cxr.errors import CxrError
from cxr.model.network import Network
from cxr.task.base import OptimizerFactory

_NET, _CLASSIFIER = "backbone.", "head.weight"


def build_optimizer(config: Mapping[str, Any]) -> OptimizerFactory:
    """The optimizer of a resolved configuration, without its groups; see `with_groups`."""
    made: OptimizerFactory = build({key: value for key, value in config["optimizer"].items() if key != "groups"})
    return made


def with_groups(make: OptimizerFactory, network: Network, config: Mapping[str, Any]) -> OptimizerFactory:
    """An optimizer that divides the parameters of a network as `optimizer.groups` says.

    With `layer_decay` d, a layer of the backbone that is n layers below the head has the rate lr * d^n (Bao et al.,
    "BEiT", ICLR 2022); layers are those of timm's `group_matcher`. Parameters outside the backbone have lr. Without
    `decay_norms`, biases, other vectors and scalars (as in norms), and what the backbone's `no_weight_decay()` names
    have no weight decay.

    The group with the highest rate is the first one, whose rate is logged.
    """
    decay, decay_norms = (config["optimizer"]["groups"][name] for name in ("layer_decay", "decay_norms"))
    if decay is None and decay_norms:
        return make
    layers = backbone_layers(network.backbone) if decay is not None else {}
    exempt = _exempt(network.backbone)

    def grouped(parameters: Iterable[nn.Parameter]) -> Optimizer:
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        found: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for parameter in parameters:
            name = names.get(id(parameter), "")
            own = name.removeprefix(_NET) if name.startswith(_NET) else ""
            bare = parameter.ndim <= 1 or name.endswith(".bias") or own in exempt
            key = (layers.get(own, 0), bare and not decay_norms)
            found.setdefault(key, []).append(parameter)
        optimizer = make(
            [{"params": found[key], **({"weight_decay": 0.0} if key[1] else {})} for key in sorted(found)]  # type: ignore[misc]
        )
        for group, (above, _) in zip(optimizer.param_groups, sorted(found), strict=True):
            group["lr"] *= 1 if decay is None else decay**above
        return optimizer

    return grouped


def backbone_layers(backbone: nn.Module) -> dict[str, int]:
    """For each parameter of a backbone, by name, how many layers the classifier is above its own.

    Raises:
        CxrError: the backbone has no `group_matcher`.
    """
    net, prefix = _timm_model(backbone)
    matcher = getattr(net, "group_matcher", None)
    if matcher is None:
        raise CxrError(
            f"optimizer.groups.layer_decay needs the layers of the backbone, and {type(backbone).__name__} has no "
            "group_matcher; pass optimizer.groups.layer_decay=null, or choose a timm model"
        )
    parameters = [*net.named_parameters(), (_CLASSIFIER, None)]  # timm counts layers up to the classifier
    layers = group_with_matcher(parameters, matcher(coarse=False), reverse=True)
    top = layers.pop(_CLASSIFIER)
    return {f"{prefix}{name}": top - layer for name, layer in layers.items()}


def _exempt(backbone: nn.Module) -> set[str]:
    """Names of the parameters that the backbone itself exempts from weight decay."""
    net, prefix = _timm_model(backbone)
    return {f"{prefix}{name}" for name in net.no_weight_decay()} if hasattr(net, "no_weight_decay") else set()


def _timm_model(backbone: nn.Module) -> tuple[Any, str]:
    """The timm model in a backbone, or the backbone itself, and the prefix of its names."""
    net = getattr(backbone, "net", None)
    return (backbone, "") if net is None else (net, "net.")
