"""Finds bad files, duplicates and unusual sizes among the images of a catalog, and lists them in `report.csv`."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd

from cxr.data.archives import every_content
from cxr.data.cache.manifest import Entry, Manifest
from cxr.data.catalog import REPORT, Catalog
from cxr.files.reading import read_text
from cxr.files.writing import write_text
from cxr.imaging.decode import gray
from cxr.imaging.limits import BadImage

ABSENT = "not on disk: left out (data.on_missing=skip)"
_LONG = 2.0  # a longer aspect ratio is reported
_KEPT_FIRST = ("test", "val", "train", "")  # splits; of images with the same pixels, that of the first split is kept


@dataclass(frozen=True)
class Audit:
    """Problems in the images of a catalog.

    Attributes:
        bad: image to reason; these are excluded from the catalog.
        remarks: image to remark; these are only reported.
    """

    bad: Mapping[str, str]
    remarks: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Writes `report.csv` with the columns image and reason, if its content changes.

        Raises:
            CxrError: it cannot be written, or the existing file is not a text file.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "reason"])
        names = sorted({**self.bad, **self.remarks})
        writer.writerows(
            [name, "; ".join(filter(None, (self.bad.get(name), self.remarks.get(name))))] for name in names
        )
        path = folder / REPORT
        try:
            if read_text(path) == text.getvalue():
                return
        except FileNotFoundError:
            pass
        write_text(path, text.getvalue())


def audit(catalog: Catalog, manifest: Manifest) -> Audit:
    """Checks the images of a cache for a catalog, with or without splits.

    Images that cannot be decoded or are blank are bad. Of a group of images with the same pixels, one is kept: the
    first by name in test, else in validation, else in training. Those of another patient or another split than the
    kept one are bad. Further test splits count as test.
    """
    bad = {entry.image: entry.reason for entry in manifest.images if entry.reason}
    remarks = _unusual_sizes(manifest) | dict.fromkeys(catalog.absent, ABSENT)
    for entry in manifest.images:
        if entry.remark:
            remarks[entry.image] = "; ".join(filter(None, (remarks.get(entry.image), entry.remark)))
    rows = catalog.table.set_index("image")
    split = rows["split"] if "split" in rows else pd.Series("", index=rows.index)
    further = [image for images in catalog.tests.values() for image in images]
    split = split.mask(split.index.isin(further), "test")
    patient = rows["patient"] if "patient" in rows else pd.Series("", index=rows.index)
    for group in manifest.duplicates:
        names = sorted(group, key=lambda name: (_KEPT_FIRST.index(split[name]), name))
        first = names[0]
        for name in names[1:]:
            other = []
            used = "split" not in rows or (split[name] and split[first])
            if used and patient[name] != patient[first]:
                other.append(f"of patient {patient[first]}, not {patient[name]}")
            if used and split[name] != split[first]:
                other.append(f"in {split[first]}, not {split[name]}")
            same = f"duplicate: same pixels as {first}"
            if other:
                bad[name] = f"{same}, which is {' and '.join(other)}"
            else:
                remarks[name] = f"{remarks[name]}; {same}" if name in remarks else same
    return Audit(bad, remarks)


def find_duplicates(images: Sequence[Entry], paths: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of images whose files have the same pixels, in the order of the table.

    The files of rows with the same checksum are decoded again, at full size, and compared.
    """
    alike = defaultdict(list)
    for position, entry in enumerate(images):
        if entry.pixels:
            alike[entry.pixels, entry.width, entry.height].append(position)
    candidates = [position for positions in alike.values() if len(positions) > 1 for position in positions]
    same = defaultdict(list)
    for k, pixels in _pixels_sha256([paths[position] for position in candidates]):
        entry = images[candidates[k]]
        same[pixels, entry.width, entry.height].append(candidates[k])
    groups = sorted(sorted(group) for group in same.values() if len(group) > 1)
    return tuple(tuple(images[position].image for position in group) for group in groups)


def _pixels_sha256(paths: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Position of each image, and the SHA-256 of its pixels; those that have changed since are left to the next run."""
    for position, content in every_content(paths):
        with suppress(BadImage):
            if not isinstance(content, BadImage):
                yield position, sha256(gray(content).tobytes()).hexdigest()


def _unusual_sizes(manifest: Manifest) -> dict[str, str]:
    """Remarks on images of another size than most; without a common size, on long images and those below cache size."""
    sizes = Counter((entry.width, entry.height) for entry in manifest.images if entry.pixels)
    if not sizes:
        return {}
    (usual, count) = sizes.most_common(1)[0]
    remarks: dict[str, str] = {}
    for entry in manifest.images:
        size = (entry.width, entry.height)
        if not entry.pixels or size == usual:
            continue
        shown = f"unusual size: {size[0]}x{size[1]}"
        if 2 * count > sizes.total():
            remarks[entry.image] = f"{shown}, most are {usual[0]}x{usual[1]}"
        elif max(size) > _LONG * min(size):
            remarks[entry.image] = f"{shown} is very long"
        elif min(size) < manifest.size:
            remarks[entry.image] = f"{shown} is smaller than the cache"
    return remarks
