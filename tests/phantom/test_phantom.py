"""Phantoms: the published layout, the same bytes every time, and pictures that show what their labels say."""

import hashlib
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr.errors import CxrError
from cxr.findings import NIH8, NIH14, canonical
from cxr.metrics.stratification import draw_patients
from cxr.phantom import Visit, draw_population, render, write_phantoms
from cxr.phantom.radiograph import patient_build

SMALL = dict(images=24, seed=3, size=64)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(visits: list[Visit], column: str = "written") -> np.ndarray:
    return np.array([[finding in getattr(visit, column) for finding in NIH14] for visit in visits])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "made"
    write_phantoms(folder, **SMALL, processes=1)
    return folder


@pytest.fixture(scope="module")
def thousand() -> list[Visit]:
    return draw_population(1200, seed=0)


def test_bytes_do_not_depend_on_processes(root: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "two", **SMALL, processes=2)
    write_phantoms(tmp_path / "again", **SMALL, processes=1)
    assert digest(root) == digest(tmp_path / "two") == digest(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "two"]  # no temporary folder is left


def test_another_seed_gives_other_pictures(root: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "other", **SMALL | dict(seed=4), processes=1)
    ours, theirs = digest(root), digest(tmp_path / "other")
    same = [name for name in ours if ours[name] == theirs.get(name)]
    assert not same


