"""The program `tune`: trials of a search space with Optuna, each a training of its own process, without test scores."""

import csv
import math
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
from cxr.cli.study import assigned, open_study, report, try_first
from cxr.configuration.schema import Tune
from cxr.errors import CxrError, first_line
from cxr.files.naming import check_name
from cxr.processes.isolation import die_with_parent, how_it_ended
from cxr.processes.stopping import REQUEUE, Stopped

if TYPE_CHECKING:
    from optuna import Trial

_OWN = ("space", "study", "trials", "metric", "mode", "seeds", "warm_start", "runs_dir")
_SET = {"name": "study=NAME", "sweep": "study=NAME", "score_test": "python -m cxr evaluate", "resume": "study=NAME"}
_FAILURES = 3  # in succession, which end the program


class TrialFailed(Exception):
    """The training of a trial failed."""


def own_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line for `tune` itself, and those for its trainings."""

    def own(word: str) -> bool:
        return word.startswith("-") or word.partition("=")[0].partition(".")[0].lstrip("+~") in (*_OWN, "hydra", "help")

    both = "hydra.searchpath="  # of a space, and of the options of trainings
    return [word for word in words if own(word)], [word for word in words if not own(word) or word.startswith(both)]


def job(config: DictConfig) -> None:
    """Runs trials until the study has as many as requested, and reports."""
    content = {**plain(config, Tune), "runs_dir": config.runs_dir}
    words = list(config.train)
    for word in words:
        if (key := word.partition("=")[0]) in _SET:
            raise CxrError(f"tune sets {key} of its trials; remove {word}, and use {_SET[key]}")
    check_name(content["study"], "study")
    folder = Path(config.runs_dir) / content["study"]
    if (folder / "config.yaml").exists():
        raise CxrError(f"{folder} is a run; choose another study=NAME")
    try:
        import optuna
    except ImportError:
        raise CxrError("tune needs Optuna: make setup EXTRAS=tune, or pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are printed here
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats
    if not content["space"]:
        raise CxrError("the search space is empty; give it an entry such as optimizer.lr: {low: 1.0e-5, high: 1.0e-2}")
    suggest(optuna.create_study().ask(), content["space"])  # an error now, not in the first trial
    folder.mkdir(parents=True, exist_ok=True)
    study, failures = open_study(content, folder), 0
    try_first(study, content)
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
    report(study, content, folder, words)


def suggest(trial: "Trial", space: Mapping[str, Any]) -> list[str]:
    """Overrides with a value for each key of a search space.

    Raises:
        CxrError: an entry has neither `choices` nor `low` and `high`, or is no distribution.
    """
    words = []
    for key, entry in space.items():
        try:
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
        except (ValueError, TypeError) as error:
            raise CxrError(f"space.{key}={entry} cannot be sampled; correct it: {first_line(error)}") from error
        words.append(assigned(key, value))
    return words


def _value(trial: "Trial", content: Mapping[str, Any], folder: Path, words: Sequence[str]) -> float:
    """The mean over seeds of the best epoch's value."""
    import optuna

    retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    first = retry.retried_trial_number(trial.study.trials[trial.number])  # whose process has ended; None if it is new
    chosen, values = suggest(trial, content["space"]), []
    resumed = f" (resumes trial {first})" if first is not None else ""
    print(f"trial {trial.number}{resumed}: {' '.join(chosen)}", flush=True)
    for seed in range(content["seeds"]):
        name = f"trial-{trial.number if first is None else first}" + f"-seed-{seed}" * (content["seeds"] > 1)
        seeded = [f"seed={seed}"] * (content["seeds"] > 1)
        command = [*words, *chosen, *seeded, f"name={name}", f"sweep={content['study']}", "score_test=false"]
        command += [assigned("runs_dir", content["runs_dir"]), *["resume=auto"] * bool(resumed)]
        try:
            values.append(_train(trial, content, folder / name, command, seed == 0))
        except (Stopped, KeyboardInterrupt) as stop:  # the next call resumes it
            if isinstance(stop, Stopped):  # after ctrl-C, Optuna itself does this
                trial.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            retry(trial.study, trial.study.trials[trial.number])
            raise
    value = sum(values) / len(values)
    print(f"trial {trial.number}: {content['metric']} {value:.4f}", flush=True)
    return value


def _train(trial: "Trial", content: Mapping[str, Any], run: Path, words: list[str], prunes: bool) -> float:
    """Trains one run and reads its metric after each epoch."""
    import optuna

    best = max if content["mode"] == "max" else min
    seen: list[float] = []
    with (folder_of_logs(run) / f"{run.name}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cxr", "train", *words], stdout=log, stderr=log, preexec_fn=die_with_parent
        )
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


PROGRAM = Program(
    about="Searches options with Optuna on validation: python -m cxr tune study=NAME trials=50 and options of train.",
    examples=(
        ("experiment=demo study=first trials=20", "the search space conf/space/default.yaml"),
        ("backbone=resnet50 data.root=DIR study=first", "in several processes: they share the trials"),
    ),
    options=("study", "trials", "space", "metric", "mode", "seeds", "warm_start", "runs_dir"),
    schema=Tune,
    job=job,
)
