"""The run directory `runs/<name>/`: its files, how it is created, locked and read."""

import glob
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cxr import __version__
from cxr.configuration.private import with_places, without_places
from cxr.configuration.saved import read_configuration
from cxr.errors import CxrError, counted
from cxr.files.locking import locked
from cxr.files.naming import CALIBRATED, is_test_name, legal_name
from cxr.files.reading import read_text
from cxr.files.writing import staged, unwritable, write_text
from cxr.run.smoke import is_smoke

_PACKAGES = ("torch", "lightning", "timm", "albumentations", "numpy")
_LONGEST_FILE = 1 << 25  # bytes of metrics.json, usually less than one million


@dataclass(frozen=True)
class Run:
    """A run directory, which may not exist yet.

    Attributes:
        path: `runs/<name>` or `runs/<sweep>/<name>`.
    """

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """The checkpoint with the best value of the task's monitor."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint that training resumes from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The preceding `last.ckpt`, which is used if `last.ckpt` is damaged."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def log(self) -> Path:
        """Metrics, one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def steps(self) -> Path:
        """Losses, one row every few optimizer steps."""
        return self.path / "steps.csv"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    def predictions(self, split: str) -> Path:
        """The Parquet file of `val`, `test` or a further test split."""
        return self.path / "predictions" / f"{split}.parquet"

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Test splits with predictions: `test`, then further test splits by name."""
        names = sorted(path.stem for path in (self.path / "predictions").glob("*.parquet"))
        return (*["test"] * ("test" in names), *filter(is_test_name, names))

    def results_of_tests(self) -> list[Path]:
        """Tables, figures, calibrations and, last, predictions of test splits."""
        files = [path for path in self.path.glob("evaluation/*") if path.suffix in (".csv", ".md", ".tex")]
        files += self.path.glob("calibration.json")
        for split in self.test_splits:
            files += self.figures.glob(f"*_{split}.png")
            files += self.path.glob(f"predictions/{split}{CALIBRATED}.parquet")
        return [*files, *map(self.predictions, self.test_splits)]

    @property
    def metrics_path(self) -> Path:
        """Results, written last: a run with this file is finished."""
        return self.path / "metrics.json"

    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`; empty if it is missing.

        Raises:
            CxrError: it is not a JSON object, or a value that programs read is not a number.
        """
        try:
            content = json.loads(read_text(self.metrics_path, _LONGEST_FILE))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not _plausible(content):
            raise CxrError(f"{self.metrics_path} is not the JSON object of a run; was it edited? remove or restore it")
        return content

    def is_finished(self, config: Mapping[str, Any]) -> bool:
        """Whether a training of this configuration would have no epoch left."""
        done = self.metrics()
        return bool(done) and int(config["trainer"]["max_epochs"]) <= int(done["max_epochs"])

    def metric(self, split: str, name: str = "macro_auroc") -> float | None:
        """A number of `metrics.json` without its interval; None if it is undefined or missing."""
        plain = self.metrics().get(split, {}).get(name)
        value = plain.get("value") if isinstance(plain, dict) else plain
        return value if isinstance(value, float) else None

    @property
    def unfinished(self) -> bool:
        """Whether training can resume: results are missing or cover fewer epochs than configured."""
        if not self.last.exists():
            return False
        trainer, done = self.config().get("trainer"), self.metrics()
        epochs = trainer.get("max_epochs") if isinstance(trainer, Mapping) else None
        return not done or (isinstance(epochs, int) and done.get("max_epochs", epochs) < epochs)

    @property
    def smoke(self) -> bool:
        """Whether it is a smoke run, see `is_smoke`; False if its configuration cannot be read."""
        try:
            return is_smoke(self.config())
        except CxrError:
            return False  # other checks report the error

    def refuse_smoke(self) -> None:
        """Raises CxrError for a smoke run, which has no results."""
        if self.smoke:
            raise CxrError(
                f"{self.path} is a smoke run (debug=, trainer.fast_dev_run or overfit_batches) without results; train "
                "it without that option"
            )

    def config(self) -> dict[str, Any]:
        """The content of `config.yaml`.

        Earlier versions replaced absolute paths by `elsewhere:<last part>` and kept the paths in `.places` next to the
        run.

        Raises:
            CxrError: it is missing or is not a plain YAML mapping, see `read_configuration`.
        """
        try:
            text = read_text(self.config_path, _LONGEST_FILE)
        except FileNotFoundError:
            raise CxrError(f"{self.path} is not a run: it has no config.yaml") from None
        config = read_configuration(text, str(self.config_path))
        return with_places(config, self._earlier_places(config))

    @property
    def tta(self) -> str:
        """What its scores are means over: `flip`, `crops` or `none`, see `cxr.training.averaged`."""
        return str(self.config().get("tta", "none")) if os.path.lexists(self.config_path) else "none"

    @property
    def hierarchy(self) -> Any:
        """The tree of findings in which no score is above its parent's, see `cxr.data.hierarchy`; none without one."""
        task = self.config().get("task") if os.path.lexists(self.config_path) else None
        return task.get("hierarchy") if isinstance(task, dict) else self.metrics().get("hierarchy")

    def with_places(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration from a checkpoint of this run, with the absolute paths from `config.yaml`."""
        return with_places(config, without_places(self.config())[1] if self.config_path.exists() else {})

    def save_config(self, config: Mapping[str, Any], folder: Path | None = None) -> None:
        """Writes `config.yaml`.

        Args:
            folder: the folder in which the run is being created; by default `path`.
        """
        write_text((folder or self.path) / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def _earlier_places(self, config: Mapping[str, Any]) -> dict[str, str]:
        name = legal_name(f"{self.path.name[:100]}-{config.get('run_id')}")
        try:
            content = json.loads(read_text(self.path.parent / ".places" / f"{name}.json", _LONGEST_FILE))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        known = isinstance(content, dict) and all(isinstance(value, str) for value in content.values())
        return content if known else {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Locks the run: no other process trains or evaluates it. The lock ends with this process at the latest.

        Raises:
            CxrError: another process has locked it, or the directory cannot be written.
        """
        lock = self.path / ".lock"
        refusal = f"another process is training or evaluating {self.path}; wait for it, or choose another name="
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, refusal))
            except OSError as error:
                raise unwritable(lock, error) from error
            yield

    def check_there(self, config: Mapping[str, Any]) -> None:
        """Raises CxrError if the directory was deleted, renamed, or replaced by another run during training."""
        try:
            text = self.config_path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        if not text or str(config.get("run_id") or "") not in text:
            raise CxrError(
                f"{self.path} was deleted, renamed or replaced during training, which therefore ends; restore it and "
                "pass resume=true, or start a new run"
            )

    def create(self, config: Mapping[str, Any]) -> None:
        """Creates the directory atomically, with its configuration.

        Raises:
            CxrError: the name is taken, or the directory cannot be written.
        """
        try:
            with staged(self.path) as staging:
                self.save_config(config, staging)
                if os.path.lexists(self.path):
                    raise name_taken_error(self.path)
                os.rename(staging, self.path)
        except OSError as error:
            taken = os.path.lexists(self.path)
            raise (name_taken_error(self.path) if taken else unwritable(self.path, error)) from error


