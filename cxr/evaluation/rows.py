"""Which runs are seeds of one configuration, and what configurations are called: by what differs between them."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cxr.configuration.private import leaves
from cxr.run.directory import Run

# What may differ between seeds of one configuration: who ran it, where, and how it was stored.
_SAME = re.compile(
    r"seed|name|sweep|run_id|resume|score_test|runs_dir|choices.*|logger.*|checkpoint\..*|cache\.(dir|processes|on_error)"
    r"|data\.workers|trainer\.(accelerator|devices|strategy|log_every_n_steps)"
)
_CHOICES, _RECIPE = "choices.", "choices.experiment"
_UNNAMED = ("choices.logger", "choices.trainer")  # as in _SAME; what else a trainer sets is named by its keys
_LONGEST = 40  # characters of a value


def configuration(run: Run) -> str:
    """What makes two runs seeds of one configuration; a folder without one is its own."""
    if not _configured(run):
        return str(run.path.resolve())
    return json.dumps({k: v for k, v in _told(run).items() if not _SAME.fullmatch(k)}, sort_keys=True, default=str)


def row_names(rows: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each configuration, no two the same.

    Single runs are called as their folders are. Where a configuration has several runs, it and the others that have a
    `config.yaml` are called by what differs between them: `attention=location (2 seeds)`.

    Args:
        rows: the runs of each configuration.
    """
    told = [k for k, runs in enumerate(rows) if _configured(runs[0])]
    differing = {}
    if any(len(runs) > 1 for runs in rows):
        leaves = [_told(rows[k][0]) for k in told]
        differing = dict(zip(told, _differences(leaves), strict=True))
    names = []
    for k, runs in enumerate(rows):
        name = differing.get(k) or (runs[0].path.name if len(runs) == 1 else _common(runs))
        names.append(f"{name} ({len(runs)} seeds)" if len(runs) > 1 else name)
    twice = {name for name in names if names.count(name) > 1}
    return [f"{name}, {runs[0].path}" if name in twice else name for name, runs in zip(names, rows, strict=True)]


def _configured(run: Run) -> bool:
    return run.config_path.is_file() and run.best.exists()


def _told(run: Run) -> dict[str, Any]:
    return dict(leaves(run.config(), lists=False))


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each row the options that differ, groups before single keys; empty where nothing does.

    What an experiment sets, or the option of a group within its group, is not said again, nor what differs exactly as
    something named already does.
    """
    named: dict[str, tuple[str, ...]] = {}
    for key in sorted(dict.fromkeys(key for row in rows for key in row), key=_rank):
        ignored = key in _UNNAMED if key.startswith(_CHOICES) else _SAME.fullmatch(key)
        values = tuple(_spelt(row[key]) if key in row else "" for row in rows)
        if ignored or len(set(values)) == 1:
            continue
        group, recipe = named.get(_CHOICES + key.split(".")[0]), named.get(_RECIPE)
        explained = any(option is not None and _explains(option, values) for option in (group, recipe))
        if not explained and (key.startswith(_CHOICES) or values not in named.values()):
            named[key] = values
    return [
        " ".join(f"{key.removeprefix(_CHOICES)}={values[k]}" for key, values in named.items() if values[k])
        for k in range(len(rows))
    ]


def _rank(key: str) -> tuple[bool, bool, int]:
    return key != _RECIPE, not key.startswith(_CHOICES), key.count(".")


def _explains(option: Sequence[str], values: Sequence[str]) -> bool:
    """Whether rows with the same option have the same value."""
    seen = defaultdict(set)
    for one, value in zip(option, values, strict=True):
        seen[one].add(value)
    return all(len(found) == 1 for found in seen.values())


def _spelt(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _common(runs: Sequence[Run]) -> str:
    """What the names of seeds have in common, or else their folder's name."""
    names = [run.path.name for run in runs]
    shortest = min(names, key=len)
    same = next((k for k, sign in enumerate(shortest) if any(name[k] != sign for name in names)), len(shortest))
    return re.sub(r"[-_.]?(seed)?[-_.]?$", "", shortest[:same]) or runs[0].path.parent.name
