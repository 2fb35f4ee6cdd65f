"""Instantiates the `_target_` of a configuration, and checks which classes and functions it may name."""

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

from cxr.configuration.plugins import from_user, trusted
from cxr.errors import CxrError, first_line

# A configuration from a run or a checkpoint, which may be untrusted, can name these and members of trusted plugins.
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

# Data sources, loggers and callbacks write files or act during training. A caller must allow them explicitly.
SOURCES, LOGGERS = ("cxr.data.sources.",), ("lightning.pytorch.loggers.",)
CALLBACKS = ("cxr.training.callbacks.", "lightning.pytorch.callbacks.")
_ALLOWED_CALLBACKS = ("Callback", "EarlyStopping", "ModelSummary", "RichModelSummary")  # of Lightning's callbacks

_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# In other packages, only subclasses of these are allowed, since their modules contain other objects.
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


def build(config: Any, *args: Any, allow: tuple[str, ...] = (), **kwargs: Any) -> Any:
    """Instantiates the `_target_` of a config node.

    Args:
        allow: `SOURCES`, `LOGGERS` or `CALLBACKS` if the node's own target may be one; nested targets may not.

    Raises:
        CxrError: the target is not allowed, does not exist, or rejects its arguments; or a value is an interpolation
            such as `${oc.env:HOME}`, which Hydra would resolve.
    """
    node: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    _check(node, allow)
    _check(kwargs)  # the name of a finding could be an interpolation, too
    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, CxrError):
            raise cause from error
        target = node.get("_target_")
        raise CxrError(f"{target} cannot be built from its configuration: {first_line(cause)}") from error


def accepted_arguments(config: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in `offered` that are parameters of a node's `_target_`.

    Raises:
        CxrError: the target is not allowed or does not exist.
    """
    parameters = inspect.signature(_resolve(config.get("_target_"))).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def _check(node: Any, allow: tuple[str, ...] = ()) -> None:
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            _resolve(node["_target_"])
            acts = node["_target_"].startswith(SOURCES + LOGGERS + CALLBACKS) and not from_user()
            if acts and not node["_target_"].startswith(allow):
                raise CxrError(f"_target_={node['_target_']} is not allowed here")
        for value in node.values():
            _check(value)
    elif isinstance(node, str):
        if "${" in node:
            raise CxrError(f"the configuration has the interpolation {node!r}; write its value instead")
    elif isinstance(node, Sequence):
        for value in node:
            _check(value)


def _resolve(target: Any) -> Any:
    """The class or function named by `target`.

    The name is looked up in a module only: `torch.nn.modules.module.functools.partial` starts like an allowed name but
    is an attribute of an imported module.

    Raises:
        CxrError: `target` is not `<module>.<name>` of a class or function that configurations may name.
    """
    module, _, name = str(target).rpartition(".")
    plugin = trusted(module)
    if not isinstance(target, str) or not (target.startswith(ALLOWED) or plugin or (from_user() and module)):
        remedy = f"; if you trust the package {module.partition('.')[0]}, pass plugins=[{module.partition('.')[0]}]"
        raise CxrError(
            f"_target_={target} is not allowed; allowed are {', '.join(name + '*' for name in ALLOWED)}"
            + remedy * (isinstance(target, str) and bool(_PACKAGE.fullmatch(module)))
        )
    try:
        found = getattr(_import(module, target), name)
    except AttributeError as error:
        raise CxrError(f"_target_={target} does not exist: {first_line(error)}") from error
    if inspect.isclass(found):
        _check_callback(found, target)
    if from_user():
        return found
    if plugin:
        allowed = (inspect.isclass(found) or inspect.isfunction(found)) and trusted(found.__module__)
    elif inspect.isclass(found):
        built_in = found.__module__.startswith("cxr.")
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in found.__mro__}
        allowed = f"{found.__module__}.".startswith(ALLOWED) and (built_in or not kinds.isdisjoint(_KINDS))
    else:
        allowed = inspect.isfunction(found) and module.startswith("cxr.") and found.__module__ == module
    if not allowed or name.startswith("_"):
        raise CxrError(
            f"_target_={target} is not allowed; it is not a layer, optimizer, augmentation, logger, callback, or a "
            "part of this framework that configurations may name"
        )
    return found


def _check_callback(found: type, target: str) -> None:
    """Raises CxrError for Lightning callbacks that write files, or change weights or steps."""
    for kind in found.__mro__:
        if f"{kind.__module__}.".startswith(CALLBACKS[1]) and kind.__name__ not in _ALLOWED_CALLBACKS:
            raise CxrError(
                f"_target_={target} is not allowed: Lightning's {kind.__name__} conflicts with how a run writes, steps "
                "or stops; use callbacks=early_stopping, callbacks=ema, checkpoint.* or synthetic_batch_size"
            )


def _import(module: str, target: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:  # importing a module may raise anything
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise CxrError(f"_target_={target} does not exist: {first_line(error)}") from error
        frame = traceback.extract_tb(error.__traceback__)[-1]
        file, line = frame.filename, frame.lineno
        if isinstance(error, SyntaxError):
            file, line = str(error.filename), error.lineno
        raise CxrError(
            f"_target_={target}: importing {module} fails at {Path(file).name} line {line}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
