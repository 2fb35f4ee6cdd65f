"""The program `tune`: trials of a search space with Optuna, each a training of its own process, without test scores."""

import csv
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Tune
from cxr.errors import CxrError, first_line
from cxr.files.writing import write_text
from cxr.processes.isolation import how_it_ended
from cxr.processes.stopping import REQUEUE, Stopped

if TYPE_CHECKING:
    from optuna import Study, Trial

_OWN = ("space", "study", "trials", "metric", "mode", "seeds", "runs_dir")
_SET = {"name": "study=NAME", "sweep": "study=NAME", "score_test": "python -m cxr evaluate", "resume": "study=NAME"}
_HEARTBEAT, _GRACE = 30, 120  # seconds between heartbeats, and after which a trial without one has failed
_FAILURES = 3  # in succession, which end the program


class TrialFailed(Exception):
    """The training of a trial failed."""


def own_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line for `tune` itself, and those for its trainings."""

    def own(word: str) -> bool:
        return word.startswith("-") or word.partition("=")[0].partition(".")[0].lstrip("+~") in (*_OWN, "hydra", "help")

    return [word for word in words if own(word)], [word for word in words if not own(word)]


def job(config: DictConfig) -> None:
    """Runs trials until the study has as many as requested, and reports."""
    content = {**plain(config, Tune), "runs_dir": config.runs_dir}
    words = list(config.train)
    for word in words:
        if (key := word.partition("=")[0]) in _SET:
            raise CxrError(f"tune sets {key} of its trials; remove {word}, and use {_SET[key]}")
    try:
        import optuna
    except ImportError:
        raise CxrError("tune needs Optuna: make setup EXTRAS=tune, or pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats
    folder = Path(config.runs_dir) / content["study"]
    folder.mkdir(parents=True, exist_ok=True)
    study, failures = _study(content, folder), 0
    states = optuna.trial.TrialState
    counted = (states.COMPLETE, states.PRUNED, states.RUNNING)
    while failures < _FAILURES:
        optuna.storages.fail_stale_trials(study)
        waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))
        if len(study.get_trials(deepcopy=False, states=counted)) >= content["trials"] and not waiting:
            break
        before = len(study.get_trials(deepcopy=False, states=(states.FAIL,)))
        study.optimize(lambda trial: _value(trial, content, folder, words), n_trials=1, catch=TrialFailed)
        failed = len(study.get_trials(deepcopy=False, states=(states.FAIL,))) > before
        failures = failures + 1 if failed else 0
    else:
        raise CxrError(f"{_FAILURES} trials in succession failed; their messages are above")
    _report(study, content, folder, words)


def _study(content: Mapping[str, Any], folder: Path) -> "Study":
    """The study, created if it does not exist; a process that creates it at the same time may be faster."""
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
            return optuna.create_study(
                storage=storage, study_name=content["study"], direction=direction, pruner=pruner, load_if_exists=True
            )
        except Exception as error:
            if attempt == 4:
                source = "CXR_STORAGE" if "CXR_STORAGE" in os.environ else str(folder)
                raise CxrError(f"the study cannot be opened in {source}: {type(error).__name__}") from error
            time.sleep(1 + attempt)
    raise AssertionError


def suggest(trial: "Trial", space: Mapping[str, Any]) -> list[str]:
    """Overrides with a value for each key of a search space.

    Raises:
        CxrError: an entry has neither `choices` nor `low` and `high`.
    """
    words = []
    for key, entry in space.items():
        if isinstance(entry, Mapping) and "choices" in entry:
            value: Any = trial.suggest_categorical(key, entry["choices"])
        elif isinstance(entry, Mapping) and {"low", "high"} <= set(entry):
            whole = isinstance(entry["low"], int) and isinstance(entry["high"], int)
            more = {name: entry[name] for name in ("log", "step") if name in entry}
            value = (trial.suggest_int if whole else trial.suggest_float)(key, entry["low"], entry["high"], **more)
        else:
            raise CxrError(
                f"space.{key}={entry} has neither choices nor low and high; write for example {{low: 1, high: 9}}"
            )
        words.append(f"{key}={'null' if value is None else value}")
    return words


def _value(trial: "Trial", content: Mapping[str, Any], folder: Path, words: Sequence[str]) -> float:
    """The mean over seeds of the best epoch's value."""
    chosen, values = suggest(trial, content["space"]), []
    print(f"trial {trial.number}: {' '.join(chosen)}", flush=True)
    for seed in range(content["seeds"]):
        name = f"trial-{trial.number}" + f"-seed-{seed}" * (content["seeds"] > 1)
        seeded = [f"seed={seed}"] * (content["seeds"] > 1)
        command = [*words, *chosen, *seeded, f"name={name}", f"sweep={content['study']}", "score_test=false"]
        values.append(_train(trial, content, folder / name, [*command, f"runs_dir={content['runs_dir']}"], seed == 0))
    value = sum(values) / len(values)
    print(f"trial {trial.number}: {content['metric']} {value:.4f}", flush=True)
    return value


