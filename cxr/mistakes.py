"""What was wrong on a command line, in one sentence with the valid or the closest names."""

import difflib
import re

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf


def explain(error: Exception, program: str) -> str:
    """Turns an exception of composition into a sentence. Hydra must be initialised."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options)
        return f"{group}={option} is not an option; {_closest(option, options)}choose one of {', '.join(options)}"
    text = str(error)
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        return _unknown_key(wrong.group(1), program)
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
    first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return (
        first if "OverrideParseException" not in type(error).__name__ else f"the command line cannot be read: {first}"
    )


def _unknown_key(key: str, program: str) -> str:
    groups = GlobalHydra.instance().config_loader().list_groups("")
    group = key.removesuffix("@")
    if group in groups and "." not in group:
        options = GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
        return f"{group} takes one of its options: {', '.join(options)}"
    config = compose(program)
    parent, _, last = key.rpartition(".")
    known, depth = _keys(config, parent)
    while not known and parent:
        parent, _, last = parent.rpartition(".")
        known, depth = _keys(config, parent)
    prefix = f"{parent}." if parent else ""
    names = [f"{prefix}{name}" for name in known]
    everywhere = [str(name) for name in depth if name.rpartition(".")[2] == last]
    hint = _closest(f"{prefix}{last}", names) or (f"did you mean {' or '.join(everywhere[:3])}? " if everywhere else "")
    where = f"{parent} has" if parent else "options are"
    return f"there is no option {key}; {hint}{where} {', '.join(known)}"


def _keys(config: DictConfig, parent: str) -> tuple[list[str], list[str]]:
    """The names directly below a key, and every dotted name of the configuration."""
    node = OmegaConf.select(config, parent) if parent else config
    names = [str(name) for name in node if not str(name).startswith("_")] if isinstance(node, DictConfig) else []
    return names, _flatten(config, "")


def _flatten(node: DictConfig, prefix: str) -> list[str]:
    names = []
    for key in node:
        name = f"{prefix}{key!s}"
        child = OmegaConf.select(node, str(key), throw_on_missing=False)
        names += [name, *(_flatten(child, f"{name}.") if isinstance(child, DictConfig) else [])]
    return names


def _closest(word: str, names: list[str]) -> str:
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}? " if close else ""
