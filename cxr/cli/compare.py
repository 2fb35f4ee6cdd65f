"""The program `compare`: runs ranked on the same images, and which differences are noise."""

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Compare


def job(config: DictConfig) -> float | None:
    """Compares runs; returns the best macro average."""
    from cxr.evaluation.compare import compare_runs

    return compare_runs(plain(config, Compare))


PROGRAM = Program(
    about="Ranks runs with intervals; several seeds of one configuration are one row.",
    examples=(
        ("runs='runs/*'", "which runs differ by more than noise"),
        ("runs='[runs/a,runs/ensemble-weighted]'", "and, of two, by finding"),
        ("runs='runs/first/*' split=val metric=average_precision", ""),
    ),
    options=("runs", "split", "metric", "resamples", "seed", "out"),
    schema=Compare,
    job=job,
)
