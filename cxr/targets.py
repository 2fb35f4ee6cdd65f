"""From a configuration node to an object: the one place where `_target_` becomes an instance, and which may."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from cxr.errors import CxrError, first_line

# A configuration may come from somebody's checkpoint: it can name these and nothing else.
ALLOWED = (
    "cxr.data.augment.",
    "cxr.data.sampling.",
    "cxr.data.sources.",
    "cxr.ensemble.combine.",
    "cxr.loss.",
    "cxr.model.",
    "cxr.training.schedule.",
    "albumentations.",
    "lightning.pytorch.loggers.",
    "torch.nn.",
    "torch.optim.",
)


def build(config: Any, *args: Any, **kwargs: Any) -> Any:
    """Instantiates the `_target_` of a config node.

    Raises:
        CxrError: the target lies outside the allowed packages, does not exist, or refuses its arguments.
    """
    node: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    _check_targets(node)
    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, CxrError):
            raise cause from error
        target = node.get("_target_")
        raise CxrError(f"the configuration of {target} does not work: {first_line(cause)}") from error


def _check_targets(node: Any) -> None:
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(ALLOWED):
            raise CxrError(
                f"_target_={target} is not allowed; targets lie in {', '.join(name + '*' for name in ALLOWED)}"
            )
        for value in node.values():
            _check_targets(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            _check_targets(value)
