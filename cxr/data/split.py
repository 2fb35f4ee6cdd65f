"""Who is trained on and who is judged: official or own lists, validation grouped by patient, and the leak guard."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cxr.data.catalog import SPLITS, Catalog, some
from cxr.errors import CxrError
from cxr.files.reading import read_text
from cxr.metrics.stratification import draw_patients

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
) -> Catalog:
    """Adds the column `split`.

    Without `val_list`, validation patients are drawn from the training list by `draw_patients`. With it, and with the
    official `train_val_list.txt` as training list, its images are taken out of that list. Images in no list get an
    empty split.

    Args:
        catalog: the checked table.
        root: where a list's file name is looked for if it is not a path that exists.
        train_list: file with one image name a line; training and, without `val_list`, validation.
        val_list: file of validation images, or none.
        test_list: file of test images.
        val_share: share of the training images that validation gets, in (0, 1).
        seed: of the draw.
        skipped: images that were left out of the table on purpose, and may stand in the lists.

    Raises:
        CxrError: a list is missing, names an image twice or one that is not in the table; an image stands in two
            lists; a patient is on both sides of a split; or a split is empty.
    """
    if train_list is None or test_list is None:
        raise CxrError("data.train_list and data.test_list must name files with one image name a line")
    known, left_out = set(catalog.table["image"]), set(skipped)
    files = {"train": train_list, "test": test_list} | ({} if val_list is None else {"val": val_list})
    lists = {name: read_list(root, file) for name, file in files.items()}
    if val_list is not None:
        held_out = set(lists["val"])
        if Path(train_list).name == "train_val_list.txt":
            lists["train"] = [image for image in lists["train"] if image not in held_out]
    for name, images in lists.items():
        absent = [image for image in images if image not in known and image not in left_out]
        if absent:
            raise CxrError(
                f"data.{name}_list names {len(absent)} images that {catalog.origin} lacks: {some(absent)} "
                f"({_place(root, files[name], absent[0])})"
            )
    split = pd.Series("", index=catalog.table["image"])
    for name, images in lists.items():
        present = [image for image in images if image in known]
        clash = split.loc[present] != ""
        if clash.any():
            image = clash.index[clash][0]
            raise CxrError(
                f"{image} stands in data.{split[image]}_list and in data.{name}_list "
                f"({_place(root, files[split[image]], image)}, {_place(root, files[name], image)}); an image "
                "has one place"
            )
        split.loc[present] = name
    table = catalog.table.assign(split=split.to_numpy())
    if val_list is None:
        training = table[table["split"] == "train"]
        drawn = draw_patients(training, catalog.findings, val_share, seed)
        table.loc[(table["split"] == "train") & table["patient"].isin(drawn), "split"] = "val"
    result = replace(catalog, table=table)
    check_split(result)
    _warn_of_zeros(table[table["split"] != ""], catalog.origin)
    return result


def alike_but_zeros(patients: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different ids that differ only by leading zeros, such as `007` and `7`, in order."""
    found: dict[str, list[str]] = {}
    for patient in sorted(set(patients)):
        found.setdefault(patient.lstrip("0"), []).append(patient)
    return [(names[0], name) for names in found.values() for name in names[1:]]


def _warn_of_zeros(used: pd.DataFrame, origin: str) -> None:
    pairs = alike_but_zeros(used["patient"])
    if not pairs:
        return
    sides = used.groupby("patient")["split"].first()
    first = next((pair for pair in pairs if sides[pair[0]] != sides[pair[1]]), pairs[0])
    named = " and ".join(f"{patient} (in {sides[patient]})" for patient in first)
    print(
        f"WARNING: patients {named} of {origin} differ only by leading zeros and count as two ({len(pairs)} such "
        "pairs); if they are one person, write the id alike, or the split leaks",
        flush=True,
    )


def read_list(root: str | Path, name: str) -> list[str]:
    """The image names of a list file: a path, or a file name below `root`; blank lines are passed over."""
    path, lines = _lines_of(root, name)
    images = [line for line in lines if line]
    if not images:
        raise CxrError(f"the list {path} is empty; give a file with one image name a line")
    counts = pd.Series(images).value_counts()
    if counts.iloc[0] > 1:
        same = [str(number) for number, line in enumerate(lines, start=1) if line == counts.index[0]]
        raise CxrError(
            f"the list {path} names {counts.index[0]} {counts.iloc[0]} times (lines {some(same)}); name each image once"
        )
    return images


def _lines_of(root: str | Path, name: str) -> tuple[Path, list[str]]:
    """The file of a list, and its lines without space around."""
    candidates = [Path(name).expanduser(), Path(root).expanduser() / name]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise CxrError(f"the list {name} is neither a file nor in {root}; give a file with one image name a line")
    try:
        return path, [line.strip() for line in read_text(path, _LONGEST_LIST).splitlines()]
    except (OSError, CxrError):
        raise CxrError(
            f"the list {path} is not a text file that can be read; give a file with one image name a line"
        ) from None


def _place(root: str | Path, name: str, image: str) -> str:
    path, lines = _lines_of(root, name)
    return f"{path} line {lines.index(image) + 1}"


def check_split(catalog: Catalog) -> None:
    """Raises CxrError if a split is empty or a patient is in more than one."""
    for name in SPLITS:
        if catalog.rows(name).empty:
            raise CxrError(f"the {name} split of {catalog.origin} holds no image; check data.{name}_list")
    used = catalog.table[catalog.table["split"] != ""]
    sides = used.groupby("patient")["split"].nunique()
    leaking = sides[sides > 1]
    if len(leaking):
        patient = str(leaking.index[0])
        names = sorted(used.loc[used["patient"] == patient, "split"].unique())
        raise CxrError(
            f"the split leaks: patient {patient} has images in {' and '.join(names)} ({len(leaking)} such patients); "
            "keep all images of a patient on one side"
        )


def split_fingerprint(catalog: Catalog) -> str:
    """SHA-256 over which image is in which split: two runs with the same one were judged on the same images."""
    used = catalog.table[catalog.table["split"] != ""].sort_values("image")
    lines = used["image"] + "\t" + used["split"]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
