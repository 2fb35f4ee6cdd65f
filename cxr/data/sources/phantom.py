"""The embedded data set: digital chest phantoms drawn by the project into the NIH layout, read by the same reader."""

from pathlib import Path

from cxr.data.catalog import Catalog
from cxr.data.sources.nih import read_nih
from cxr.phantom import write_phantoms


def read_phantom(root: str, images: int = 1200, seed: int = 0, size: int = 256, label_noise: float = 0.0) -> Catalog:
    """Draws the phantoms into `root` where they are missing, then reads them as NIH images.

    Args:
        root: folder of the data set; drawn once, never overwritten.
        images: number of radiographs.
        seed: of patients, labels and pictures.
        size: side in pixels.
        label_noise: chance that a drawn finding is left out of the table, in [0, 0.5]; absent ones are added at a rate
            that keeps its prevalence.

    Raises:
        CxrError: `root` holds something else, or phantoms of other options.
    """
    write_phantoms(Path(root).expanduser(), images=images, seed=seed, size=size, label_noise=label_noise)
    return read_nih(root)
