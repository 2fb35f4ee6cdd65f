"""The embedded data set: digital chest phantoms drawn by the project into the NIH layout, read by the same reader."""

from dataclasses import replace
from pathlib import Path

from cxr.data.catalog import Catalog, check
from cxr.data.sources.nih import read_nih
from cxr.findings import NIH14, NO_FINDING
from cxr.phantom import LONG_TAIL, write_phantoms


def read_phantom(
    root: str, images: int = 1200, seed: int = 0, size: int = 256, label_noise: float = 0.0, long_tail: bool = False
) -> Catalog:
    """Draws the phantoms into `root` where they are missing, then reads them as NIH images.

    Args:
        root: folder of the data set; drawn once, never overwritten.
        images: number of radiographs.
        seed: of patients, labels and pictures.
        size: side in pixels.
        label_noise: chance that a drawn finding is left out of the table, in [0, 0.5]; absent ones are added at a rate
            that keeps its prevalence.
        long_tail: one finding per image, No Finding among them, ordered from the most to the least frequent.

    Raises:
        CxrError: `root` holds something else, or phantoms of other options.
    """
    folder = Path(root).expanduser()
    write_phantoms(folder, images=images, seed=seed, size=size, label_noise=label_noise, long_tail=long_tail)
    catalog = read_nih(root)
    if not long_tail:
        return catalog
    none = (catalog.table[list(NIH14)].sum(axis=1) == 0).astype(float)
    return check(replace(catalog, table=catalog.table.assign(**{NO_FINDING: none}), findings=LONG_TAIL))
