"""From a configuration to the table of its data: which findings and images stay, and that no image is opened."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.errors import CxrError
from cxr.training.catalog import read_catalog
from tests.training.conftest import Configure


def by_hand(root: str) -> dict[str, set[str]]:
    """Image to its findings, by the csv module alone."""
    with (Path(root) / "Data_Entry_2017.csv").open(newline="") as file:
        return {row[0]: set(row[1].split("|")) - {"No Finding"} for row in list(csv.reader(file))[1:]}


def test_the_table_has_every_image_once_with_its_labels_and_split(configure: Configure) -> None:
    config = configure()
    catalog = read_catalog(config)
    truth = by_hand(config["data"]["root"])
    assert sorted(catalog.table["image"]) == sorted(truth) and len(catalog.findings) == 14
    for _, row in catalog.table.iterrows():
        assert {name for name in catalog.findings if row[name] == 1} == truth[row["image"]]
    tested = (Path(config["data"]["root"]) / "test_list.txt").read_text().split()
    assert sorted(catalog.rows("test")["image"]) == sorted(tested)
    assert not set(catalog.rows("val")["patient"]) & set(catalog.rows("train")["patient"])
    assert len(catalog.rows("val")) > 0 and set(catalog.table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("options", "findings"),
    [
        (["data.findings=[Nodule,Mass]"], ("Nodule", "Mass")),
        (["data.findings=[Mass,Nodule,Effusion]", "data.exclude=[Nodule]"], ("Mass", "Effusion")),
        (["data.min_cases=8"], ("Effusion", "Mass")),  # of 24 images each has eight, Nodule and Pneumonia four
    ],
)
def test_findings_are_the_chosen_ones(configure: Configure, options: list[str], findings: tuple[str, ...]) -> None:
    catalog = read_catalog(configure(*options))
    assert set(catalog.findings) == set(findings)
    if "min_cases" not in options[0]:
        assert catalog.findings == findings
    assert catalog.targets("train").shape[1] == len(findings)


def test_single_finding_keeps_images_with_exactly_one(configure: Configure) -> None:
    config = configure("data.findings=[Mass,Effusion]", "data.single_finding=true", "data.val_share=0.4")
    catalog = read_catalog(config)
    expected = {
        image for image, names in by_hand(config["data"]["root"]).items() if len(names & {"Mass", "Effusion"}) == 1
    }
    assert set(catalog.table["image"]) == expected and len(expected) < 24
    config["data"]["single_finding"] = False
    assert len(read_catalog(config)) == 24


def test_an_image_that_is_absent_is_refused_or_skipped_and_lists_may_name_it(configure: Configure) -> None:
    config = configure()
    gone = sorted(Path(config["data"]["root"], "images").iterdir())[-1]
    gone.unlink()
    with pytest.raises(CxrError, match=f"1 of 24 images of .* are not on disk: {gone.name}; .*on_missing=skip"):
        read_catalog(config)
    catalog = read_catalog(configure("data.on_missing=skip"))
    assert len(catalog) == 23 and catalog.absent == (gone.name,)


def test_a_path_of_another_machine_is_refused(configure: Configure) -> None:
    for option in ("data.root=elsewhere:nih", "data.test_list=elsewhere:test_list.txt", "cache.dir=elsewhere:cache"):
        key = option.partition("=")[0]
        with pytest.raises(CxrError, match=f"{key} of the run is elsewhere:.* pass {key}=PATH"):
            read_catalog(configure(option))


def test_the_split_is_drawn_by_its_own_seed(configure: Configure) -> None:
    splits = [read_catalog(configure(*options)).table["split"].tolist() for options in (
        [], ["seed=1"], ["data.split_seed=1"], ["data.split_seed=2"], ["data.split_seed=3"],
    )]  # fmt: skip
    assert splits[0] == splits[1] and len({tuple(split) for split in splits[1:]}) > 1


def test_no_image_is_opened_and_the_table_once(configure: Configure, listening: Callable[[], Any]) -> None:
    config = configure()
    with listening() as opened:
        catalog = read_catalog(config)
    assert opened.times("Data_Entry_2017.csv") == 1 and opened.times(".png") == 0
    assert np.isin(catalog.targets("train"), [0, 1]).all()


def test_a_table_is_read_without_pytorch(environment: dict[str, str]) -> None:
    check = "import sys, cxr.training.catalog; print(sorted({'torch', 'lightning', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
