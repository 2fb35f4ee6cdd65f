"""The program `compare`: ranks runs on the same images and tests their differences."""

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.programs import Compare


def job(config: DictConfig) -> float | None:
    """Compares runs; returns the best macro average."""
    from cxr.evaluation.compare import compare_runs

    return compare_runs(plain(config, Compare))


PROGRAM = Program(
    about="Ranks runs with confidence intervals; several seeds of one configuration are one row.",
    examples=(
        ("runs='runs/*'", "tests which runs differ by more than noise"),
        ("runs='[runs/a,runs/ensemble-weighted]'", "two runs are also compared by finding"),
        ("runs='runs/first/*' split=val metric=average_precision", ""),
    ),
    options=("runs", "split", "metric", "resamples", "seed", "out"),
    schema=Compare,
    job=job,
)
