"""Reads the catalog of a configuration. This module imports no PyTorch, so that errors in the data show at once."""

from collections.abc import Mapping
from typing import Any

from cxr.configuration.private import refuse_elsewhere
from cxr.configuration.targets import SOURCES, build
from cxr.data.catalog import Catalog, check, check_images_exist, choose_findings, single_finding
from cxr.data.split import split_catalog


def read_catalog(config: Mapping[str, Any]) -> Catalog:
    """The checked and split catalog of a resolved configuration; images are not opened.

    Raises:
        CxrError: an error in the data, or a path that was hidden as `elsewhere:...`.
    """
    data = config["data"]
    refuse_elsewhere({"data": data, "cache": config["cache"]})
    read: Catalog = build(data["source"], allow=SOURCES)
    if not str(data["source"]["_target_"]).startswith("cxr."):
        read = check(read)
    every = set(read.table["image"])
    catalog = choose_findings(read, data["findings"], data["exclude"], int(data["min_cases"]))
    if data["single_finding"]:
        catalog = single_finding(catalog)
    catalog = check_images_exist(catalog, data["on_missing"])
    return split_catalog(
        catalog,
        data["root"],
        data["train_list"],
        data["val_list"],
        data["test_list"],
        float(data["val_share"]),
        int(data["split_seed"]),
        skipped=sorted(every - set(catalog.table["image"])),
        test_lists=data["test_lists"],
    )
