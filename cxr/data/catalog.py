"""The catalog: a checked table of radiographs with one row per image and one column per finding."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxr.data.boxes import check_boxes, no_boxes
from cxr.data.soft import SOFT, check_soft, soft_targets
from cxr.errors import CxrError, counted
from cxr.findings import Place, check_known, check_names, check_printable

# The columns of every source in addition to its findings.
COLUMNS = ("image", "path", "patient", "followup", "age", "sex", "view")
REPORT = "report.csv"  # in the folder of a cache: missing, bad and unusual images
SPLITS = ("train", "val", "test")
OLDEST = 100  # years; ages above are read as unknown (the 2017 table has typing errors up to 414)


@dataclass(frozen=True)
class Catalog:
    """A table of radiographs and its findings.

    Attributes:
        table: one row per image with the columns of `COLUMNS`, a float column per finding (1 present, 0 absent,
            NaN unknown), and, from the source or after splitting, `split` (`train`, `val`, `test`, or empty for images
            in no split); it may have soft training targets, see `cxr.data.soft`.
        findings: the finding columns, in the order of the network's outputs.
        origin: name of this table in errors, usually its file.
        absent: images that were excluded because they are not on disk.
        tests: further test splits, name to image ids; they may share images with `test`.
        boxes: of the catalog's images and findings, see `cxr.data.boxes`.
    """

    table: pd.DataFrame
    findings: tuple[str, ...]
    origin: str
    absent: tuple[str, ...] = ()
    tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boxes: pd.DataFrame = field(default_factory=no_boxes)

    def __len__(self) -> int:
        return len(self.table)

    def in_split(self, split: str) -> "pd.Series[bool]":
        """(N,) whether each image is in the split."""
        if split in self.tests:
            return self.table["image"].isin(self.tests[split])
        return self.table["split"] == split

    def rows(self, split: str) -> pd.DataFrame:
        """The rows of one split, in the table's order."""
        return self.table[self.in_split(split)]

    def targets(self, split: str) -> np.ndarray:
        """The labels of one split, (N, L) float32 with NaN for unknown."""
        return self.rows(split)[list(self.findings)].to_numpy(np.float32)

    def only(self, kept: NDArray[np.bool_]) -> "Catalog":
        """The catalog of the rows in the mask `kept` (N,), renumbered, with their test splits and boxes."""
        table = self.table[kept].reset_index(drop=True)
        images = set(table["image"])
        tests = {name: tuple(image for image in listed if image in images) for name, listed in self.tests.items()}
        boxes = self.boxes[self.boxes["image"].isin(images)].reset_index(drop=True)
        return replace(self, table=table, tests=tests, boxes=boxes)

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Names of all test splits, `test` first."""
        return ("test", *self.tests)

    @property
    def tests_text(self) -> str:
        """The images of further test splits, one line per image and split, for checksums; empty without such splits."""
        return "\n".join(f"{image}\t{name}" for name in sorted(self.tests) for image in sorted(self.tests[name]))

    @property
    def labels_sha256(self) -> str:
        """SHA-256 of findings, image names, patients and labels, and of soft targets and further test splits if any."""
        digest = hashlib.sha256("\n".join(self.findings).encode())
        order = order_of_images(self.table).to_numpy()
        for column in ("image", "patient"):
            digest.update("\n".join(self.table[column].to_numpy(object)[order]).encode())
        labels = self.table[list(self.findings)].to_numpy(np.float32)
        digest.update(np.where(np.isnan(labels), 2, labels).astype(np.uint8)[order].tobytes())
        soft = soft_targets(self.table, self.findings)
        if not np.isnan(soft).all():
            digest.update(np.where(np.isnan(soft), np.float32(2), soft)[order].tobytes())
        digest.update(self.tests_text.encode())
        return digest.hexdigest()


def order_of_images(table: pd.DataFrame) -> pa.UInt64Array:
    """The rows (N,) in the order of their image names; Arrow sorts text ten times as fast as pandas."""
    return pc.sort_indices(pa.array(table["image"], pa.large_string()))


def check(catalog: Catalog, lines: Sequence[int] | None = None, headings: Mapping[str, str] | None = None) -> Catalog:
    """Checks the schema of a catalog and returns it, with NaN in `split` replaced by empty text.

    Args:
        catalog: to check.
        lines: line of each row in the file; by default rows follow one line of headings.
        headings: column to its heading in the file, where they differ.

    Raises:
        CxrError: a column is missing, the table is empty, an image or a patient has no name, an image has two rows, a
            label is not 1, 0 or unknown, a soft target is not in [0, 1] or has no finding, a split or a test split is
            invalid, a box is invalid, a finding has the name of a column, the name of a finding or an image is unsafe
            in a path or a table, or a patient id cannot be printed. The message names the table, the first errors with
            line and column, and the remedy.
    """
    table, origin = catalog.table, catalog.origin
    missing = [column for column in (*COLUMNS, *catalog.findings) if column not in table]
    if missing:
        raise CxrError(f"{origin} lacks the column {', '.join(missing)}; its columns are {', '.join(table.columns)}")
    if table.empty:
        raise CxrError(f"{origin} has no images; expected one row per image")
    where = range(2, len(table) + 2) if lines is None else lines
    named = {str(name): (headings or {}).get(str(name), str(name)) for name in table}

    def listed(rows: pd.Series) -> str:
        return some([str(where[int(row)]) for row in np.flatnonzero(rows)])

    def place(column: str) -> Place:
        return lambda row: f" (line {where[row]}, column {named[column]!r})"

    for column in ("image", "patient"):
        blank = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if blank.any():
            raise CxrError(
                f"{origin} has {counted(blank.sum(), 'row')} without {column} (line {listed(blank)}), column "
                f"{named[column]!r}; fill or remove them"
            )
    check_names(catalog.findings, "finding", origin)
    taken = [name for name in catalog.findings if name in (*COLUMNS, "split") or name.startswith(SOFT)]
    if taken:
        raise CxrError(f"{origin} has the finding {taken[0]!r}, which is the name of another column; rename it")
    check_names(table["image"], "image", origin, place("image"), paths=True)
    check_printable(table["patient"], "patient", origin, place("patient"))
    twice = table["image"].duplicated()
    if twice.any():
        same = table["image"] == table["image"][twice].iloc[0]
        raise CxrError(
            f"{origin} lists {some(table['image'][twice])} more than once ({counted(twice.sum(), 'duplicate row')}), "
            f"the first on lines {listed(same)}, column {named['image']!r}; keep one row per image"
        )
    for finding in catalog.findings:
        labels = table[finding]
        wrong = ~((labels == 0) | (labels == 1) | labels.isna())
        if wrong.any():
            raise CxrError(
                f"{origin} labels {table['image'][wrong].iloc[0]} {finding}={labels[wrong].iloc[0]}; labels are 1, 0 "
                f"or empty for unknown (line {listed(wrong)}, column {named[finding]!r})"
            )
    images = set(table["image"]) if catalog.tests or len(catalog.boxes) else set()
    for name, members in catalog.tests.items():
        absent = [image for image in members if image not in images]
        if absent:
            raise CxrError(f"the test split {name} of {origin} names images that its table lacks: {some(absent)}")
    check_boxes(catalog.boxes, images, catalog.findings, origin)
    check_soft(table, catalog.findings, origin, lambda rows, name: f"(line {listed(rows)}, column {named[name]!r})")
    return _with_split(catalog, lambda rows: f"(line {listed(rows)}, column {named['split']!r})")


def _with_split(catalog: Catalog, place: Callable[[pd.Series], str]) -> Catalog:
    if "split" not in catalog.table:
        return catalog
    table = catalog.table
    split = table["split"].astype(object).where(table["split"].notna(), "")
    strange = ~split.isin(["", *SPLITS])
    if strange.any():
        image, value = table["image"][strange].iloc[0], split[strange].iloc[0]
        raise CxrError(
            f"{catalog.origin} puts {image} into the split {value!r}; it must be {', '.join(SPLITS)} or empty "
            f"{place(strange)}"
        )
    return replace(catalog, table=table.assign(split=split)) if table["split"].isna().any() else catalog


def choose_findings(
    catalog: Catalog, findings: Sequence[str] | None, exclude: Sequence[str], min_cases: int
) -> Catalog:
    """Keeps the chosen findings that are not excluded and have at least `min_cases` positives in the table.

    Positives are counted in the whole table, before any split: the paper's thirteen findings have at least 228 cases
    among all 112,120 images (Hernia has 227).

    Raises:
        CxrError: a name is unknown, is listed twice, or no finding is left.
    """
    check_known(findings or (), catalog.findings, "data.findings")
    check_known(exclude, catalog.findings, "data.exclude")
    chosen = tuple(findings) if findings else catalog.findings
    if len(set(chosen)) < len(chosen):
        raise CxrError(f"data.findings names a finding twice: {', '.join(chosen)}; name each once")
    cases = {name: int((catalog.table[name] == 1).sum()) for name in chosen}
    kept = tuple(name for name in chosen if name not in exclude and cases[name] >= min_cases)
    if not kept:
        most = max(cases.values())
        raise CxrError(
            f"no finding is left: data.exclude={list(exclude)} and data.min_cases={min_cases} remove all of "
            f"{', '.join(chosen)} (the most frequent has {most} cases); exclude fewer or lower data.min_cases"
        )
    dropped = [name for name in catalog.findings if name not in kept]
    table = catalog.table.drop(columns=dropped).drop(columns=[f"{SOFT}{name}" for name in dropped], errors="ignore")
    boxes = catalog.boxes[catalog.boxes["finding"].isin(kept)].reset_index(drop=True)
    return replace(catalog, table=table, findings=kept, boxes=boxes)


def single_finding(catalog: Catalog) -> Catalog:
    """Excludes images without exactly one finding or with an unknown label, and prints their number.

    Raises:
        CxrError: no image is left.
    """
    labels = catalog.table[list(catalog.findings)].to_numpy(float)
    kept = ((labels == 1).sum(axis=1) == 1) & ~np.isnan(labels).any(axis=1)
    if not kept.any():
        raise CxrError(
            f"data.single_finding=true leaves no image: none of {catalog.origin} has exactly one of "
            f"{', '.join(catalog.findings)}; choose others with data.findings"
        )
    print(f"{(~kept).sum()} of {len(catalog)} images are left out: they do not have exactly one finding", flush=True)
    return catalog.only(kept)


def check_images_exist(catalog: Catalog, on_missing: str) -> Catalog:
    """Checks that every row has an image file; `path` is empty if the source found none.

    Args:
        catalog: the table.
        on_missing: `fail` raises an error; `skip` excludes the rows and prints their number.

    Raises:
        CxrError: no image is on disk, or one is missing and `on_missing` is `fail`.
    """
    absent = catalog.table["path"] == ""
    if not absent.any():
        return catalog
    if absent.all():
        raise CxrError(
            f"none of the {len(catalog)} images of {catalog.origin} is on disk; is data.root the right folder?"
        )
    if on_missing == "fail":
        raise CxrError(
            f"{absent.sum()} of {len(catalog)} images of {catalog.origin} are not on disk: "
            f"{some(catalog.table['image'][absent])}; complete the download or pass data.on_missing=skip"
        )
    names = tuple(catalog.table["image"][absent])
    print(
        f"{len(names)} of {len(catalog)} images of {catalog.origin} are not on disk and are left out: {some(names)} "
        f"({REPORT} of the cache lists all)",
        flush=True,
    )
    return replace(catalog.only(~absent.to_numpy()), absent=names)


def parse_age(values: pd.Series) -> pd.Series:
    """Ages in years from integers or from DICOM-like strings (`060Y`, `018M`, `005D`); unknown or over 100 is NaN."""
    codes, distinct = pd.factorize(values.astype(str).fillna(""))
    text = pd.Series(distinct, dtype=str).str.strip()
    parts = text.str.extract(r"^(\d+(?:\.\d+)?)\s*([YMWDymwd]?)$")
    unit = parts[1].str.upper().map({"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25})
    years = parts[0].astype(float) * unit
    return pd.Series(years.where(years <= OLDEST).to_numpy(float)[codes], index=values.index)


def root_folder(root: str | None, layout: str) -> Path:
    """The folder `data.root`; raises CxrError with the expected layout if there is none."""
    if not root:
        raise CxrError(f"data.root is not set; pass data.root=DIR, the folder with {layout} (see docs/data.md)")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise CxrError(f"data.root={root} is not a folder; expected the one with {layout} (see docs/data.md)")
    return folder


def some(names: Sequence[str] | pd.Series, most: int = 3) -> str:
    """The first few names, for a message."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
