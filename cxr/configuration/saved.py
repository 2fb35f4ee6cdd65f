"""Reads and checks the saved configuration of a run, which may be untrusted."""

from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from cxr.configuration.schema import of_run
from cxr.errors import CxrError, first_line

_LARGEST, _DEEPEST, _WIDEST = 1 << 16, 20, 1000  # characters, levels, characters of a value; runs have 3,000, 5, 100


def read_configuration(text: str, origin: str) -> dict[str, Any]:
    """The configuration of a run from its YAML, as plain values.

    Keys that earlier versions lacked get their defaults. Saved configurations are resolved, so YAML with an
    interpolation (`${oc.env:HOME}`), a tag (`!!python/object`), an alias (which can expand exponentially) or very deep
    nesting is refused.

    Raises:
        CxrError: it is not a YAML mapping of plain values, or a value is invalid for its option.
    """
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"it is longer than {_LARGEST} characters")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"it has more than {_DEEPEST} levels")
            if len(getattr(event, "value", "")) > _WIDEST:
                raise ValueError(f"it has a value of more than {_WIDEST} characters")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
                raise ValueError("it has an alias or a tag, which no saved configuration has")
            if "${" in getattr(event, "value", ""):
                raise ValueError(f"it has the interpolation {event.value!r}; saved configurations are resolved")
        content = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as error:  # of PyYAML or OmegaConf
        raise CxrError(f"{origin} is not valid YAML: {first_line(error)}") from error
    if not isinstance(content, dict) or all(value is None for value in content.values()):  # plain text is a null key
        raise CxrError(f"{origin} has no configuration")
    try:
        return of_run({str(key): value for key, value in content.items()})
    except CxrError as error:
        raise CxrError(f"{origin}: {error}") from None
