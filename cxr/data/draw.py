"""Draws a test split by patient from a table without one."""

from dataclasses import replace

from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.metrics.stratification import draw_patients


def draw_test(catalog: Catalog, share: object, seed: int) -> Catalog:
    """Adds a test split of patients drawn from the training images, unless the catalog has a test split.

    The draw is a function of patients, labels, share and seed. It does not depend on the order of rows, on the findings
    that are chosen later, or on missing images.

    Args:
        catalog: the checked table, with or without the column `split`.
        share: of the images, in (0, 1).
        seed: of the draw.

    Raises:
        CxrError: the share is not in (0, 1), or there are too few patients.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise CxrError(f"data.test_share={share} must be above 0 and below 1")
    table = catalog.table
    if "split" not in table:
        table = table.assign(split="train")
    elif (table["split"] == "test").any():
        return catalog
    free = table[table["split"] == "train"]
    try:
        drawn = draw_patients(free, catalog.findings, float(share), seed)
    except CxrError:
        raise CxrError(
            f"the {free['patient'].nunique()} patients of {catalog.origin} cannot be split with "
            f"data.test_share={share}; give data.test_list, or a split column"
        ) from None
    print(f"{catalog.origin} has no test split: {share:.0%} of its images are drawn by patient", flush=True)
    split = table["split"].mask((table["split"] == "train") & table["patient"].isin(drawn), "test")
    return replace(catalog, table=table.assign(split=split))
