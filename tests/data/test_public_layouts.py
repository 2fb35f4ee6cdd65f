"""Readers of public data sets on phantoms in their layouts, against the drawn labels and counts of the csv module."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.configuration.targets import SOURCES, build
from cxr.data.catalog import Catalog, check_images_exist
from cxr.data.sources.brax import read_brax
from cxr.data.sources.chestmnist import read_chestmnist
from cxr.data.sources.chexpert import read_chexpert
from cxr.data.sources.cxr_lt import read_cxr_lt
from cxr.data.sources.mimic_cxr import read_mimic_cxr
from cxr.data.sources.openi import read_openi
from cxr.data.sources.padchest import read_padchest
from cxr.data.sources.rsna import read_rsna
from cxr.data.sources.siim import read_siim
from cxr.data.sources.vinbigdata import read_vinbigdata
from cxr.data.sources.vindr import read_vindr
from cxr.errors import CxrError
from cxr.imaging.decode import read_gray
from cxr.phantom import draw_population, write_phantoms
from cxr.phantom.layouts import LAYOUTS
from cxr.phantom.layouts.drawn import Drawn
from tests.test_configuration import composed

READERS: dict[str, Callable[..., Catalog]] = {
    "chexpert": read_chexpert, "mimic_cxr": read_mimic_cxr, "padchest": read_padchest, "vindr": read_vindr,
    "vinbigdata": read_vinbigdata, "cxr_lt": read_cxr_lt, "brax": read_brax, "rsna": read_rsna, "siim": read_siim,
    "openi": read_openi, "chestmnist": read_chestmnist,
}  # fmt: skip
SETS = sorted(READERS)
TABLE = {  # of each set, with a column that its reader needs
    "chexpert": ("train.csv", "Edema"), "mimic_cxr": ("mimic-cxr-2.0.0-chexpert.csv", "Edema"),
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "Projection"),
    "vindr": ("annotations/image_labels_train.csv", "ILD"), "vinbigdata": ("train.csv", "rad_id"),
    "cxr_lt": ("cxr-lt-2024/development_labeled_task1.csv", "Hernia"),
    "brax": ("master_spreadsheet_update.csv", "PatientAge"), "rsna": ("stage_2_train_labels.csv", "Target"),
    "siim": ("train-rle.csv", " EncodedPixels"), "openi": ("indiana_projections.csv", "projection"),
}  # fmt: skip
SINGLE = ("vindr", "vinbigdata", "openi", "chestmnist")  # whose images are patients


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Drawn]:
    """180 visits that share one small picture, with a box for each finding."""
    file = tmp_path_factory.mktemp("picture") / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).save(file)
    box = (0.25, 0.5, 0.25, 0.125)
    return [Drawn(visit, {name: [box] for name in visit.shown}, file) for visit in draw_population(180)]


@pytest.fixture(scope="session")
def folders(drawn: list[Drawn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("public")
    for name in SETS:
        (root / name).mkdir()
        LAYOUTS[name](root / name, drawn)
    return root


@pytest.fixture(scope="session")
def catalogs(folders: Path) -> dict[str, Catalog]:
    return {name: READERS[name](str(folders / name)) for name in SETS}


def rows(folders: Path, name: str, file: str = "") -> Iterator[dict[str, str]]:
    with (folders / name / (file or TABLE[name][0])).open(encoding="utf-8") as text:
        yield from csv.DictReader(text)


def known_to(name: str, drawn: list[Drawn]) -> dict[str, Drawn]:
    """The drawn radiographs by what the file name in the set says about them."""
    keys: dict[str, Callable[[int, Drawn], str]] = {
        "chexpert": lambda n, d: f"patient{d.visit.patient:05d}/study{d.visit.followup + 1}/view1_frontal.jpg",
        "padchest": lambda n, d: str(216840111366964012 + n),
        "siim": lambda n, d: f".{d.visit.patient}.{d.visit.followup}.dcm",
        "openi": lambda n, d: f"CXR{n + 1}_",
    }
    found = {}
    for number, each in enumerate(drawn):
        found[keys.get(name, lambda n, d: d.hexadecimal(8))(number, each)] = each
    return found


@pytest.mark.parametrize("name", sorted(set(SETS) - {"chestmnist"}))
def test_each_frontal_image_has_the_labels_that_were_drawn(
    catalogs: dict[str, Catalog], drawn: list[Drawn], name: str
) -> None:
    table = catalogs[name].table
    visits = [each for each in drawn if not (name == "vinbigdata" and each.visit.test)]
    assert len(table) == len(visits) and (table["path"] != "").all()
    if name not in ("rsna", "vinbigdata"):
        assert {Path(path).stat().st_size > 0 for path in table["path"]} == {True}
    known = known_to(name, drawn)
    same = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Infiltration",
            "Pneumothorax", "Pleural_Thickening", "Hernia", "Nodule", "Mass", "Fibrosis"}  # fmt: skip
    compared = same & set(catalogs[name].findings)
    assert compared or name == "rsna"
    seen = set()
    for row in table.to_dict("records"):
        image = row["image"]
        each = next(value for key, value in known.items() if key in image or image.endswith(key))
        seen.add(each.visit.image)
        for finding in compared:
            if row[finding] == 1:
                assert finding in each.visit.written, (image, finding)
            if row[finding] == 0 and name not in ("vindr", "vinbigdata"):  # readers may overlook a finding
                assert finding not in each.visit.written, (image, finding)
            if name == "vindr" and row["split"] == "test":
                assert (row[finding] == 1) == (finding in each.visit.written)
    assert len(seen) == len(visits)


@pytest.mark.parametrize("name", sorted({*SETS} - {*SINGLE}))
def test_patients_and_their_order_are_those_that_were_drawn(
    catalogs: dict[str, Catalog], drawn: list[Drawn], name: str
) -> None:
    table = catalogs[name].table
    of = [
        next(v for k, v in known_to(name, drawn).items() if k in image or image.endswith(k)) for image in table["image"]
    ]
    patients = [each.visit.patient for each in of]
    assert table["patient"].groupby(patients).nunique().max() == 1
    assert table["patient"].nunique() == len(set(patients))
    if name not in ("cxr_lt", "brax"):  # which publish no order
        assert list(table["followup"]) == [each.visit.followup for each in of]
    if name in ("rsna", "siim"):
        assert list(table["patient"]) == [str(number) for number in patients]  # as NIH's table has them


@pytest.mark.parametrize("name", ["chexpert", "mimic_cxr", "cxr_lt", "chestmnist", "vindr"])
def test_published_splits_are_read(catalogs: dict[str, Catalog], drawn: list[Drawn], name: str) -> None:
    own = {
        split: sum(
            (each.split if name != "vindr" else ("test" if each.visit.test else "train")) == split for each in drawn
        )
        for split in ("train", "val", "test")
    }
    assert catalogs[name].table["split"].value_counts().to_dict() == {s: n for s, n in own.items() if n}


@pytest.mark.parametrize("name", ["padchest", "brax", "rsna", "siim", "openi", "vinbigdata"])
def test_sets_without_a_split_leave_it_to_the_draw(catalogs: dict[str, Catalog], name: str) -> None:
    assert "split" not in catalogs[name].table


@pytest.mark.parametrize("name", ["chexpert", "mimic_cxr", "brax", "padchest", "openi"])
def test_all_views_are_read_when_asked_for(folders: Path, catalogs: dict[str, Catalog], name: str) -> None:
    table = READERS[name](str(folders / name), views="all").table
    lateral = ~table["image"].isin(catalogs[name].table["image"])
    assert lateral.sum() > 20 and set(table["view"][lateral]) <= {"LATERAL", "LL", "L"}
    assert set(catalogs[name].table["view"]) <= {"PA", "AP", ""}


@pytest.mark.parametrize(("name", "file"), [("brax", ""), ("mimic_cxr", "")])
def test_cells_of_the_labeller_are_counted_as_csv_counts_them(folders: Path, name: str, file: str) -> None:
    table = READERS[name](str(folders / name), views="all").table
    cells = list(rows(folders, name, file))
    studies = len({row["study_id"] if name == "mimic_cxr" else row["PngPath"] for row in cells})
    if name == "mimic_cxr":
        views = [row["study_id"] for row in rows(folders, name, "mimic-cxr-2.0.0-metadata.csv")]
        by_study = {row["study_id"]: row for row in cells}
        cells = [by_study[study] for study in views]
    assert len(table) == len(cells) >= studies
    for column, finding in (
        ("Edema", "Edema"),
        ("Pleural Effusion", "Effusion"),
        ("Support Devices", "Support Devices"),
    ):
        normal = [row["No Finding"] == "1.0" and column != "Support Devices" for row in cells]
        given = [row[column] for row in cells]
        assert (table[finding] == 1).sum() == given.count("1.0")
        absent = sum(cell == "0.0" or (cell == "" and rest) for cell, rest in zip(given, normal, strict=True))
        assert (table[finding] == 0).sum() == absent
        assert given.count("-1.0") > 0 or finding == "Support Devices" or name == "brax"


def test_boxes_are_in_pixels_of_the_published_image(catalogs: dict[str, Catalog], folders: Path) -> None:
    pytest.importorskip("pydicom")
    for name, side in (("vindr", 16), ("vinbigdata", 16), ("rsna", 1024)):
        boxes = catalogs[name].boxes
        assert len(boxes) > 20
        assert (boxes[["x", "y", "width", "height"]].to_numpy() == np.array([4, 8, 4, 2]) * side / 16).all() or (
            name == "vinbigdata"
        )
        assert set(boxes["image_width"]) == {side}
    rsna = sum(row["Target"] == "1" for row in rows(folders, "rsna"))
    assert len(catalogs["rsna"].boxes) == rsna


@pytest.mark.parametrize("name", SETS)
def test_the_option_file_reads_the_set(folders: Path, catalogs: dict[str, Catalog], name: str) -> None:
    config = composed("inspect", f"data={name}", f"data.root={folders / name}")
    read = build(config["data"]["source"], allow=SOURCES)
    assert read.labels_sha256 == catalogs[name].labels_sha256 and read.origin == catalogs[name].origin


@pytest.mark.parametrize("name", ["vindr", "siim", "padchest", "brax"])
def test_images_show_what_was_drawn(catalogs: dict[str, Catalog], drawn: list[Drawn], name: str) -> None:
    if name in ("vindr", "siim"):
        pytest.importorskip("pydicom")
    for path in catalogs[name].table["path"][:8]:  # vindr: 12 bits, every fourth patient inverted
        read = read_gray(path)
        assert np.abs(read / (257 if read.dtype == np.uint16 else 1) - drawn[0].picture).max() < 1, path


def test_images_may_stay_in_archives(folders: Path, catalogs: dict[str, Catalog], tmp_path: Path) -> None:
    shutil.copytree(folders / "padchest", tmp_path / "set")
    for folder in "01":
        shutil.make_archive(str(tmp_path / "set" / folder), "zip", tmp_path / "set" / folder)
    shutil.rmtree(tmp_path / "set" / "0")  # 1 is there twice
    table = read_padchest(str(tmp_path / "set")).table
    assert (table["image"] == catalogs["padchest"].table["image"]).all() and (table["path"] != "").all()
    through = table["path"].str.contains(".zip/", regex=False)
    assert (through == (catalogs["padchest"].table["path"].str.contains("/padchest/0/"))).all() and through.any()


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_names_what_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CxrError, match=f"data.root={tmp_path} has n.*expected .*docs/public-sets.md"):
        READERS[name](str(tmp_path))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_missing_column_is_named(folders: Path, tmp_path: Path, name: str) -> None:
    file, column = TABLE[name]
    kept = [{key: value for key, value in row.items() if key != column} for row in rows(folders, name)]
    for path in (folders / name).iterdir():
        (tmp_path / path.name).symlink_to(path)
    if "/" in file:
        above = tmp_path / file.split("/")[0]
        above.unlink()
        above.mkdir()
        for path in (folders / name / above.name).iterdir():
            (above / path.name).symlink_to(path)
    (tmp_path / file).unlink()
    with (tmp_path / file).open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    with pytest.raises(CxrError, match=rf"{Path(file).name}.* lacks .*{column.strip()}"):
        READERS[name](str(tmp_path))


def test_the_images_of_a_set_may_be_absent_but_none_is_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").symlink_to(folders / "vinbigdata" / "train.csv")
    with pytest.raises(CxrError, match=r"none of the .* images .* is on disk"):
        check_images_exist(read_vinbigdata(str(tmp_path)), "skip")


def test_phantoms_are_written_in_a_layout_once(tmp_path: Path) -> None:
    root = tmp_path / "made"
    write_phantoms(root, images=8, size=64, processes=1, layout="chexpert")
    names = {path.name for path in root.iterdir()}
    assert names <= {"train.csv", "valid.csv", "test_labels.csv", "phantom.json", "train", "valid", "test"}
    written = (root / "train.csv").stat().st_mtime_ns
    write_phantoms(root, images=8, size=64, processes=1, layout="chexpert")
    assert (root / "train.csv").stat().st_mtime_ns == written
    with pytest.raises(CxrError, match=r"layout=chexpert, not layout=nih"):
        write_phantoms(root, images=8, size=64, processes=1)
    with pytest.raises(CxrError, match=r"layout=chexpertt is unknown"):
        write_phantoms(tmp_path / "other", images=8, layout="chexpertt")
