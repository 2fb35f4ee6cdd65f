"""Training, validation and test splits: official or custom lists, patient-grouped validation, and leak checks."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxr.data.catalog import SPLITS, Catalog, order_of_images, some
from cxr.errors import CxrError, counted
from cxr.files.naming import check_test_names
from cxr.files.reading import read_text
from cxr.metrics.stratification import assign_patients, draw_patients

_LONGEST_LIST = 1 << 26  # bytes: 2 million names of 32


def split_catalog(
    catalog: Catalog,
    root: str | Path,
    train_list: str | None,
    val_list: str | None,
    test_list: str | None,
    val_share: float,
    seed: int,
    skipped: Sequence[str] = (),
    test_lists: Mapping[str, str] | None = None,
    folds: int | None = None,
    fold: int | None = None,
) -> Catalog:
    """Fills the column `split` from lists or from the source's column, and adds further test splits.

    Without `val_list`, or without a validation image in the source's column, validation patients are drawn from
    training by `draw_patients`. With `val_list`, and with the official `train_val_list.txt` as training list, its
    images are removed from that list. Images in no list get an empty split.

    Args:
        catalog: the checked table.
        root: folder of lists that are given by file name.
        train_list: file with one image name per line: training and, without `val_list`, validation images. If all
            three lists are None, the table's column is used.
        val_list: file of validation images, or None.
        test_list: file of test images.
        val_share: share of the training images for validation, in (0, 1).
        seed: of the draw.
        skipped: images that were excluded from the table and may be in the lists.
        test_lists: name of a further test split to the file of its images.
        folds: number of folds that the images of training and validation are divided into, by patient.
        fold: the fold that is the validation split, from 0; the others are the training split.

    Raises:
        CxrError: there are neither lists nor a column; a list is missing, names an image twice or one that is not in
            the table; an image is in two lists; the name of a further test split is invalid or taken; a patient is in
            two of training, validation and test; or a split is empty.
    """
    further = _further(test_lists, catalog)
    three = {"train_list": train_list, "val_list": val_list, "test_list": test_list}
    given = {name: file for name, file in three.items() if file is not None}
    files = given | {f"test_lists.{name}": file for name, file in further.items()}
    lists = {name: read_list(root, file) for name, file in files.items()}
    if val_list is not None and Path(train_list or "").name == "train_val_list.txt":
        held_out = set(lists["val_list"])
        lists["train_list"] = [image for image in lists["train_list"] if image not in held_out]
    known, left_out = set(catalog.table["image"]) if lists else set(), set(skipped)
    for name, images in lists.items():
        absent = [image for image in images if image not in known and image not in left_out]
        if absent:
            raise CxrError(
                f"data.{name} names {counted(len(absent), 'image')} that {catalog.origin} lacks: {some(absent)} "
                f"({_place(root, files[name], absent[0])})"
            )
        lists[name] = [image for image in images if image in known]
    tests = dict(catalog.tests) | {name: tuple(lists[f"test_lists.{name}"]) for name in further}
    table = catalog.table.reset_index(drop=True)
    catalog = replace(catalog, table=table.assign(split=_sides(catalog, root, given, lists)), tests=tests)
    table = catalog.table
    check_folds(folds, fold, val_list)
    if folds is not None and fold is not None:
        _divide(catalog, folds, fold, seed)
    elif val_list is None and not (table["split"] == "val").any():
        check_filled(catalog, ("train",))
        if not given:
            print(f"{catalog.origin} has no val split: it is drawn from train by patient", flush=True)
        drawn = draw_patients(table[table["split"] == "train"], catalog.findings, val_share, seed)
        table.loc[(table["split"] == "train") & table["patient"].isin(drawn), "split"] = "val"
    used = check_split(catalog)
    _warn_of_zeros(used, catalog.origin)
    return catalog


def check_folds(folds: int | None, fold: int | None, val_list: str | None) -> None:
    """Checks options of cross-validation before any data are read.

    Raises:
        CxrError: one option lacks the other, the fold does not exist, or a list chooses the validation images as well.
    """
    if folds is None and fold is None:
        return
    if folds is None or fold is None or not 0 <= fold < folds:
        given = " ".join(
            f"{key}={value}" for key, value in (("data.folds", folds), ("data.fold", fold)) if value is not None
        )
        raise CxrError(
            f"{given}: pass both options, with a fold from 0 to data.folds - 1, such as "
            "data.folds=5 data.fold=0,1,2,3,4 with -m"
        )
    if val_list is not None:
        raise CxrError(f"data.val_list={val_list} and data.folds={folds} both choose the validation images; pass one")


def _divide(catalog: Catalog, folds: int, fold: int, seed: int) -> None:
    """Fills the column `split` of training and validation images: one fold validates, the others train."""
    table = catalog.table
    free = table["split"].isin(["train", "val"])
    check_filled(catalog, ("train",))
    side = assign_patients(table[free], catalog.findings, [1 / folds] * folds, seed)
    if side.nunique() < folds:
        raise CxrError(f"{len(side)} training patients cannot be divided into data.folds={folds}; use fewer folds")
    table.loc[free, "split"] = np.where(table["patient"][free].map(side) == fold, "val", "train")


def _further(test_lists: Mapping[str, str] | None, catalog: Catalog) -> dict[str, str]:
    """`data.test_lists` as a dictionary, after checks of its names and files and of the source's further splits."""
    if not isinstance(test_lists or {}, Mapping):
        raise CxrError(f"data.test_lists={test_lists} must name a file by test split, such as {{other: other.txt}}")
    further = {str(name): file for name, file in (test_lists or {}).items()}
    check_test_names((*catalog.tests, *further))
    for name, file in further.items():
        if not isinstance(file, str):
            raise CxrError(f"data.test_lists.{name}={file} must be a file with one image name per line")
        if name in catalog.tests:
            raise CxrError(f"data.test_lists.{name}: {catalog.origin} has a test split of that name; choose another")
    return further