def _train(trial: "Trial", content: Mapping[str, Any], run: Path, words: list[str], prunes: bool) -> float:
    """Trains one run and reads its metric after each epoch."""
    import optuna

    best = max if content["mode"] == "max" else min
    seen: list[float] = []
    with (folder_of_logs(run) / f"{run.name}.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-m", "cxr", "train", *words], stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                code = child.poll()
                values = _column(run / "metrics.csv", content["metric"])
                for epoch in range(len(seen), len(values)):
                    if prunes and not math.isnan(values[epoch]):
                        trial.report(values[epoch], epoch)
                seen = values
                if code is not None:
                    break
                if prunes and seen and trial.should_prune():
                    child.send_signal(signal.SIGTERM)
                    child.wait()
                    print(f"trial {trial.number}: pruned after epoch {len(seen)}", flush=True)
                    raise optuna.TrialPruned
                time.sleep(0.5)
        finally:
            if child.poll() is None:  # a signal stopped this program
                child.send_signal(signal.SIGTERM)
                child.wait()
    if code == REQUEUE:
        raise Stopped(f"trial {trial.number} was stopped")
    defined = [value for value in seen if not math.isnan(value)]
    if code or not defined:
        said = (Path(log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
        reason = said.removeprefix("error: ") or how_it_ended(code)
        print(f"error: trial {trial.number} failed: {reason}", file=sys.stderr, flush=True)
        raise TrialFailed(reason)
    return best(defined)


def folder_of_logs(run: Path) -> Path:
    """Where the output of the trainings of a study is written."""
    folder = run.parent.parent / ".hydra" / run.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _column(path: Path, name: str) -> list[float]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and name not in rows[0]:
        raise CxrError(f"metric={name} is no column of {path}; choose one of {', '.join(rows[0])}")
    return [float(row[name] or "nan") for row in rows]


def _report(study: "Study", content: Mapping[str, Any], folder: Path, words: Sequence[str]) -> None:
    """Writes tables and figures, and prints the best trial and the command that trains it anew."""
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
    chosen = [f"{key}={'null' if value is None else value}" for key, value in best.params.items()]
    again = shlex.join([*words, *chosen, "seed=0,1,2,3,4", f"sweep={content['study']}-best"])
    text = (
        f"{content['study']}: {len(states)} trials, of which {states.count(TrialState.PRUNED)} were pruned and "
        f"{states.count(TrialState.FAIL)} failed\n"
        f"best: trial {best.number}, {content['metric']} {best.value:.4f}: {' '.join(chosen)}\n"
        f"It is the best of {len(done)} values on the same validation images, and therefore optimistic. Train it anew "
        f"with several seeds:\npython train.py -m {again}\n"
    )
    write_text(folder / "report.txt", text)
    print(text, end="", flush=True)


PROGRAM = Program(
    about="Searches options with Optuna on validation: python -m cxr tune study=NAME trials=50 and options of train.",
    examples=(
        ("experiment=demo study=first trials=20", "the search space conf/space/default.yaml"),
        ("backbone=resnet50 data.root=DIR study=first", "in several processes: they share the trials"),
    ),
    options=("study", "trials", "space", "metric", "mode", "seeds", "runs_dir"),
    schema=Tune,
    job=job,
)