def runs_of(pattern: str) -> list[Run]:
    """The run directory of a path, or those of a glob without its smoke runs, which are printed.

    Raises:
        CxrError: the path is a smoke run.
    """
    if not glob.has_magic(pattern):
        Run(Path(pattern)).refuse_smoke()
        return [Run(Path(pattern))]
    runs = [Run(Path(path)) for path in sorted(glob.glob(pattern))]
    smoke = [run for run in runs if run.smoke]
    if smoke:
        shown = ", ".join(str(run.path) for run in smoke[:3]) + (", ..." if len(smoke) > 3 else "")
        print(f"{counted(len(smoke), 'smoke run')} skipped: {shown}", flush=True)
    return [run for run in runs if run not in smoke]


def name_taken_error(path: Path, remedy: str = "choose another name=, or pass resume=true to resume it") -> CxrError:
    """The error for a run name that exists."""
    return CxrError(f"{path} exists; {remedy}")


def versions() -> dict[str, str]:
    """Versions of this framework, Python and the packages that affect results."""
    return {"cxr": __version__, "python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _plausible(metrics: Mapping[str, Any]) -> bool:
    """Whether the values that resuming and sweeps read have the right types."""
    if type(metrics.get("max_epochs", 1)) is not int or type(metrics.get("best_epoch", 0)) is not int:
        return False
    evaluated = [metrics[split] for split in ("val", "test") if split in metrics]
    return all(isinstance(numbers, dict) and _is_number(numbers.get("macro_auroc")) for numbers in evaluated)


def _is_number(plain: object) -> bool:
    """Whether a value is null, a number, or a number with its interval."""
    return plain is None or type(plain.get("value") if isinstance(plain, dict) else plain) is float