def _sides(
    catalog: Catalog, root: str | Path, given: Mapping[str, str], lists: Mapping[str, list[str]]
) -> NDArray[np.object_]:
    """The split of every row, (N,), from the three lists or, without lists, from the source's column."""
    own = "split" in catalog.table and (catalog.table["split"] != "").any()
    if not given and own:
        return catalog.table["split"].to_numpy(object, copy=True)
    absent = [f"data.{name}" for name in ("train_list", "test_list") if name not in given]
    if absent:
        rest = "omit all lists to use the column split of" if own else "let the source return a column split for"
        raise CxrError(
            f"{' and '.join(absent)} must name a file with one image name per line; pass {'=FILE '.join(absent)}=FILE, "
            f"or {rest} {catalog.origin}"
        )
    if own:
        print(f"the lists determine the split; the column split of {catalog.origin} is not used", flush=True)
    split = pd.Series("", index=catalog.table["image"])
    for name in given:
        clash = split.loc[lists[name]] != ""
        if clash.any():
            image = clash.index[clash][0]
            other = f"{split[image]}_list"
            raise CxrError(
                f"{image} is in data.{other} and in data.{name} ({_place(root, given[other], image)}, "
                f"{_place(root, given[name], image)}); keep it in one of them"
            )
        split.loc[lists[name]] = name.removesuffix("_list")
    return split.to_numpy(object)


