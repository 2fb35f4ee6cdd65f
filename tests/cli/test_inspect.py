"""The program `inspect`: what it prints, what it refuses, and that it changes nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

HEAD = "File#,MRN,Sex,Mass,Cavity (lung)\n"


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 120 images of 40 patients, of which two images are not on disk, below `films`."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "films"
    rng = np.random.default_rng(0)
    rows = [
        f"{k}.png,{k // 3:03d},{'FM'[k // 3 % 2]},{int(rng.random() < 0.4)},{['0', '1', ''][k % 3]}\n"
        for k in range(120)
    ]
    root.mkdir()
    (root / "films.csv").write_text(HEAD + "".join(rows))
    for k in range(118):
        (root / f"{k}.png").touch()
    (root / "roles.yaml").write_text('image: "File#"\n')
    return root


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WORDS = ("inspect", "data=table", "data.file=films.csv", "data.roles=roles.yaml")


def test_the_report_has_roles_images_findings_and_splits_and_changes_nothing(call: Any, films: Path) -> None:
    before = snapshot(films.parent)
    told = call(*WORDS, f"data.root={films}", "data.on_missing=skip")
    assert told.code == 0, told.err
    lines = {
        line.split()[0]: line.split()[1:] for line in told.out.splitlines() if line.split() and "lacks" not in line
    }
    assert lines["image"] == ["File#"] and lines["patient"] == ["MRN"] and lines["split"][0] == "images"
    assert "120 images of 40 patients; without a file: 2 images" in told.out
    assert lines["sex:"] == ["F", "60,", "M", "60"]
    table = (films / "films.csv").read_text().splitlines()[1:]
    masses = sum(row.split(",")[3] == "1" for row in table)
    assert lines["Mass"] == [str(masses), str(120 - masses), "0"]
    assert "Cavity (lung)          40          40          40" in told.out
    counts = {name: (int(lines[name][0]), float(lines[name][1].rstrip("%"))) for name in ("train", "val", "test")}
    assert sum(images for images, _ in counts.values()) == 118
    assert all(abs(share - 100 * images / 118) < 0.06 for images, share in counts.values())
    assert 18 <= counts["test"][0] <= 30
    assert snapshot(films.parent) == before


def test_what_a_training_would_refuse_is_named_and_the_rest_still_shown(call: Any, films: Path) -> None:
    told = call(*WORDS, f"data.root={films}")
    assert told.code == 1 and "the errors are above" in told.err
    refused = told.out.partition("Training with these options fails:\n")[2]
    assert "2 of 120 images of" in refused and "118.png, 119.png" in refused
    assert "\ntrain " in told.out
    leaking = (films / "films.csv").read_text().replace(HEAD, HEAD.replace("Sex", "split"))
    leaking = leaking.replace(",F,", ",train,").replace(",M,", ",test,").replace("0.png,000,train", "0.png,000,test", 1)
    (films / "films.csv").write_text(leaking)
    told = call(*WORDS, f"data.root={films}", "data.on_missing=skip")
    assert told.code == 1 and "the split leaks: patient 000 has images in test and t" in told.out


def test_archives_beside_complete_images_are_named_and_not_opened(call: Any, films: Path) -> None:
    (films / "old.zip").write_bytes(b"no archive")
    words = (*WORDS, f"data.root={films}", "data.on_missing=skip")
    assert "old.zip is damaged or cut short" in call(*words).err  # two images could be in it
    for name in ("118.png", "119.png"):
        (films / name).touch()
    told = call(*words)
    assert told.code == 0 and "not opened, because every image is a file: old.zip" in told.out, told.err


def test_roles_are_written_once_and_give_the_same_report(call: Any, films: Path) -> None:
    words = (*WORDS, f"data.root={films}", "data.on_missing=skip")
    told = call(*words, "roles=out.yaml")
    assert told.code == 0 and "the roles are written to out.yaml; pass data.roles=out.yaml" in told.out
    written = yaml.safe_load(Path("out.yaml").read_text())
    assert (written["image"], written["patient"], written["age"]) == ("File#", "MRN", None)
    assert written["findings"] == {"Mass": "Mass", "Cavity (lung)": "Cavity (lung)"}
    again = call(*words[:3], "data.roles=out.yaml", *words[4:])
    assert again.out == told.out.partition("\n")[2]
    refused = call(*words, "roles=out.yaml")
    assert refused.code == 1 and "roles=out.yaml exists and is not overwritten" in refused.err


def test_roles_can_be_written_for_a_table_whose_cells_are_not_understood(call: Any, films: Path) -> None:
    (films / "films.csv").write_text(f"{HEAD}a,1,F,1,0\nb,2,F,0,1\nc,3,F,later,0\n")
    told = call(*WORDS, f"data.root={films}", "roles=out.yaml")
    assert told.code == 1 and "row 4, column 'Mass': 'later' is not understood" in told.err
    assert yaml.safe_load(Path("out.yaml").read_text())["findings"]["Mass"] == "Mass"


def test_other_sources_are_reported_and_have_no_roles(call: Any, nih: Path) -> None:
    told = call("inspect", "data=nih", f"data.root={nih}")
    assert told.code == 0 and "6 images of 3 patients" in told.out, told.err
    assert "Mass                         6           0           0" in told.out
    assert "val lacks positives or negatives, and so an AUROC, of 14 findings: Atelectasis," in told.out
    refused = call("inspect", "data=nih", f"data.root={nih}", "roles=out.yaml")
    assert refused.code == 1 and "roles=out.yaml: only data=table has roles of columns" in refused.err


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    names = [f"0000000{patient}_00{k}.png" for patient in (1, 2, 3) for k in (0, 1)]
    rows = [f"{name},Mass,0,{name[7]},50,F,PA" for name in names]
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    (root / "Data_Entry_2017.csv").write_text("\n".join([head, *rows]))
    for name in names:
        (root / "images" / name).touch()
    (root / "train_val_list.txt").write_text("\n".join(names[:4]))
    (root / "test_list.txt").write_text("\n".join(names[4:]))
    return root


def test_phantoms_are_not_drawn_by_inspecting_them(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = call("inspect", "data=phantom")
    assert (
        told.code == 1
        and "has no phantoms yet; python -m cxr cache data=phantom data.root=data/phantom draws them" in told.err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_or_root_is_an_error_with_a_remedy(call: Any, tmp_path: Path) -> None:
    assert "data.root=DIR" in call("inspect").err
    assert "data.file is not set; pass data.file=films.csv" in call("inspect", f"data.root={tmp_path}").err
