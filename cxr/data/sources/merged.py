"""Several data sets as one catalog: unique ids, one vocabulary, and the split of each set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from cxr.data.catalog import Catalog, check
from cxr.data.soft import SOFT
from cxr.errors import CxrError, counted
from cxr.files.naming import is_test_name
from cxr.findings import unified

# Readers whose data sets have the same patients have the same publisher here; those of tables have none.
_PUBLISHERS = {
    "nih": "NIH", "nih_lt": "NIH", "rsna": "NIH", "siim": "NIH", "chestmnist": "NIH",
    "mimic_cxr": "MIMIC", "mimic_lt": "MIMIC", "cxr_lt": "MIMIC", "vindr": "VinDr", "vinbigdata": "VinDr",
    "chexpert": "CheXpert", "padchest": "PadChest", "brax": "BRAX", "openi": "OpenI",
}  # fmt: skip
_WITHOUT_PATIENTS = ("chestmnist", "vindr", "vinbigdata")  # each image counts as a patient


@dataclass(frozen=True)
class Part:
    """A data set to be merged.

    Attributes:
        catalog: checked and split.
        source: the options of its reader, with `_target_`.
        drawn: its test split was drawn, so that its patients can be moved to the split that another set has them in.
    """

    catalog: Catalog
    source: Mapping[str, object]
    drawn: bool

    @property
    def reader(self) -> str:
        """Name of the module that reads it, such as `nih`."""
        return reader_of(self.source)

    @property
    def names_patients(self) -> bool:
        """Whether its patients have the ids that other sets of the publisher use."""
        return self.reader not in _WITHOUT_PATIENTS and not self.source.get("one_image_a_patient")


def reader_of(source: Mapping[str, object]) -> str:
    """Name of the module that reads a set with these options, such as `nih`."""
    return str(source["_target_"]).split(".")[-2]


def owner(name: str, source: Mapping[str, object]) -> str:
    """What precedes the patient ids of a set: its publisher, whose sets share patients, or else its own name."""
    built_in = str(source["_target_"]).startswith("cxr.data.sources.")
    return _PUBLISHERS.get(reader_of(source), name) if built_in else name


def hides_common_images(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two sets have the same images under other names, so that neither ids nor patients tell which.

    Two sets with the same reader have the same ids, and so have `vindr` and `vinbigdata`.
    """
    readers = reader_of(one), reader_of(other)
    if readers[0] == readers[1] or not owner("", one) == owner("", other) == "NIH":
        return False
    return "chestmnist" in readers or any(source.get("one_image_a_patient") for source in (one, other))


def merge(parts: Mapping[str, Part], root: str | None = None, combine: str = "union") -> Catalog:
    """The catalog of all images, with a column `source` and a further test split for every set.

    Images are `NAME/image`, patients `OWNER/patient`, see `owner`. Findings have the names of `unified`; one that a set
    does not label is unknown. Sets with a drawn split follow the others: a patient of several sets is in the split of
    the first of them.

    Args:
        parts: the sets by name.
        root: not used.
        combine: `union` or `intersection` of the findings.

    Raises:
        CxrError: fewer than two sets, an invalid name or option, two sets that have the same images without naming
            their patients, or no common finding.
    """
    if len(parts) < 2:
        raise CxrError(
            "data=merged needs two sets or more; pass data.sets.NAME=OPTION data.sets.NAME.root=DIR for each"
        )
    if combine not in ("union", "intersection"):
        raise CxrError(f"data.combine={combine} is unknown; choose union or intersection")
    _check_shared(parts)
    parts = {name: replace(part, catalog=renamed(part.catalog, unified)) for name, part in parts.items()}
    sides: dict[str, str] = {}
    tests: dict[str, tuple[str, ...]] = {}
    tables, boxes, absent = {}, [], []
    for name in sorted(parts, key=lambda name: parts[name].drawn):  # a stable order
        catalog, ids = parts[name].catalog, f"{name}/"
        table = catalog.table.assign(
            image=ids + catalog.table["image"],
            patient=f"{owner(name, parts[name].source)}/" + catalog.table["patient"],
            source=name,
        )
        if parts[name].drawn:
            table = _following(table, sides, name)
        used = table[table["split"] != ""]
        sides = dict(zip(used["patient"], used["split"], strict=True)) | sides
        tables[name] = table
        boxes.append(catalog.boxes.assign(image=ids + catalog.boxes["image"]))
        absent += [ids + image for image in catalog.absent]
        here = table["image"][table["split"] == "test"]
        tests |= {name: tuple(here)} if len(here) else {}
        tests |= {f"{name}_{test}": tuple(ids + i for i in images) for test, images in catalog.tests.items()}
    findings = _findings({name: part.catalog for name, part in parts.items()}, combine)
    whole = pd.concat([tables[name] for name in parts], ignore_index=True)
    labels = {name for part in parts.values() for name in part.catalog.findings} - set(findings)
    whole = whole.drop(columns=[*labels, *(f"{SOFT}{name}" for name in labels)], errors="ignore")
    marks = pd.concat(boxes, ignore_index=True)
    marks = marks[marks["finding"].isin(findings)].reset_index(drop=True)
    return check(Catalog(whole, findings, f"the merged sets {', '.join(parts)}", tuple(absent), tests, marks))


