"""Keeps secrets out of saved configurations, and absolute paths out of checkpoints and dashboards."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxr.errors import CxrError

_SECRET = re.compile(r"(.*_)?(token|secret|password|passwd|api_?key|access_key|credentials?)", re.IGNORECASE)
ELSEWHERE = "elsewhere:"  # and a path's last part, in place of an absolute path
_SHORTEST = 12  # characters of an environment value that is searched; shorter values may occur in any path
PATHS = (
    "data.root", "data.train_list", "data.val_list", "data.test_list", "data.file", "data.roles",
    "cache.dir", "cache.local", "backbone.weights", "text.file", "text.model", "init",
)  # fmt: skip


def refuse_secrets(config: DictConfig) -> None:
    """Raises CxrError if a key names a secret, or a value contains one from the environment: `config.yaml` has both."""
    secrets = {value: name for name, value in os.environ.items() if _SECRET.fullmatch(name) and len(value) >= _SHORTEST}
    for key, value in leaves(OmegaConf.to_container(config, resolve=True)):
        name = key.rpartition(".")[2]
        if value is not None and _SECRET.fullmatch(name):
            raise CxrError(
                f"{key} would be saved in the run's config.yaml; leave it out and set an environment variable, such as "
                "WANDB_API_KEY"
            )
        found = next((secrets[secret] for secret in secrets if isinstance(value, str) and secret in value), None)
        if found is not None:
            raise CxrError(f"{key} contains the value of ${found}, which would be saved in config.yaml; leave it out")


def shorten_home(config: DictConfig) -> None:
    """Replaces the user's home folder by `~` in the paths of a configuration."""
    home = str(Path.home())
    lists, sets = OmegaConf.select(config, "data.test_lists"), OmegaConf.select(config, "data.sets")
    keys = [*PATHS, *(f"data.test_lists.{name}" for name in lists or {})]
    for name in sets or {}:
        keys += [key.replace("data.", f"data.sets.{name}.", 1) for key in PATHS if key.startswith("data.")]
    for key in keys:
        value = OmegaConf.select(config, key)
        if isinstance(value, str) and len(home) > 1 and (value == home or value.startswith(f"{home}/")):
            OmegaConf.update(config, key, f"~{value.removeprefix(home)}")


def without_places(config: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Replaces absolute paths by `elsewhere:<last part>`; returns the configuration, and the paths by dotted key."""
    places = {key: value for key, value in leaves(dict(config)) if isinstance(value, str) and value.startswith("/")}
    return _replaced(dict(config), {key: hidden(path) for key, path in places.items()}), places


def with_places(config: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Undoes `without_places` for known paths with a matching last part."""
    return _replaced(
        dict(config),
        {
            key: places[key]
            for key, value in leaves(dict(config))
            if isinstance(value, str) and key in places and value == hidden(places[key])
        },
    )


def refuse_elsewhere(config: Mapping[str, Any], run: str = "the run") -> None:
    """Raises CxrError if a path of a configuration was replaced by `elsewhere:...` and is not known."""
    for key, value in sorted(leaves(dict(config)), key=lambda leaf: leaf[0].count(".")):
        if isinstance(value, str) and value.startswith(ELSEWHERE):
            raise CxrError(f"{key} of {run} is {value}, which is not a path; pass {key}=PATH")


def hidden(path: str) -> str:
    """The replacement of an absolute path."""
    return ELSEWHERE + Path(path).name


def _replaced(config: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    def visit(node: Any, prefix: str) -> Any:
        if isinstance(node, Mapping):
            return {key: visit(child, f"{prefix}.{key}" if prefix else str(key)) for key, child in node.items()}
        if isinstance(node, list):
            return [visit(child, f"{prefix}.{key}" if prefix else str(key)) for key, child in enumerate(node)]
        return values.get(prefix, node)

    replaced = visit(config, "")
    assert isinstance(replaced, dict)
    return replaced


def leaves(node: Any, prefix: str = "", lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key; without `lists`, a list is one value. An empty mapping is a value too."""
    if node and isinstance(node, dict | list if lists else dict):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key), lists)
    else:
        yield prefix, node
