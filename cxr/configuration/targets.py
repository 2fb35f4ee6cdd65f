"""From a configuration node to an object: the one place where `_target_` becomes an instance, and which may."""

import inspect
import re
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from cxr.configuration.plugins import is_own, trusted
from cxr.errors import CxrError, first_line

# A configuration from a run or a checkpoint, which may come from anybody, can name these, what a trusted plugin
# defines, and nothing else.
ALLOWED = (
    "cxr.data.augment.",
    "cxr.data.sampling.",
    "cxr.data.sources.",
    "cxr.ensemble.combine.",
    "cxr.ensemble.stacking.",
    "cxr.ensemble.weighted.",
    "cxr.loss.",
    "cxr.model.",
    "cxr.task.",
    "cxr.training.callbacks.",
    "cxr.training.schedule.",
    "albumentations.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "torch.nn.",
    "torch.optim.",
)

# What makes files or folders, or takes part in training: only the caller that wants one of these has it, by `acting`.
SOURCES, LOGGERS = ("cxr.data.sources.",), ("lightning.pytorch.loggers.",)
CALLBACKS = ("cxr.training.callbacks.", "lightning.pytorch.callbacks.")
_PASSIVE = ("Callback", "EarlyStopping", "ModelSummary", "RichModelSummary")  # of Lightning's callbacks

_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# Of other people's packages, only classes of these kinds: their modules hold much else.
_KINDS = frozenset(
    {
        "albumentations.core.composition.BaseCompose",
        "albumentations.core.transforms_interface.BasicTransform",
        "lightning.pytorch.callbacks.callback.Callback",
        "lightning.pytorch.loggers.logger.Logger",
        "torch.nn.modules.module.Module",
        "torch.optim.optimizer.Optimizer",
    }
)


def build(config: Any, *args: Any, acting: tuple[str, ...] = (), **kwargs: Any) -> Any:
    """Instantiates the `_target_` of a config node.

    Args:
        config: the node.
        args: for the target.
        acting: `SOURCES`, `LOGGERS` or `CALLBACKS`, where the node's own target may lie in it; no other target may.
        kwargs: for the target.

    Raises:
        CxrError: the target lies outside the allowed packages, does not exist, or refuses its arguments; or a value
            is a reference such as `${oc.env:HOME}`, which instantiating would look up.
    """
    node: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    _check(node, acting)
    _check(kwargs)  # a finding's name could be a reference too
    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, CxrError):
            raise cause from error
        target = node.get("_target_")
        raise CxrError(f"the configuration of {target} does not work: {first_line(cause)}") from error


def accepted_arguments(config: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments `offered` that the signature of a node's `_target_` names.

    Raises:
        CxrError: the target lies outside the allowed packages, or does not exist.
    """
    parameters = inspect.signature(_found(config.get("_target_"))).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def _check(node: Any, acting: tuple[str, ...] = ()) -> None:
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            _found(node["_target_"])
            acts = node["_target_"].startswith(SOURCES + LOGGERS + CALLBACKS) and not is_own()
            if acts and not node["_target_"].startswith(acting):
                raise CxrError(f"_target_={node['_target_']} is not allowed in this place")
        for value in node.values():
            _check(value)
    elif isinstance(node, str):
        if "${" in node:
            raise CxrError(f"the configuration holds the reference {node!r}; write its value in its place")
    elif isinstance(node, Sequence):
        for value in node:
            _check(value)


def _found(target: Any) -> Any:
    """The class or function that is `target`.

    Raises:
        CxrError: `target` is not `<module>.<name>` of a public class or function made for configurations.

    The name is looked up in a module and no further: `torch.nn.modules.module.functools.partial` begins like an
    allowed name and leads elsewhere.
    """
    module, _, name = str(target).rpartition(".")
    plugin = trusted(module)
    if not isinstance(target, str) or not (target.startswith(ALLOWED) or plugin or (is_own() and module)):
        remedy = f"; if you trust the package {module.partition('.')[0]}, pass plugins=[{module.partition('.')[0]}]"
        raise CxrError(
            f"_target_={target} is not allowed; targets lie in {', '.join(name + '*' for name in ALLOWED)}"
            + remedy * (isinstance(target, str) and bool(_PACKAGE.fullmatch(module)))
        )
    try:
        found = getattr(_imported(module, target), name)
    except AttributeError as error:
        raise CxrError(f"_target_={target} does not exist: {first_line(error)}") from error
    if inspect.isclass(found):
        _refuse_active(found, target)
    if is_own():
        return found
    if plugin:
        allowed = (inspect.isclass(found) or inspect.isfunction(found)) and trusted(found.__module__)
    elif inspect.isclass(found):
        ours = found.__module__.startswith("cxr.")
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in found.__mro__}
        allowed = f"{found.__module__}.".startswith(ALLOWED) and (ours or not kinds.isdisjoint(_KINDS))
    else:
        allowed = inspect.isfunction(found) and module.startswith("cxr.") and found.__module__ == module
    if not allowed or name.startswith("_"):
        raise CxrError(
            f"_target_={target} is not allowed; it is no layer, optimizer, augmentation, logger, callback, or part of "
            "this framework that is made for configurations"
        )
    return found


def _refuse_active(found: type, target: str) -> None:
    """Raises CxrError for callbacks of Lightning that write files, or change weights or steps behind a run's back."""
    for kind in found.__mro__:
        if f"{kind.__module__}.".startswith(CALLBACKS[1]) and kind.__name__ not in _PASSIVE:
            raise CxrError(
                f"_target_={target} is not allowed: Lightning's {kind.__name__} would write, step or stop in another "
                "way than a run does; use callbacks=early_stopping, callbacks=ema, checkpoint.* or synthetic_batch_size"
            )


def _imported(module: str, target: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:  # a module may do anything when it is imported
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise CxrError(f"_target_={target} does not exist: {first_line(error)}") from error
        frame = traceback.extract_tb(error.__traceback__)[-1]
        file, line = frame.filename, frame.lineno
        if isinstance(error, SyntaxError):
            file, line = str(error.filename), error.lineno
        raise CxrError(
            f"_target_={target}: {module} breaks when it is imported, at {Path(file).name} line {line}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
