"""Reads the catalog of a configuration. This module imports no PyTorch, so that errors in the data show at once."""

from collections.abc import Mapping
from typing import Any

from cxr.configuration.kinds import checked
from cxr.configuration.private import refuse_elsewhere
from cxr.configuration.schema import Data
from cxr.configuration.targets import SOURCES, build
from cxr.data.catalog import SPLITS, Catalog, check, check_images_exist, choose_findings, single_finding
from cxr.data.draw import draw_test
from cxr.data.hierarchy import with_virtual_parents
from cxr.data.sources.merged import Part, check_set_names
from cxr.data.split import check_folds, split_catalog
from cxr.errors import CxrError

MERGED = "cxr.data.sources.merged.merge"


def read_catalog(config: Mapping[str, Any]) -> Catalog:
    """The checked and split catalog of a resolved configuration; images are not opened.

    Raises:
        CxrError: an error in the data, or a path that was hidden as `elsewhere:...`.
    """
    return split_source(read_source(config), config)


def read_source(config: Mapping[str, Any]) -> Catalog:
    """The checked table of a resolved configuration, as its source has it."""
    data = config["data"]
    refuse_elsewhere({"data": data, "cache": config.get("cache")})
    check_folds(data.get("folds"), data.get("fold"), data.get("val_list"))
    merged = data["source"]["_target_"] == MERGED
    if data.get("sets") and not merged:
        raise CxrError("data.sets names data sets to merge; choose data=merged with it")
    if merged:
        _check_options_of_sets(data)
    sets = [_parts(data.get("sets") or {})] if merged else []
    read: Catalog = build(data["source"], *sets, allow=SOURCES)
    return read if str(data["source"]["_target_"]).startswith("cxr.") else check(read)


def _check_options_of_sets(data: Mapping[str, Any]) -> None:
    """Raises CxrError for options of `data=merged` that only its sets use."""
    lists = any(data[f"{split}_list"] for split in SPLITS)
    used = {"on_missing": False, "val_share": lists, "split_seed": lists or data.get("folds") is not None}
    for name, default in {"on_missing": "fail", "val_share": 0.1, "split_seed": 0}.items():
        if data[name] != default and not used[name]:
            raise CxrError(
                f"data.{name}={data[name]} has no effect with data=merged; pass data.sets.NAME.{name}={data[name]} for "
                "each set"
            )


def _parts(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Part]:
    """The sets of `data=merged`, each read and split with its own options."""
    check_set_names(sets)
    parts = {}
    for name, options in sets.items():
        if not isinstance(options, Mapping) or not isinstance(options.get("source"), Mapping):
            raise CxrError(f"data.sets.{name} is no data set; pass data.sets.{name}=OPTION, an option of data")
        try:
            config = {"data": checked(Data, options)}
            if config["data"]["source"]["_target_"] == MERGED:
                raise CxrError("a merged set cannot be merged again; name its sets")
            read = read_source(config)
            lists = any(config["data"][f"{split}_list"] for split in SPLITS)
            drawn = not lists and not ("split" in read.table and (read.table["split"] == "test").any())
            parts[name] = Part(split_source(read, config), config["data"]["source"], drawn)
        except CxrError as error:
            raise CxrError(f"data.sets.{name}: {error}") from None
    return parts


def split_source(read: Catalog, config: Mapping[str, Any]) -> Catalog:
    """The table of a source with the findings, images and splits of a configuration."""
    data = config["data"]
    if "test_share" in data and not (data["train_list"] or data["val_list"] or data["test_list"]):
        read = draw_test(read, data["test_share"], int(data["split_seed"]))
    catalog = choose_findings(read, data["findings"], data["exclude"], int(data["min_cases"]))
    if data["single_finding"]:
        catalog = single_finding(catalog)
    tree = (config.get("task") or {}).get("hierarchy")
    if tree:
        catalog = with_virtual_parents(catalog, tree, read.findings)
    catalog = check_images_exist(catalog, data["on_missing"])
    return split_catalog(
        catalog,
        data["root"],
        data["train_list"],
        data["val_list"],
        data["test_list"],
        float(data["val_share"]),
        int(data["split_seed"]),
        skipped=sorted(set(read.table["image"]).difference(catalog.table["image"])) if len(catalog) < len(read) else (),
        test_lists=data["test_lists"],
        folds=data.get("folds"),
        fold=data.get("fold"),
    )
