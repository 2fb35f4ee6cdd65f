"""A study of the program `tune`: its storage, the first trials that finished runs give it, and its report."""

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.errors import CxrError, counted, first_line
from cxr.files.writing import write_text
from cxr.run.directory import runs_of

if TYPE_CHECKING:
    from optuna import Study

_HEARTBEAT, _GRACE = 30, 120  # seconds between heartbeats, and after which a trial without one has failed


def open_study(content: Mapping[str, Any], folder: Path) -> "Study":
    """The study, created if it does not exist; a process that creates it at the same time may be faster.

    Args:
        content: the configuration of `tune`.
        folder: of the study.

    Raises:
        CxrError: its database cannot be opened, or it has another metric, mode or search space.
    """
    import optuna

    url = os.environ.get("CXR_STORAGE") or f"sqlite:///{(folder / 'study.db').absolute()}"
    for attempt in range(5):
        try:
            storage = optuna.storages.RDBStorage(
                url,
                heartbeat_interval=_HEARTBEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
            )
            direction = "maximize" if content["mode"] == "max" else "minimize"
            pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
            study = optuna.create_study(
                storage=storage, study_name=content["study"], direction=direction, pruner=pruner, load_if_exists=True
            )
            break
        except Exception as error:
            if attempt == 4:
                source = "CXR_STORAGE" if "CXR_STORAGE" in os.environ else str(folder)
                remedy = "; make setup EXTRAS=postgres installs its driver" * isinstance(error, ImportError)
                raise CxrError(f"the study cannot be opened in {source}: {type(error).__name__}{remedy}") from error
            time.sleep(1 + attempt)
    for key in ("metric", "mode", "space"):
        known = study.user_attrs.get(key)
        if known is None:
            study.set_user_attr(key, content[key])
        elif known != content[key]:
            raise CxrError(f"study={content['study']} has {key}={known}, not {content[key]}; choose another study=NAME")
    return study


def assigned(key: str, value: Any) -> str:
    """The word of a command line that sets a key, quoted where Hydra needs it."""
    text = "null" if value is None else str(value)
    plain = not isinstance(value, str) or re.fullmatch(r"[\w./:+-]+", text, re.ASCII)
    return f"{key}={text if plain else QuotedString(text, Quote.single).with_quotes()}"


def try_first(study: "Study", content: Mapping[str, Any]) -> None:
    """Queues the options of the finished runs `warm_start` as trials; what lies outside the space is sampled.

    Raises:
        CxrError: there is no such run.
    """
    given = content["warm_start"]
    for pattern in [given] if isinstance(given, str) else given:
        runs = [run for run in runs_of(pattern) if run.metrics_path.exists() and run.config_path.exists()]
        if not runs:
            raise CxrError(f"warm_start={pattern} matches no finished run")
        for run in runs:
            config = run.config()
            values = {
                key: config["choices"].get(key) if _is_group(key) else OmegaConf.select(OmegaConf.create(config), key)
                for key in content["space"]
            }
            inside = {key: value for key, value in values.items() if _contains(content["space"][key], value)}
            left = ", ".join(f"{key}={values[key]}" for key in values if key not in inside)
            print(f"{run.path} is tried first" + f"; not in the search space: {left}" * bool(left), flush=True)
            study.enqueue_trial(inside, skip_if_exists=True)


def _contains(entry: Mapping[str, Any], value: Any) -> bool:
    if "choices" in entry:
        return value in entry["choices"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and entry["low"] <= value <= entry["high"]


def _is_group(key: str) -> bool:
    return (conf_dir() / key).is_dir()


def experiment(words: Sequence[str], params: Mapping[str, Any]) -> str:
    """The text of an option file `experiment/best.yaml`: the options of a trial over the experiment of its words."""
    base = [word.partition("=")[2] for word in words if word.startswith("experiment=") and word != "experiment=null"]
    groups = [{f"override /{key}": value} for key, value in params.items() if _is_group(key)]
    content = OmegaConf.create({"defaults": [*base, *groups, "_self_"]})
    for key, value in params.items():
        if not _is_group(key):
            OmegaConf.update(content, key.lstrip("+"), value, force_add=True)
    return "# @package _global_\n" + OmegaConf.to_yaml(content)


def report(study: "Study", content: Mapping[str, Any], folder: Path, words: Sequence[str]) -> None:
    """Writes tables, figures and the best options, and prints the best trial and the command that trains it anew.

    Args:
        study: with its trials.
        content: the configuration of `tune`.
        folder: of the study.
        words: the options of its trainings.

    Raises:
        CxrError: no trial was completed.
    """
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    from cxr.figures.canvas import draw
    from cxr.figures.tuning import importance, trial_history

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        raise CxrError("no trial was completed")
    study.trials_dataframe(("number", "state", "value", "params", "duration")).to_csv(
        folder / "trials.csv", index=False
    )
    values = {trial.number: float(trial.values[0]) for trial in done}
    draw(folder / "history.png", trial_history, values, content["metric"], content["mode"])
    try:
        draw(folder / "importance.png", importance, get_param_importances(study), content["metric"])
    except (ValueError, RuntimeError, ImportError) as error:  # it needs several trials with different values
        print(f"no figure of importance: {first_line(error)}", file=sys.stderr, flush=True)
    best, states = study.best_trial, [trial.state for trial in study.get_trials(deepcopy=False)]
    (folder / "experiment").mkdir(exist_ok=True)
    write_text(folder / "experiment" / "best.yaml", experiment(words, best.params))
    replaced = {"experiment", "seed", *best.params}
    kept = [word for word in words if word.partition("=")[0] not in replaced]
    where = [assigned("runs_dir", content["runs_dir"])] * (content["runs_dir"] != "runs")
    sweep = f"sweep={content['study']}-best"
    again = shlex.join([f"--config-dir={folder}", "experiment=best", *kept, "seed=0,1,2,3,4", *where, sweep])
    chosen = " ".join(f"{key}={'null' if value is None else value}" for key, value in best.params.items())
    text = (
        f"{content['study']}: {counted(len(states), 'trial')}, pruned: {states.count(TrialState.PRUNED)}, failed: "
        f"{states.count(TrialState.FAIL)}\n"
        f"best: trial {best.number}, {content['metric']} {best.value:.4f}: {chosen}\n"
        f"It is the best of {counted(len(done), 'value')} on the same validation images, and therefore optimistic. "
        f"Train it anew with several seeds:\npython train.py -m {again}\n"
    )
    write_text(folder / "report.txt", text)
    print(text, end="", flush=True)