def test_layout_is_that_of_the_release(root: Path) -> None:
    header = (root / "Data_Entry_2017.csv").read_text().splitlines()[0]
    assert header == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    entries = pd.read_csv(root / "Data_Entry_2017.csv")
    assert entries.shape == (24, 11)
    names = [f"{p:08d}_{f:03d}.png" for p, f in zip(entries["Patient ID"], entries["Follow-up #"], strict=True)]
    assert list(entries["Image Index"]) == names
    assert set(entries["Patient Gender"]) <= {"F", "M"} and set(entries["View Position"]) <= {"PA", "AP"}
    assert entries["Patient Age"].between(15, 95).all()
    labels = {label for text in entries["Finding Labels"] for label in text.split("|")}
    assert labels <= {*NIH14, "No Finding"}
    assert all(text == "No Finding" or "No Finding" not in text for text in entries["Finding Labels"])
    lists = [(root / name).read_text() for name in ("train_val_list.txt", "test_list.txt")]
    assert not any(text.endswith("\n") for text in lists)
    assert sorted(lists[0].splitlines() + lists[1].splitlines()) == sorted(names)
    assert sorted(path.name for path in (root / "images").iterdir()) == sorted(names)
    for name in names:
        picture = cv2.imread(str(root / "images" / name), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (64, 64) and picture.dtype == np.uint8 and picture.std() > 20
    options = json.loads((root / "phantom.json").read_text())
    assert {name: options[name] for name in ("images", "seed", "size", "label_noise")} == dict(
        images=24, seed=3, size=64, label_noise=0.0
    )


def test_boxes_are_of_the_test_list_and_inside(root: Path) -> None:
    lines = (root / "BBox_List_2017.csv").read_text().splitlines()
    assert lines[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    entries = pd.read_csv(root / "Data_Entry_2017.csv").set_index("Image Index")["Finding Labels"]
    test = set((root / "test_list.txt").read_text().splitlines())
    found = set()
    for line in lines[1:]:
        image, label, *box = line.split(",")
        x, y, width, height = map(float, box)
        assert x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= 1024 and y + height <= 1024
        assert image in test and canonical(label) in entries[image].split("|") and label != "Infiltration"
        found.add((image, canonical(label)))
    assert found == {(image, label) for image in test for label in entries[image].split("|") if label in NIH8}


@pytest.mark.parametrize("finding", NIH14)
def test_finding_changes_the_picture_inside_its_box(finding: str) -> None:
    inside, total = 0.0, 0.0
    for patient in range(1, 5):
        visit = Visit(patient, 0, 60, bool(patient % 2), patient == 4, shown=(finding,))
        drawn, normal = render(visit, size=128), render(replace(visit, shown=()), size=128)
        energy = (drawn.picture.astype(float) - normal.picture) ** 2
        assert energy.sum() > 0
        mask = np.zeros_like(energy)
        for x, y, width, height in drawn.boxes[finding]:
            assert x >= 0 and y >= 0 and x + width <= 1 and y + height <= 1
            left, top = int(x * 128) - 2, int(y * 128) - 2
            mask[max(top, 0) : int((y + height) * 128) + 3, max(left, 0) : int((x + width) * 128) + 3] = 1
        inside, total = inside + float((energy * mask).sum()), total + float(energy.sum())
    assert total / 4 > 20_000, "too faint to be seen"
    if finding in NIH8:
        assert inside > 0.7 * total


def test_pictures_differ_only_at_the_finding() -> None:
    visit = Visit(7, 0, 50, False, True, shown=("Nodule",))
    drawn, normal = render(visit, size=128).picture, render(replace(visit, shown=()), size=128).picture
    far = np.ones((128, 128), bool)
    for x, y, width, height in render(visit, size=128).boxes["Nodule"]:
        far[
            int(128 * (y - 0.15)) : int(128 * (y + height + 0.15)),
            int(128 * (x - 0.15)) : int(128 * (x + width + 0.15)),
        ] = 0
    assert np.abs(drawn.astype(int) - normal)[far].max() <= 6


def test_patients_never_cross_lists(thousand: list[Visit]) -> None:
    train = {visit.patient for visit in thousand if not visit.test}
    test = {visit.patient for visit in thousand if visit.test}
    assert train and test and not train & test
    assert 0.22 < np.mean([visit.test for visit in thousand]) < 0.28


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_finding_is_frequent_enough_to_learn_and_evaluate(seed: int) -> None:
    visits = draw_population(1200, seed)
    labels, test = table(visits), np.array([visit.test for visit in visits])
    patients = np.array([visit.patient for visit in visits])
    assert labels.sum(0).min() >= 45
    assert min(len(set(patients[column])) for column in labels.T) >= 14
    assert labels[test].sum(0).min() >= 10 and (~labels[test]).sum(0).min() >= 10
    assert 0.33 < (~labels.any(1)).mean() < 0.47
    rest = pd.DataFrame(labels[~test], columns=list(NIH14)).assign(patient=patients[~test].astype(str))
    held = np.isin(patients[~test].astype(str), list(draw_patients(rest, NIH14, 0.2, seed)))
    assert labels[~test][held].sum(0).min() >= 5 and (~labels[~test][held]).sum(0).min() >= 5


@pytest.mark.parametrize("images", [60, 120])
def test_few_images_still_have_every_finding_in_both_lists(images: int) -> None:
    visits = draw_population(images, seed=0)
    labels, test = table(visits), np.array([visit.test for visit in visits])
    assert len(visits) == images
    assert labels[test].any(0).all() and labels[~test].any(0).all()


@pytest.mark.parametrize("images", [1, 2, 7])
def test_a_handful_of_images_is_fine(images: int) -> None:
    assert len(draw_population(images)) == images


def test_follow_ups_are_as_many_as_in_the_release(thousand: list[Visit]) -> None:
    counts = np.unique([visit.patient for visit in thousand], return_counts=True)[1]
    assert 2.8 < counts.mean() < 4.6 and 10 < counts.max() <= 24 and (counts == 1).mean() > 0.4


def test_findings_persist_over_follow_ups(thousand: list[Visit]) -> None:
    labels = table(thousand)
    again = np.array([b.followup == a.followup + 1 for a, b in pairwise(thousand)])
    before, after = labels[:-1][again], labels[1:][again]
    assert after[before].mean() > 3 * after[~before].mean()


def test_anatomy_stays_over_follow_ups() -> None:
    first = Visit(5, 0, 60, False, False)
    assert patient_build(first, 0) == patient_build(replace(first, followup=3, portable=True), 0)
    assert patient_build(first, 0) != patient_build(replace(first, patient=6), 0)
    mine = [render(replace(first, followup=day), size=64).picture.astype(float) for day in range(4)]
    other = [render(Visit(patient, 0, 60, False, False), size=64).picture.astype(float) for patient in range(10, 18)]
    alike = np.mean([np.corrcoef(mine[0].ravel(), picture.ravel())[0, 1] for picture in mine[1:]])
    apart = np.mean([np.corrcoef(mine[0].ravel(), picture.ravel())[0, 1] for picture in other])
    assert alike > apart and not np.array_equal(mine[0], mine[1])


def test_label_noise_flips_labels_and_keeps_what_is_drawn(thousand: list[Visit]) -> None:
    noisy = draw_population(1200, seed=0, label_noise=0.2)
    shown, written = table(noisy, "shown"), table(noisy)
    assert np.array_equal(shown, table(thousand, "shown"))
    assert np.array_equal(table(thousand), table(thousand, "shown"))
    assert 0.15 < (~written[shown]).mean() < 0.25
    assert abs(written.mean() - shown.mean()) < 0.01


def test_existing_data_are_not_written_again(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_phantoms(root, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.parametrize("option", ["images", "seed", "size", "label_noise"])
def test_other_options_are_refused_by_name(root: Path, option: str) -> None:
    old = dict(SMALL, label_noise=0.0)[option]
    new = {"images": 25, "seed": 9, "size": 80, "label_noise": 0.1}[option]
    before = digest(root)
    with pytest.raises(CxrError, match=f"{option}={old}.*{option}={new}.*data.root"):
        write_phantoms(root, **SMALL | {option: new})
    assert digest(root) == before


def test_no_file_of_the_user_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(CxrError, match=r"has no phantom\.json"):
        write_phantoms(tmp_path / "mine", **SMALL)
    (tmp_path / "file").write_text("dear")
    with pytest.raises(CxrError, match=r"has no phantom\.json"):
        write_phantoms(tmp_path / "file", **SMALL)
    assert sorted(digest(tmp_path)) == ["file", "mine/thesis.txt"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_slower_of_two_processes_discards_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SMALL | dict(images=4, processes=1)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        write_phantoms(tmp_path / "both", **options)  # the other process finishes first
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    write_phantoms(tmp_path / "both", **options)
    assert os.listdir(tmp_path) == ["both"] and len(list((tmp_path / "both" / "images").iterdir())) == 4


def test_nothing_is_left_when_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("cxr.phantom.write.render", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        write_phantoms(tmp_path / "never", **SMALL, processes=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option, value", [("images", 0), ("size", 8), ("label_noise", 0.9), ("seed", -1)])
def test_option_out_of_range_is_refused(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(CxrError, match=f"{option}={value}"):
        write_phantoms(tmp_path / "never", **SMALL | {option: value})
