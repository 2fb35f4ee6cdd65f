"""Explains mistakes on a command line, in one sentence with the valid or the closest names."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from cxr.cli import conf_dir
from cxr.configuration.plugins import option_folders
from cxr.configuration.private import leaves
from cxr.errors import CxrError

# Arguments of lightning.pytorch.Trainer that conf/train.yaml does not list. They are copied here so that help and error
# messages do not import Lightning; a test compares them with its signature.
ADDABLE = (
    "barebones", "benchmark", "detect_anomaly", "enable_autolog_hparams", "fast_dev_run", "gradient_clip_algorithm",
    "inference_mode", "limit_predict_batches", "limit_test_batches", "min_epochs", "min_steps", "model_registry",
    "overfit_batches", "profiler", "reload_dataloaders_every_n_epochs", "sync_batchnorm",
)  # fmt: skip
SET_BY_RUNS = (
    "accumulate_grad_batches", "callbacks", "default_root_dir", "enable_checkpointing", "enable_model_summary",
    "enable_progress_bar", "logger", "num_nodes", "num_sanity_val_steps", "plugins", "use_distributed_sampler",
)  # fmt: skip
WITHOUT_VALIDATION = ("max_steps", "max_time", "limit_val_batches", "val_check_interval", "check_val_every_n_epoch")

_SIMILAR = 0.6  # minimum similarity of a suggestion, of 1
_SHORT = re.compile(r"[\w.+-]{1,10}")  # values that a suggestion repeats; secrets are longer
_MESSAGES = {
    r"Multiple values for ([\w/]+)": "{0} is chosen already; write {0}=OPTION without +",
    r"Error merging override [+]*([\w.-]+)=\[": "{0} is not a list; write {0}.NAME=VALUE",
    r"An item is already at '([^']+)'": "{0} is an option already; write {0}=VALUE without +",
}


def explain(error: Exception, program: str, overrides: Sequence[Override] = ()) -> str:
    """Turns an exception during composition into a sentence. Hydra must be initialised."""
    if isinstance(error, OverrideParseException):
        return unreadable(str(error.override), program, error.message)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or options_of(group))
        return f"{group}={option} is not an option; {_closest(option, options)}choose one of {', '.join(options)}"
    text = str(error)
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        return unknown_key(wrong.group(1), program, overrides)
    for pattern, message in _MESSAGES.items():
        if found := re.search(pattern, text):
            return message.format(found.group(1))
    cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def unreadable(argument: str, program: str, reason: str) -> str:
    """The sentence for an argument that is not `key=value`."""
    if "=" in argument or argument.startswith("~"):
        first = (reason.strip().splitlines() or [""])[0]
        return f"{argument} cannot be parsed ({first}); write key=value, with special characters 'key=\"...\"'"
    if argument in groups_of(program):
        return _choose(argument)
    if argument in keys_of(compose(program)):
        return f"{argument} lacks its value; write {argument}=VALUE"
    return f"{argument} is not an option; options are written key=value{_hint(argument, '', program)}"


def unknown_flag(flag: str, following: str, program: str) -> str:
    """The sentence for an unknown flag such as `--epochs 3`."""
    key, _, value = flag.lstrip("-").replace("-", "_").partition("=")
    value = value or ("" if "=" in following or following.startswith("-") else following)
    name = flag.partition("=")[0]
    if key in groups_of(program) or key in keys_of(compose(program)):
        return f"{name} is not a flag; write {key}={value if _SHORT.fullmatch(value) else 'VALUE'}"
    return f"{name} is not a flag; options are written key=value{_hint(key, value, program)}"


def unknown_key(key: str, program: str, overrides: Sequence[Override] = ()) -> str:
    """The sentence for a key that the configuration does not have."""
    plain = key.removesuffix("@")
    if plain in groups_of(program):
        return _choose(plain)
    if key.startswith("hydra"):
        return f"there is no option {key}; --hydra-help lists Hydra's own"
    if key.startswith("trainer.") and key.removeprefix("trainer.") in SET_BY_RUNS:
        return f"{key} is set by the run itself and cannot be given"
    chosen = [o for o in overrides if o.key_or_group in groups_of(program) and not o.package and not o.is_delete()]
    config = compose(program, [str(o.input_line) for o in chosen])
    if key.startswith(("logger.", "callbacks.")) and program == "train":
        return _of_several(key, config)
    if key.startswith("early_stopping.") and program == "train" and "early_stopping" not in config:
        return f"there is no option {key} without that callback; {_added('callbacks', 'early_stopping', config)}"
    parent = key.rpartition(".")[0]
    while parent and not isinstance(OmegaConf.select(config, parent, throw_on_missing=False), DictConfig):
        parent = parent.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    known = ", ".join(str(name) for name in node if not str(name).startswith("_"))
    given = next((str(o.input_line).partition("=")[2] for o in overrides if o.key_or_group == key), "")
    hint = _hint(key, given, program, config)
    where = f"{parent} has" if parent else "options are"
    return f"there is no option {key}{f'{hint}?' if hint else ';'} {where} {known or 'none'}"


@lru_cache
def groups_of(program: str) -> list[str]:
    """The groups of a program, in the order of its defaults list (Hydra's `choices` lack groups with lists)."""
    entries = OmegaConf.load(conf_dir() / f"{program}.yaml").defaults
    keys = [str(key) for entry in entries if isinstance(entry, DictConfig) for key in entry]
    return [key.removeprefix("optional ").partition("@")[0] for key in keys if not key.startswith("override ")]


def options_of(group: str) -> list[str]:
    """Names of a group's option files."""
    paths = ",".join(f"file://{folder}" for folder in option_folders())
    loader = GlobalHydra.instance().config_loader()
    return list(loader.get_group_options(group, ObjectType.CONFIG, overrides=[f"hydra.searchpath=[{paths}]"]))


def keys_of(config: DictConfig) -> list[str]:
    """Every dotted key of a configuration, including those of groups of keys."""
    parts = (key.split(".") for key, _ in leaves(OmegaConf.to_container(config), lists=False))
    return list(dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)))


