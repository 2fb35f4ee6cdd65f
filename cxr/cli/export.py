"""The program `export`: writes a run as a bundle."""

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.programs import Export


def job(config: DictConfig) -> None:
    """Writes the bundle."""
    chosen = plain(config, Export)
    from cxr.export.bundle import export_bundle

    export_bundle(chosen)


PROGRAM = Program(
    about="Writes a run or an ensemble as a bundle that works without PyTorch, and verifies it on images of the run.",
    examples=(
        ("run=runs/a", "writes runs/a/bundle and prints its digest"),
        ("run=runs/a int8=true out=small", "in 8 bits, a quarter of the size"),
        ("run=runs/a page=true", "and as one HTML file for a browser"),
        ("run=runs/both out=both-1.0 data.root=DIR", "the images have moved to DIR"),
    ),
    options=("run", "out", "int8", "page", "data.root", "data.file", "cache.dir"),
    schema=Export,
    job=job,
)
