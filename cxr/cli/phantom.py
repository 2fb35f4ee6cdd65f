"""The program `phantom`: draws phantoms in the layout of a public data set."""

from pathlib import Path

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.schema import Phantom


def job(config: DictConfig) -> float:
    """Draws the phantoms; returns their number."""
    from cxr.phantom import write_phantoms

    chosen = plain(config, Phantom)
    root = Path(chosen["root"]).expanduser()
    write_phantoms(
        root,
        images=chosen["images"],
        seed=chosen["phantom_seed"],
        size=chosen["size"],
        label_noise=float(chosen["label_noise"]),
        processes=chosen["processes"],
        layout=chosen["layout"],
    )
    print(f"{root}: {chosen['images']} phantoms; train with data={chosen['layout']} data.root={root}", flush=True)
    return float(chosen["images"])


PROGRAM = Program(
    about="Draws phantoms in the layout of a public data set.",
    examples=(
        ("layout=chexpert root=data/chexpert", ""),
        ("layout=vindr root=data/vindr images=200 size=128", "DICOM files; needs the extra `dicom`"),
    ),
    options=("layout", "root", "images", "size", "phantom_seed", "label_noise", "processes"),
    schema=Phantom,
    job=job,
)
