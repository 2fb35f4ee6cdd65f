"""Checks the values of a configuration against the annotations of a dataclass.

OmegaConf's structured configs accept "8" as a number, have no ranges, and have other error messages.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cxr.errors import CxrError

UNSET = "???"  # a value that must be given, as OmegaConf writes it
_SHOWN = 60  # characters of a value in a message
_AMBIGUOUS = re.compile(r"[-+.\d].*|true|false|null", re.DOTALL)  # strings that look like another type are quoted


@dataclass(frozen=True)
class Kind:
    """A constraint on a value in addition to its type, in the annotation `Annotated[type, Kind(...)]`.

    Attributes:
        description: of valid values, for error messages.
        valid: whether a value of the type is valid.
        maximum: the largest valid number.
        example: an override that sets the value, for the message if it is not set.
    """

    description: str
    valid: Callable[[Any], bool] = lambda value: True
    maximum: float = 2**63 - 1
    example: str = ""


_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: type(value) is int),
    float: ("a finite number", lambda value: type(value) is int or (type(value) is float and isfinite(value))),
    str: ("text", lambda value: isinstance(value, str) and value not in ("", UNSET)),
    list: ("a list", lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value)),
    dict: ("a group of options", lambda value: isinstance(value, Mapping)),
}


def checked(schema: type, config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Checks a configuration against the annotations of a dataclass and adds its defaults for missing keys.

    Keys that are not in the dataclass are kept. Keys without a default may be missing, see `missing_keys`.

    Args:
        above: dotted key of `config`, with a trailing dot.

    Raises:
        CxrError: a value has the wrong type or is out of range.
    """
    found, hints = dict(config), get_type_hints(schema, include_extras=True)
    for option in fields(schema):
        if option.default is not MISSING:
            found.setdefault(option.name, option.default)
        elif option.default_factory is not MISSING:
            found.setdefault(option.name, option.default_factory())
        if option.name in found:
            found[option.name] = checked_option(above + option.name, found[option.name], hints[option.name])
    return found


def missing_keys(schema: type, config: Mapping[str, Any], above: str = "") -> list[str]:
    """Dotted keys that a checked configuration lacks; arguments of a `_target_` are optional."""
    keys = []
    for key, hint in get_type_hints(schema, include_extras=True).items():
        part = next(filter(is_dataclass, _alternatives(hint)), None)
        if key not in config:
            keys.append(above + key)
        elif part and config[key] and "_target_" not in config[key]:
            keys += missing_keys(part, config[key], f"{above}{key}.")  # type: ignore[arg-type]
    return keys


def as_override(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_override(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_override, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def checked_option(key: str, value: Any, hint: Any) -> Any:
    """The value of an option, if it is one of an annotation such as `Positive`; see `cxr.configuration.schema`.

    Args:
        key: dotted, for the message.

    Raises:
        CxrError: it has the wrong type or is out of range.
    """
    descriptions: list[str] = []
    choices: list[str] = []
    example = ""
    for each in _alternatives(hint):
        if is_dataclass(each):
            if isinstance(value, Mapping):
                return checked(each, value, f"{key}.")  # type: ignore[arg-type]
            each = dict
        if each is NoneType:
            if value is None:
                return None
        elif get_origin(each) is Literal:
            if any(type(value) is type(choice) and value == choice for choice in get_args(each)):
                return value
            choices += map(as_override, get_args(each))
        else:
            base, kind = get_args(each) if get_origin(each) is Annotated else (each, None)
            name, has_type = _TYPES[get_origin(base) or base]
            kind = kind or Kind(name)
            descriptions.append(kind.description)
            example = example or kind.example
            if has_type(value) and kind.valid(value):
                if isinstance(value, int | float) and value > kind.maximum:
                    raise CxrError(f"{key}={_shown(value)} must be at most {kind.maximum}")
                return value
    if example and value in (None, "", UNSET):
        raise CxrError(f"{key} is not set; pass {example}")
    if value == "":
        raise CxrError(f"{key} is empty; give it a value{' or null' if NoneType in _alternatives(hint) else ''}")
    if choices and not descriptions:
        raise CxrError(f"{key}={_shown(value)} is unknown; choose {_either(choices)}")
    quoted = f"; write '{key}=\"{value}\"'" if "text" in descriptions and type(value) in (int, float) else ""
    raise CxrError(f"{key}={_shown(value)} must be {_either([*choices, *descriptions]) or 'null'}{quoted}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and _AMBIGUOUS.fullmatch(value) else as_override(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _either(words: Sequence[str]) -> str:
    *others, last = words or [""]
    return ", ".join(others) + (", " if " or " in last else " or ") * bool(others) + last
