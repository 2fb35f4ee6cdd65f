"""Row `catalog` of input_path.py: the table of the whole of ChestX-ray14, read, split and fingerprinted."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.made import row, say
from cxr.data.cache.manifest import state_of
from cxr.data.catalog import check_images_exist, choose_findings
from cxr.data.sources.nih import read_nih
from cxr.data.split import split_catalog, split_fingerprint
from cxr.findings import NIH14

WHOLE = 112_120  # images of ChestX-ray14
SHARED = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def whole_folder(scratch: Path) -> Path:
    """The published table with as many files, which are empty; without the table, one of the same length."""
    folder = scratch / "nih"
    (folder / "images").mkdir(parents=True)
    source = SHARED / "nih_metadata"
    if source.is_dir():
        for path in source.glob("*.*"):
            shutil.copy(path, folder / path.name)
        names = pd.read_csv(next(folder.glob("Data_Entry_2017*.csv")), usecols=["Image Index"])["Image Index"].tolist()
    else:
        say("catalog: no published table here; one of the same length is made")
        names = [f"{k // 4:08d}_{k % 4:03d}.png" for k in range(WHOLE)]
        labels = np.random.default_rng(0).choice([*NIH14, "No Finding", "Effusion|Mass"], WHOLE)
        table = pd.DataFrame({"Image Index": names, "Finding Labels": labels})
        table["Follow-up #"], table["Patient ID"], table["Patient Age"] = 0, [name[:8] for name in names], 50
        table["Patient Gender"], table["View Position"] = "F", "PA"
        table.to_csv(folder / "Data_Entry_2017.csv", index=False)
        (folder / "train_val_list.txt").write_text("\n".join(names[:86_524]))
        (folder / "test_list.txt").write_text("\n".join(names[86_524:]))
    for name in names:
        (folder / "images" / name).touch()
    return folder


def catalog_row(scratch: Path) -> None:
    folder = whole_folder(scratch)

    def whole() -> tuple[float, str]:
        began = time.perf_counter()
        catalog = check_images_exist(choose_findings(read_nih(str(folder)), None, [], 0), "fail")
        catalog = split_catalog(catalog, folder, "train_val_list.txt", None, "test_list.txt", 0.1, 0)
        state = state_of(list(catalog.table["image"]), list(catalog.table["path"]), 256)
        fingerprints = split_fingerprint(catalog) + catalog.labels_sha256 + state.fingerprint
        assert len(catalog) == WHOLE
        return time.perf_counter() - began, fingerprints

    times = [whole()[0] for _ in range(2)]
    row("catalog", min(times), 4.0, 4.0 / min(times), "s")
    shutil.rmtree(folder)
