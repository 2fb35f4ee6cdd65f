"""The data of a configuration: a checked and split catalog with its cache, and their exchange between processes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.data.cache import Cache, CacheSettings, open_or_build
from cxr.data.catalog import Catalog
from cxr.data.copies import without_copies
from cxr.data.split import check_split, split_fingerprint
from cxr.training.catalog import read_catalog

_TABLES = ("table", "boxes")  # fields of a catalog that are tables


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    Attributes:
        catalog: checked, split, with the findings of the run.
        cache: of its images.
        split_fingerprint: see `cxr.data.split`.
        labels_sha256: see `cxr.data.catalog`.
    """

    catalog: Catalog
    cache: Cache
    split_fingerprint: str
    labels_sha256: str

    def write(self, folder: Path) -> None:
        """Writes it into a folder, from which the other processes of a run read it."""
        plain = asdict(self)
        for name in _TABLES:
            table = plain["catalog"].pop(name, None)
            if table is not None:
                table.to_parquet(folder / f"{name}.parquet")
        plain["cache"]["folder"] = str(self.cache.folder)
        (folder / "prepared.json").write_text(json.dumps(plain), encoding="utf-8")


def read_prepared(folder: Path) -> Prepared:
    """Reads the files of `Prepared.write`."""
    plain = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    files = {name: folder / f"{name}.parquet" for name in _TABLES}
    tables: dict[str, Any] = {name: pd.read_parquet(path) for name, path in files.items() if path.exists()}
    catalog, cache = plain["catalog"], plain["cache"]
    catalog |= {"findings": tuple(catalog["findings"]), "absent": tuple(catalog["absent"])}
    catalog["tests"] = {name: tuple(images) for name, images in catalog["tests"].items()}
    cache |= {"folder": Path(cache["folder"]), "names": tuple(cache["names"])}
    return Prepared(**{**plain, "catalog": Catalog(**catalog, **tables), "cache": Cache(**cache)})


def prepare(config: Mapping[str, Any], build: bool = True) -> Prepared:
    """Reads, checks, splits and caches the data of a resolved configuration."""
    return cached(read_catalog(config), config, build)


def cached(catalog: Catalog, config: Mapping[str, Any], build: bool = True, check: bool = True) -> Prepared:
    """The catalog without unusable images, and its cache, which is built if missing.

    Args:
        build: build a missing cache and write its report.
        check: check the splits again if images are left out.

    Raises:
        CxrError: an image cannot be used, or a split has none left.
    """
    settings = CacheSettings.of(config)
    if build and config["data"].get("sets"):
        Path(config["data"]["root"]).expanduser().mkdir(parents=True, exist_ok=True)
    cache, kept = open_or_build(catalog, config["data"]["root"], settings, build)
    if "source" in catalog.table:
        kept = without_copies(catalog, kept, cache, settings.on_error, build)
    if check and len(kept) < len(catalog):
        check_split(kept)  # a split may be empty now
    return Prepared(kept, cache, split_fingerprint(kept), kept.labels_sha256)
