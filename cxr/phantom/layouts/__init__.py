"""Phantoms as each public data set is published: its folders, tables and formats of images, a function per set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cxr.phantom.layouts.drawn import Drawn
from cxr.phantom.layouts.radiology import rsna, siim, vinbigdata, vindr
from cxr.phantom.layouts.reports import brax, chexpert, cxr_lt, mimic_cxr
from cxr.phantom.layouts.single import chestmnist, openi, padchest

LAYOUTS: Mapping[str, Callable[[Path, Sequence[Drawn]], None]] = {
    "chexpert": chexpert, "mimic_cxr": mimic_cxr, "padchest": padchest, "vindr": vindr, "vinbigdata": vinbigdata,
    "cxr_lt": cxr_lt, "brax": brax, "rsna": rsna, "siim": siim, "openi": openi, "chestmnist": chestmnist,
}  # fmt: skip
