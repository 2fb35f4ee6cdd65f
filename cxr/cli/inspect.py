"""The program `inspect`: prints how a data set is read, and the errors that training would report."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from cxr.cli.options import plain
from cxr.cli.program import Program
from cxr.configuration.plugins import user_configuration
from cxr.configuration.schema import Inspect
from cxr.errors import CxrError, counted

if TYPE_CHECKING:
    from cxr.data.catalog import Catalog

_TABLE, _PHANTOM = "cxr.data.sources.table.read_table", "cxr.data.sources.phantom.read_phantom"
_SHOWN = 3  # findings without a label that are named


def job(config: DictConfig) -> float:
    """Prints the report; returns the number of images."""
    from cxr.data.catalog import some
    from cxr.training.catalog import read_source, split_source

    chosen = plain(config, Inspect)
    data = chosen["data"]
    _check(data, chosen["roles"])
    if chosen["roles"]:
        _write_roles(Path(chosen["roles"]).expanduser(), data)
    with user_configuration():
        read = read_source(chosen)
    print("\n".join(["", *_images(read), "", *_findings(read)]), flush=True)
    archives = _unopened(read, data["root"])
    if archives:
        print(f"\nnot opened, because every image is a file: {some(archives)}", flush=True)
    refused, split = [], None
    for missing in dict.fromkeys((data["on_missing"], "skip")):  # other errors besides missing images
        told = StringIO()  # shown once
        try:
            with redirect_stdout(told):
                split = split_source(read, {**chosen, "data": {**data, "on_missing": missing}})
            print(told.getvalue(), end="", flush=True)
            break
        except CxrError as error:
            refused += [str(error)] if str(error) not in refused else []
    if split is not None:
        print("\n".join(["", *_splits(split)]), flush=True)
    if refused:
        print("\n".join(["", "Training with these options fails:", *(f"  {text}" for text in refused)]), flush=True)
        raise CxrError(f"training on {read.origin} with these options fails; the errors are above")
    return len(read)


def _check(data: dict[str, Any], roles: str | None) -> None:
    """Raises CxrError for options that would write files or that the source does not have."""
    target = data["source"]["_target_"]
    root = Path(str(data["root"])).expanduser()
    if target == _PHANTOM and not (root / "phantom.json").is_file():
        raise CxrError(
            f"data.root={root} has no phantoms yet; python -m cxr cache data=phantom data.root={root} draws them"
        )
    if roles is not None and target != _TABLE:
        raise CxrError(f"roles={roles}: only data=table has roles of columns; leave it out")
    if roles is not None and Path(roles).expanduser().exists():
        raise CxrError(f"roles={roles} exists and is not overwritten; give another file, or remove it")


def _write_roles(path: Path, data: dict[str, Any]) -> None:
    from cxr.data.sources.table import open_table
    from cxr.files.writing import write_text

    _, roles = open_table(data["root"], data["file"], data["roles"])
    write_text(path, roles.as_yaml())
    print(f"the roles are written to {path}; pass data.roles={path}", flush=True)


def _unopened(catalog: "Catalog", root: str) -> list[str]:
    """Archives below a folder that were not read: all of them if each image is a file outside them, else none."""
    from cxr.data.archives import is_archive, split_path
    from cxr.data.sources.images import files_below

    folder = Path(root).expanduser()
    if not folder.is_dir() or any(not path or split_path(path) for path in catalog.table["path"]):
        return []
    return sorted(name for name in files_below(folder) if is_archive(name))


def _images(catalog: "Catalog") -> list[str]:
    table = catalog.table
    absent, ages = int((table["path"] == "").sum()), table["age"].dropna()
    images = f"{counted(len(table), 'image')} of {counted(table['patient'].nunique(), 'patient')}"
    years = f"{ages.min():.0f} to {ages.max():.0f} years, " if len(ages) else ""
    return [
        images + (f"; without a file: {counted(absent, 'image')}" if absent else ""),
        f"sex: {_counts(table['sex'])}",
        f"view: {_counts(table['view'])}",
        f"age: {years}unknown {len(table) - len(ages):,}",
    ]


def _counts(values: Any) -> str:
    counts = values.where(values != "", "unknown").value_counts()
    return ", ".join(f"{name} {count:,}" for name, count in counts.head(6).items())


def _findings(catalog: "Catalog") -> list[str]:
    labels = catalog.table[list(catalog.findings)]
    columns = {"positive": labels == 1, "negative": labels == 0, "unknown": labels.isna()}
    return _table("finding", {name: cells.sum() for name, cells in columns.items()}, catalog.findings)


def _splits(catalog: "Catalog") -> list[str]:
    names = ["train", "val", *catalog.test_splits]
    rows = {name: catalog.rows(name) for name in names}
    total = len(catalog)
    columns: dict[str, dict[str, Any]] = {
        "images": {name: len(table) for name, table in rows.items()},
        "share": {name: f"{len(table) / total:.1%}" for name, table in rows.items()},
        "patients": {name: table["patient"].nunique() for name, table in rows.items()},
    }
    lines = _table("split", columns, names)
    for name in names[1:]:
        labels = rows[name][list(catalog.findings)]
        without = [f for f in catalog.findings if not ((labels[f] == 1).any() and (labels[f] == 0).any())]
        if without:
            lines.append(
                f"{name} lacks positives or negatives, and so an AUROC, of {counted(len(without), 'finding')}: "
                + ", ".join(without[:_SHOWN])
                + (" ..." if len(without) > _SHOWN else "")
            )
    return lines


def _table(title: str, columns: Any, names: Any) -> list[str]:
    width = max(len(title), *map(len, names))
    lines = [f"{title:{width}}" + "".join(f"{column:>12}" for column in columns)]
    for name in names:
        cells = [column[name] for column in columns.values()]
        texts = [cell if isinstance(cell, str) else f"{int(cell):,}" for cell in cells]
        lines.append(f"{name:{width}}" + "".join(f"{text:>12}" for text in texts))
    return lines


PROGRAM = Program(
    about="Prints how a data set is read: columns, images, patients, findings, splits. Changes nothing.",
    examples=(
        ("data=table data.file=films.csv data.root=DIR", ""),
        ("data=table data.file=films.csv data.root=DIR roles=roles.yaml", "writes the roles of the columns, to edit"),
        ("data=nih data.root=DIR", "any other data set"),
    ),
    options=(
        "data.root", "data.file", "data.roles", "data.uncertain", "data.blank", "data.one_image_a_patient",
        "data.test_share", "data.val_share", "roles",
    ),
    schema=Inspect,
    job=job,
)  # fmt: skip
