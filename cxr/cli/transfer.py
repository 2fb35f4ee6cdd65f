"""The program `transfer`: runs on their own test split and on other data sets, side by side."""

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.programs import Transfer


def job(config: DictConfig) -> float | None:
    """Writes the table; returns the smallest macro AUROC on another data set."""
    from cxr.evaluation.transfer import transfer

    return transfer(plain(config, Transfer))


PROGRAM = Program(
    about="Tabulates runs on their own test split and on other data sets, after evaluate with data=NAME.",
    examples=(("runs='runs/*'", "macro AUROC, calibration error and sensitivity, with intervals"),),
    options=("runs", "out"),
    schema=Transfer,
    job=job,
)