def _choose(group: str) -> str:
    options = options_of(group)
    return f"{group} takes one of its options: {', '.join(options)}; write for example {group}={options[0]}"


def _of_several(key: str, config: DictConfig) -> str:
    """The sentence for an unknown key of a logger or callback; their options are below their names."""
    group, _, rest = key.partition(".")
    if rest.startswith("early_stopping."):
        return f"there is no option {key}; options of early stopping are early_stopping.*: write {rest}="
    first, kind, known = rest.partition(".")[0], group.removesuffix("s"), options_of(group)
    if first in config[group]:
        return f"there is no option {key}; conf/{group}/{first}.yaml lists the known ones, and +{key}= adds an option"
    if first in known:
        return f"there is no option {key} without that {kind}; {_added(group, first, config)}"
    if group == "callbacks":
        return f"there is no option {key}; options of a callback are below its name: {', '.join(known)}"
    name = next((str(name) for name in config.logger if name != "csv"), "wandb")
    add = "" if name in config.logger else f", with logger={name}"
    return f"there is no option {key}; options of a logger are below its name: write logger.{name}.{rest}={add}"


def _added(group: str, option: str, config: DictConfig) -> str:
    """How a command line adds an option to a group of several."""
    names = [*(str(name) for name in config[group] if name != "csv"), option]
    return f"add {group}={option}" if len(names) == 1 else f"write {group}=[{','.join(names)}]"


def _hint(key: str, value: str, program: str, config: DictConfig | None = None) -> str:
    """`; did you mean trainer.max_epochs=3`, or nothing."""
    shown = [name for name in keys_of(config or compose(program)) if "._" not in name]
    shown = [name for name in shown if not name.startswith("callbacks.early_stopping")]  # early_stopping.* is shorter
    extra = [f"trainer.{name}" for name in ADDABLE] if program == "train" else []
    scored = {name: _similarity(key, name) for name in dict.fromkeys([*groups_of(program), *shown, *extra])}
    best = max(scored.values(), default=0.0)
    if best < _SIMILAR:
        return ""
    close = [name for name, score in scored.items() if score > best - 0.01]
    close = [name for name in close if name not in extra] or close  # prefer options that the help lists
    given = f"={value}" if _SHORT.fullmatch(value) else ""
    named = [f"{'+' * (name in extra)}{name}{given * (key.count('.') <= name.count('.'))}" for name in close[:3]]
    return f"; did you mean {' or '.join(named)}"


def _similarity(key: str, name: str) -> float:
    """Similarity of two dotted keys; above 1 with the same last part. Without a parent only the last parts count."""
    parent, _, last = key.rpartition(".")
    other, _, end = name.rpartition(".")
    if last == end:
        return 1 + SequenceMatcher(None, parent, other).ratio()
    if parent in ("", other):
        return SequenceMatcher(None, last, end).ratio()
    if not other:  # a group of keys
        first = parent.partition(".")[0]
        return 0.0 if first == name else 0.9 * SequenceMatcher(None, first, name).ratio()
    return SequenceMatcher(None, key, name).ratio()


def _closest(word: str, names: list[str]) -> str:
    close = get_close_matches(word, names, n=3, cutoff=_SIMILAR)
    return f"did you mean {' or '.join(close)}? " if close else ""


def refuse_spaces(arguments: Sequence[str]) -> None:
    """Raises CxrError for `a = b`, which a shell passes as three words."""
    for position, word in enumerate(arguments):
        before = arguments[position - 1] if position else ""
        after = arguments[position + 1] if position + 1 < len(arguments) else ""
        joined = ""
        if word.startswith("="):
            joined = f"{before or 'KEY'}{word}{after if word == '=' else ''}"
        elif word.endswith("=") and after and "=" not in after and not after.startswith("~"):
            joined = f"{word}{after}"
        elif "=" in word and (word.partition("=")[0].endswith(" ") or word.partition("=")[2].startswith(" ")):
            joined = "=".join(part.strip() for part in word.split("=", 1))
        if joined:
            raise CxrError(f"spaces around = are not allowed; write {joined}")
