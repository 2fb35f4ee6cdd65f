"""Groups runs that are seeds of one configuration, and names configurations by their differences."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr.configuration.private import leaves
from cxr.run.directory import Run
from cxr.run.folds import fold_of

# Keys that may differ between seeds of one configuration.
_SAME = re.compile(
    r"seed|name|sweep|run_id|resume|score_test|runs_dir|choices.*|logger.*|checkpoint\..*|cache\.(dir|processes|on_error)"
    r"|data\.(workers|fold)|trainer\.(accelerator|devices|strategy|log_every_n_steps)"
)
_CHOICES, _RECIPE = "choices.", "choices.experiment"
_UNNAMED = ("choices.logger", "choices.trainer")  # as in _SAME; other keys of a trainer appear in names
_LONGEST = 40  # characters of a value


def configuration(run: Run) -> str:
    """A text that is equal for runs that are seeds of one configuration; without `config.yaml`, the run's path."""
    if not _has_configuration(run):
        return str(run.path.resolve())
    return json.dumps({k: v for k, v in _keys(run).items() if not _SAME.fullmatch(k)}, sort_keys=True, default=str)


def row_names(rows: Sequence[Sequence[Run]]) -> list[str]:
    """A unique name for each configuration.

    A single run has the name of its folder. If a configuration has several runs, all configurations with a
    `config.yaml` are named by their differences: `attention=location (2 seeds)`.
    """
    differences = {}
    if any(len(runs) > 1 for runs in rows):
        configured = [k for k, runs in enumerate(rows) if _has_configuration(runs[0])]
        differences = dict(zip(configured, _differences([_keys(rows[k][0]) for k in configured]), strict=True))
    names = []
    for k, runs in enumerate(rows):
        name = differences.get(k) or (runs[0].path.name if len(runs) == 1 else _common(runs))
        names.append(f"{name} ({len(runs)} {_kind(runs)})" if len(runs) > 1 else name)
    return [
        f"{name}, {runs[0].path}" if names.count(name) > 1 else name for name, runs in zip(names, rows, strict=True)
    ]


def _has_configuration(run: Run) -> bool:
    return run.config_path.is_file() and run.best.exists()


def _keys(run: Run) -> dict[str, Any]:
    found = dict(leaves(run.config(), lists=False))
    if found.get("init"):  # of each seed another run
        found["init"] = configuration(Run(Path(found["init"])))
    return found


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options of each row that differ between rows, groups before single keys; empty where nothing differs.

    A key is left out if the experiment or the chosen option of its group determines it, or if a key that is already
    named differs in the same way.
    """
    named: dict[str, tuple[str, ...]] = {}
    for key in sorted(dict.fromkeys(key for row in rows for key in row), key=_order):
        ignored = key in _UNNAMED if key.startswith(_CHOICES) else _SAME.fullmatch(key)
        values = tuple(_shortened(row[key]) if key in row else "" for row in rows)
        if ignored or len(set(values)) == 1:
            continue
        options = [named[name] for name in (_CHOICES + key.split(".")[0], _RECIPE) if name in named]
        determined = any(len(set(zip(option, values, strict=True))) == len(set(option)) for option in options)
        if not determined and (key.startswith(_CHOICES) or values not in named.values()):
            named[key] = values
    return [
        " ".join(f"{key.removeprefix(_CHOICES)}={values[k]}" for key, values in named.items() if values[k])
        for k in range(len(rows))
    ]


def _order(key: str) -> tuple[bool, bool, int]:
    return key != _RECIPE, not key.startswith(_CHOICES), key.count(".")


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _kind(runs: Sequence[Run]) -> str:
    """Whether runs of one configuration are its seeds or its folds."""
    folds = {fold_of(run.config()) for run in runs} if _has_configuration(runs[0]) else set()
    return "folds" if len(folds) > 1 else "seeds"


def _common(runs: Sequence[Run]) -> str:
    """The common prefix of the names of seeds, or else their folder's name."""
    prefix = os.path.commonprefix([run.path.name for run in runs])  # noqa: RUF071 - of names, by character
    return re.sub(r"[-_.]?(seed|fold)?[-_.]?$", "", prefix) or runs[0].path.parent.name
