"""The configuration of a run, read from its YAML as plain values and checked."""

from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from cxr.configuration.schema import of_run
from cxr.errors import CxrError, first_line

_LARGEST, _DEEPEST, _WIDEST = 1 << 16, 20, 1000  # characters, levels, characters of a value; ours have 3,000, 5, 100


def read_configuration(text: str, origin: str) -> dict[str, Any]:
    """The configuration of a run from its YAML, as plain values: it may be untrusted.

    What earlier versions did not write is filled in. Runs are saved resolved. A reference to something else
    (`${oc.env:HOME}`), a tag that makes an object (`!!python/object`), an alias, with which few lines grow without end,
    or a hundred levels are none of ours.

    Args:
        text: YAML.
        origin: what errors call it.

    Raises:
        CxrError: it is no YAML mapping of plain values, or a value is none that an option can have.
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
                raise ValueError("it has an alias or a tag, and a run's has neither")
            if "${" in getattr(event, "value", ""):
                raise ValueError(f"it has the reference {event.value!r}, and a run's values are written out")
        content = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as error:  # of two parsers
        raise CxrError(f"{origin} is not valid YAML: {first_line(error)}") from error
    if not isinstance(content, dict) or all(
        value is None for value in content.values()
    ):  # plain text reads as a key without value
        raise CxrError(f"{origin} holds no configuration")
    try:
        return of_run({str(key): value for key, value in content.items()})
    except CxrError as error:
        raise CxrError(f"{origin}: {error}") from None