def alike_but_zeros(patients: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different ids that differ only by leading zeros, such as `007` and `7`, in order."""
    different, found = set(patients), dict[str, list[str]]()
    if len({patient.lstrip("0") for patient in different}) == len(different):
        return []
    for patient in sorted(different):
        found.setdefault(patient.lstrip("0"), []).append(patient)
    return [(names[0], name) for names in found.values() for name in names[1:]]


def _warn_of_zeros(used: pd.DataFrame, origin: str) -> None:
    pairs = alike_but_zeros(used["patient"].unique())
    if not pairs:
        return
    sides = used.groupby("patient")["split"].first()
    first = next((pair for pair in pairs if sides[pair[0]] != sides[pair[1]]), pairs[0])
    named = " and ".join(f"{patient} (in {sides[patient]})" for patient in first)
    print(
        f"WARNING: patients {named} of {origin} differ only by leading zeros and count as two ({len(pairs)} such "
        "pairs); if they are one person, use one id, or the split leaks",
        flush=True,
    )


def read_list(root: str | Path, name: str) -> list[str]:
    """The image names of a list file, given as a path or a file name below `root`; blank lines are ignored."""
    path, lines = _lines_of(root, name)
    images = [line for line in lines if line]
    if not images:
        raise CxrError(f"the list {path} is empty; give a file with one image name per line")
    counts = pd.Series(images).value_counts()
    if counts.iloc[0] > 1:
        same = [str(number) for number, line in enumerate(lines, start=1) if line == counts.index[0]]
        raise CxrError(
            f"the list {path} names {counts.index[0]} {counts.iloc[0]} times (lines {some(same)}); name each image once"
        )
    return images


def _lines_of(root: str | Path, name: str) -> tuple[Path, list[str]]:
    """The file of a list, and its lines without surrounding space."""
    candidates = [Path(name).expanduser(), Path(root).expanduser() / name]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise CxrError(f"the list {name} is neither a file nor in {root}; give a file with one image name per line")
    try:
        return path, [line.strip() for line in read_text(path, _LONGEST_LIST).splitlines()]
    except (OSError, CxrError):
        raise CxrError(
            f"the list {path} is not a readable text file; give a file with one image name per line"
        ) from None


def _place(root: str | Path, name: str, image: str) -> str:
    path, lines = _lines_of(root, name)
    return f"{path} line {lines.index(image) + 1}"


def check_filled(catalog: Catalog, splits: Iterable[str]) -> None:
    """Raises CxrError if one of the splits is empty."""
    for name in splits:
        if not catalog.in_split(name).any():
            option = f"test_lists.{name}" if name in catalog.tests else f"{name}_list"
            raise CxrError(
                f"the {name} split of {catalog.origin} has no images; check data.{option}, or the source's splits"
            )


def check_split(catalog: Catalog) -> pd.DataFrame:
    """Patient and split of every image in a split; an image in several test splits has several rows.

    Raises:
        CxrError: a split is empty, or a patient is in more than one; test splits may share patients.
    """
    check_filled(catalog, (*SPLITS, *catalog.tests))
    splits = {name: catalog.table["patient"][catalog.in_split(name)] for name in (*SPLITS, *catalog.tests)}
    used = pd.concat([patients.to_frame().assign(split=name) for name, patients in splits.items()], ignore_index=True)
    codes, patients = pd.factorize(used["patient"])
    train, val = used["split"] == "train", used["split"] == "val"
    sides = sum((np.bincount(codes, side, len(patients)) > 0).astype(int) for side in (train, val, ~(train | val)))
    leaking = sorted(patients[sides > 1])
    if leaking:
        patient = leaking[0]
        names = sorted(used.loc[used["patient"] == patient, "split"].unique())
        raise CxrError(
            f"the split leaks: patient {patient} has images in {' and '.join(names)} "
            f"({counted(len(leaking), 'such patient')}); keep all images of a patient on one side"
        )
    return used


def split_fingerprint(catalog: Catalog) -> str:
    """SHA-256 of the assignment of images to splits; runs with equal values were evaluated on the same images."""
    used = catalog.table.loc[catalog.table["split"] != "", ["image", "split"]]
    order = order_of_images(used)
    image, split = (pa.array(used[column], pa.large_string()).take(order) for column in used)
    rows = pc.binary_join_element_wise(image, split, pa.scalar("\t", image.type)).to_pylist()
    lines = [*rows, *filter(None, [catalog.tests_text])]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