def renamed(catalog: Catalog, name_of: Callable[[str], str]) -> Catalog:
    """The catalog with other names of its findings.

    Raises:
        CxrError: two findings get the same name.
    """
    names = {name: name_of(name) for name in catalog.findings}
    for new in names.values():
        same = [other for other in names if names[other] == new]
        if len(same) > 1:
            raise CxrError(
                f"{catalog.origin} has the findings {' and '.join(same)}, which are one; leave one out with the option "
                "`exclude` of this data set, such as data.sets.NAME.exclude"
            )
    columns = {f"{prefix}{name}": f"{prefix}{new}" for name, new in names.items() for prefix in ("", SOFT)}
    boxes = catalog.boxes.assign(finding=catalog.boxes["finding"].map(lambda name: names.get(name, name)))
    return replace(catalog, table=catalog.table.rename(columns=columns), findings=tuple(names.values()), boxes=boxes)


def ids_of(rows: pd.DataFrame) -> pd.DataFrame:
    """`patient` and `image` of rows; of merged sets also as the sets have them, for weights trained on one of them."""
    ids = rows[["patient", "image"]]
    return pd.concat([ids, ids.apply(lambda column: column.str.partition("/")[2])]) if "source" in rows else ids


def check_set_names(names: object) -> None:
    """Raises CxrError unless `data.sets` is a dictionary, whose keys can be names of test splits."""
    if not isinstance(names, Mapping):
        raise CxrError(f"data.sets={names} names no options; pass data.sets.NAME=OPTION for each set")
    for name in names:
        if not is_test_name(name):
            raise CxrError(
                f"data.sets.{name}: a set needs a name of letters, digits, _ and -, which no split has, such as "
                "data.sets.first"
            )


def _check_shared(parts: Mapping[str, Part]) -> None:
    """Raises CxrError for sets with the same images if one of them does not name the patients as the others do."""
    for name, part in parts.items():
        others = [n for n, p in parts.items() if n != name and owner(n, p.source) == owner(name, part.source)]
        if others and not part.names_patients:
            remedy = "give its data.mapping, or " if part.source.get("one_image_a_patient") else ""
            raise CxrError(
                f"data.sets.{name} ({part.reader}) and data.sets.{others[0]} ({parts[others[0]].reader}) have the same "
                f"images, and {name} does not name their patients, who could be in training and in test; {remedy}leave "
                "one of the two out"
            )


def _following(table: pd.DataFrame, sides: Mapping[str, str], name: str) -> pd.DataFrame:
    """The table with patients in the split that earlier sets have them in; prints how many images that moves."""
    other = table["patient"].map(sides)
    moved = other.notna() & (table["split"] != "") & (other != table["split"])
    if moved.any():
        number = counted(moved.sum(), "image")
        print(f"moved to the split that another set has their patients in: {number} of {name}")
    return table.assign(split=table["split"].mask(moved, other))


def _findings(catalogs: Mapping[str, Catalog], combine: str) -> tuple[str, ...]:
    every = dict.fromkeys(name for catalog in catalogs.values() for name in catalog.findings)
    if combine == "union":
        return tuple(every)
    common = tuple(name for name in every if all(name in catalog.findings for catalog in catalogs.values()))
    if not common:
        listed = "; ".join(f"{name}: {', '.join(catalog.findings)}" for name, catalog in catalogs.items())
        raise CxrError(f"the sets have no finding in common ({listed}); pass data.combine=union")
    return common
