"""Parses the command line of a program, and composes and checks its configuration before anything starts."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cxr.cli.mistakes import (
    ADDABLE,
    WITHOUT_VALIDATION,
    explain,
    groups_of,
    keys_of,
    options_of,
    refuse_spaces,
    unknown_flag,
    unknown_key,
    unreadable,
)
from cxr.configuration.plugins import option_folders, trust
from cxr.configuration.private import refuse_secrets
from cxr.errors import CxrError, first_line

_UNSUPPORTED = {  # flags of Hydra that change which configuration is composed
    "config_name": "--config-name",
    "config_path": "--config-path",
    "experimental_rerun": "--experimental-rerun",
}
_ALL = "help=all"
_DELETED = {"~callbacks": "callbacks=[]"}  # Hydra cannot delete a group of several options
_SETS = "data.sets."  # data.sets.NAME=OPTION puts an option of the group data there
_USER_KEYS = "data.test_lists"  # its keys are chosen by the user


@dataclass(frozen=True)
class CommandLine:
    """A parsed command line.

    Attributes:
        flags: by the names of Hydra's parser.
        overrides: `key=value` each.
        config: the first job's configuration; none if nothing is composed.
        hydra: the same with Hydra's own part.
        everything: help on every option is requested.
    """

    flags: argparse.Namespace
    overrides: list[str]
    config: DictConfig | None = None
    hydra: DictConfig | None = None
    everything: bool = False

    @property
    def runs(self) -> bool:
        """Whether jobs are started; otherwise flags request information."""
        flags = self.flags
        return not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)

    @property
    def arguments(self) -> list[str]:
        """The arguments for Hydra: flags first, then overrides."""
        flags = ["--multirun"] if self.flags.multirun else []
        for name in ("hydra_help", "resolve", "run", "shell_completion"):
            flags += [f"--{name.replace('_', '-')}"] if getattr(self.flags, name) else []
        for name in ("cfg", "package", "info"):
            flags += [f"--{name}", getattr(self.flags, name)] if getattr(self.flags, name) else []
        return [*flags, *self.overrides]


def read_command_line(program: str, arguments: Sequence[str], folder: str) -> CommandLine:
    """Parses arguments and composes their configuration; of a sweep, each swept value is composed once.

    Raises:
        CxrError: a flag, key or option does not exist or cannot be parsed, or a value is a secret.
    """
    with initialize_config_dir(folder, job_name=program, version_base="1.3"):
        try:
            flags = _flags(program, list(arguments))
            everything = _ALL in flags.overrides
            words = [word for word in flags.overrides if word != _ALL]
            if flags.config_dir:
                words.append(
                    f"hydra.searchpath={json.dumps([f'file://{_folder(flags.config_dir)}'], ensure_ascii=False)}"
                )
            words = [f"++{word}" if re.match(rf"{_USER_KEYS}[.=]", word) else word for word in words]
            words = [re.sub(rf"^{_SETS}([^.=]+)=", rf"+data@{_SETS}\1=", word) for word in words]
            overrides = _with_plugins([_DELETED.get(word, word) for word in words])
            only_shows = not overrides and not flags.package and (flags.help or flags.info or flags.cfg)
            if flags.hydra_help or flags.shell_completion or only_shows:
                return CommandLine(flags, overrides, everything=everything)
            composed = _composed(program, overrides, flags)
            config = _without_hydra(composed)
            if flags.package and OmegaConf.select(config, flags.package, throw_on_missing=False) is None:
                raise CxrError(f"--package {flags.package}: the configuration has no such part")
            return CommandLine(flags, overrides, config, composed, everything)
        except OverrideParseException as error:
            raise CxrError(explain(error, program)) from error


def _with_plugins(words: list[str]) -> list[str]:
    """Trusts the packages in `plugins` and adds their option folders to the overrides.

    Raises:
        CxrError: one of them is not a package.
    """
    words = [word.lstrip("+") if word.lstrip("+").startswith("plugins=") else word for word in words]
    given = [word for word in words if word.startswith("plugins=")]
    value = _value(given[-1]) if given else []
    trust(value if isinstance(value, list) else [value])
    paths = [f"file://{folder}" for folder in option_folders()]
    for word in [word for word in words if word.startswith("hydra.searchpath=")]:
        words.remove(word)
        paths += map(str, _value(word) or [])
    return [*words, f"hydra.searchpath={json.dumps(paths, ensure_ascii=False)}"] if paths else words


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise CxrError(f"--config-dir={text} is not a folder; pass one with option files, such as experiment/mine.yaml")
    return Path(text).absolute()


def _value(word: str) -> Any:
    """The value of an override; raises CxrError if it cannot be parsed."""
    try:
        return OverridesParser.create().parse_override(word).value()
    except HydraException as error:
        raise CxrError(f"{word} cannot be parsed: {first_line(error)}; write key=value, or key=[a,b]") from error


def _flags(program: str, arguments: list[str]) -> argparse.Namespace:
    parser = get_args_parser()
    parser.allow_abbrev = False

    def refuse(message: str) -> NoReturn:
        raise CxrError(f"the command line cannot be parsed: {message} (--help shows examples)")

    parser.error = refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args(arguments)
    wrong = next((word for word in unknown if word.startswith("-")), None)
    if wrong is not None:
        following = arguments[arguments.index(wrong) + 1 :] if wrong in arguments else []
        raise CxrError(unknown_flag(wrong, following[0] if following else "", program))
    for word in flags.overrides:
        if word.startswith("help="):
            if word != _ALL:
                raise CxrError(f"{word} is unknown; write --help, or {_ALL} for every option")
            flags.help = True
    for name, flag in _UNSUPPORTED.items():
        if getattr(flags, name) is not None:
            raise CxrError(
                f"{flag} is not supported: conf/{program}.yaml is always used; choose options with group=option, and "
                "add a folder of options with 'hydra.searchpath=[file:///path]'"
            )
    shows = [f"--{name}" for name in ("cfg", "info", "help") if getattr(flags, name)]
    if flags.multirun and (shows or flags.run):
        raise CxrError(f"-m and {(shows or ['--run'])[0]} exclude each other; remove -m, and pass one value per key")
    if len(shows) > 1 or (shows and flags.run):
        raise CxrError(f"{' and '.join([*shows, *['--run'] * flags.run])} exclude each other; pass one of them")
    if (flags.resolve or flags.package) and not flags.cfg:
        raise CxrError(f"--{'resolve' if flags.resolve else 'package'} needs --cfg job; add that, or remove it")
    completion = ("install=", "uninstall=", "query=")
    if flags.shell_completion and not all(word.startswith(completion) for word in flags.overrides):
        raise CxrError("--shell-completion takes install=SHELL, uninstall=SHELL or query=SHELL")
    return flags


def _composed(program: str, arguments: list[str], flags: argparse.Namespace) -> DictConfig:
    """The first job's configuration with Hydra's part; the other values of a sweep are composed and checked, too."""
    refuse_spaces(arguments)
    for word in arguments:
        if "=" not in word and not word.startswith("~"):
            raise CxrError(unreadable(word, program, ""))
    parsed = OverridesParser.create().parse_overrides(arguments)
    swept = [override for override in parsed if override.is_sweep_override()]
    if swept and not flags.multirun:
        line = str(swept[0].input_line)
        remedy = "pass one" if flags.cfg or flags.help or flags.info else "add -m for a sweep"
        raise CxrError(f"{line} names several values; {remedy}, or quote a list: '{line.split('=')[0]}=[a,b]'")
    fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    values = [_sweep_values(override) for override in swept]
    base = [*fixed, *(choices[0] for choices in values)]
    config = _checked(program, base, any(_edits(override) for override in parsed))
    for override, choices in zip(swept, values, strict=True):
        for choice in choices[1:]:
            _checked(program, [choice if line == choices[0] else line for line in base], _edits(override))
    return config


def _checked(program: str, lines: list[str], edited: bool) -> DictConfig:
    overrides = OverridesParser.create().parse_overrides(lines)
    try:
        groups = groups_of(program) if edited or any(override.value() is None for override in overrides) else []
        for override in overrides:
            group = str(override.key_or_group)
            if isinstance(override.value(), list):
                chosen = override.value()
                if group == "debug":
                    raise CxrError(f"{override.input_line} names several; choose one of {', '.join(options_of(group))}")
                if group in ("logger", "callbacks") and len(set(map(str, chosen))) < len(chosen):
                    raise CxrError(f"{override.input_line} names an option twice; name each once")
            optional = override.is_delete() and group in ("experiment", "debug")
            if group in groups and override.value() is None and not optional:
                raise CxrError(f"{group} cannot be null; choose one of {', '.join(options_of(group))}")
        composed = compose(program, lines, return_hydra_config=True)
        config = _without_hydra(composed)
        refuse_secrets(config)
        if edited:
            _check_edits(program, overrides, config, groups)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise CxrError(explain(error, program, overrides)) from error
    return composed


def _without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def _edits(override: Override) -> bool:
    """Whether an override adds or deletes a key."""
    return bool(override.is_add() or override.is_force_add() or override.is_delete())


def _check_edits(program: str, overrides: Sequence[Override], config: DictConfig, groups: list[str]) -> None:
    """Raises CxrError for an added key that nothing reads, and for a deleted key that is required.

    Keys beside a `_target_` are its arguments, which are checked when it is built.
    """
    for override in overrides:
        if str(override.key_or_group).startswith("callbacks.early_stopping."):
            raise CxrError(unknown_key(str(override.key_or_group), program, overrides))
    kept = [
        o
        for o in overrides
        if not _edits(o)
        or (o.key_or_group in groups and not o.is_delete() and str(o.package or _SETS).startswith(_SETS))
    ]
    lines = [str(o.input_line) for o in kept]
    before = compose(program, lines)
    old, new = set(keys_of(before)), set(keys_of(config))
    for key in sorted(new - old, key=lambda key: -key.count(".")):
        argument = key.removeprefix("trainer.").partition(".")[0]
        in_trainer = program == "train" and key.startswith("trainer.") and argument in (*ADDABLE, *WITHOUT_VALIDATION)
        of_several = key.startswith(("logger.", "callbacks.")) and _has_target(key, config)
        of_user = key.rpartition(".")[0] == _USER_KEYS
        of_class = _has_target(key.rpartition(".")[0], before) and not key.startswith("early_stopping.")
        if not (in_trainer or of_several or of_user or of_class):
            raise CxrError(unknown_key(key, program, overrides))
    for key in sorted(old - new):
        parent, _, last = key.rpartition(".")
        if last == "_target_" or not (parent == "points" or _has_target(parent, before)):
            raise CxrError(f"{key} is required; remove ~{key}" + f", or set {key}=null" * (parent != ""))
    of_hydra = [str(o.key_or_group) for o in overrides if _edits(o) and str(o.key_or_group).startswith("hydra.")]
    for key in of_hydra:
        composed = compose(program, lines, return_hydra_config=True)
        node = OmegaConf.select(composed, key.rpartition(".")[0], throw_on_missing=False)
        if not isinstance(node, DictConfig) or (
            OmegaConf.get_type(node) is not dict and key.rpartition(".")[2] not in node
        ):
            raise CxrError(unknown_key(key, program, overrides))


def _has_target(key: str, config: DictConfig) -> bool:
    """Whether the node of a key or of one of its parents has a `_target_`."""
    while key:
        node = OmegaConf.select(config, key, throw_on_missing=False)
        if isinstance(node, DictConfig) and node.get("_target_") is not None:
            return True
        key = key.rpartition(".")[0]
    return False


def _sweep_values(override: Override) -> list[str]:
    prefix = "++" if override.is_force_add() else "+" if override.is_add() else ""
    return [f"{prefix}{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
