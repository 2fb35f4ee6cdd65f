"""A row for every file in the given order, whatever the files are, and a stop that costs no finished part."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.cli.predict import predict
from cxr.errors import CxrError
from cxr.use import files
from cxr.use.files import Inputs, score_files
from cxr.use.scoring import Floats
from tests.use.made import forward, model, second

RNG = np.random.default_rng(3)


def film(path: Path, mode: str = "L") -> Path:
    """A file whose gray values are 40 to 219."""
    shades = RNG.integers(40, 220, (32, 48)).astype(np.uint8)
    if mode == "I;16":
        cv2.imwrite(str(path), shades.astype(np.uint16) * 257)
    else:
        Image.fromarray(shades).convert(mode).save(path)
    return path


def inputs(*paths: Path) -> Inputs:
    return Inputs([path.name for path in paths], list(map(str, paths)))


def test_every_file_has_a_row_with_scores_or_a_reason(tmp_path: Path) -> None:
    good = [film(tmp_path / "gray.png"), film(tmp_path / "rgb.jpg", "RGB"), film(tmp_path / "deep.png", "I;16")]
    (tmp_path / "notes.txt").write_text("no radiograph")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:200])
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(tmp_path / "blank.png")
    bad = {"notes.txt": "not an image", "empty.png": "is empty", "cut.png": "truncated", "blank.png": "blank",
           "absent.png": "cannot be opened: no such file", "nul\0.png": "embedded null byte"}  # fmt: skip
    paths = [tmp_path / "notes.txt", good[0], tmp_path / "absent.png", *good[1:], tmp_path / "empty.png",
             tmp_path / "cut.png", good[0], tmp_path / "blank.png", tmp_path / "nul\0.png"]  # fmt: skip
    assert score_files(model(), inputs(*paths), tmp_path / "out.parquet", batch_size=2) == len(bad)
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["image"].tolist() == [path.name for path in paths]
    assert not (tmp_path / "out.parquet.parts").exists()
    for row, path in zip(table.itertuples(index=False), paths, strict=True):
        if path.exists():
            assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row.status == ("refused" if path.name in bad else "ok")
        assert bad.get(path.name, "") in row.reason and (row.reason == "") == (row.status == "ok")
        assert "\n" not in row.reason and str(tmp_path) not in row.reason
    scores = table[[name for name in table if name.startswith(("score:", "calibrated:", "call:youden"))]]
    assert (scores.isna().any(axis=1) == (table["status"] == "refused")).all()
    assert table["call:half:Effusion"].isna().all()
    a, b = (forward(cv2.resize(cv2.imread(str(good[0]), 0), (16, 16), interpolation=cv2.INTER_AREA).reshape(
        8, 2, 8, 2).mean(axis=(1, 3))[None, None], np.zeros((1, 5)))[0][0] / n for n in (1, 2))  # fmt: skip
    assert table["score:Mass"][1] == pytest.approx(0.25 * a[0] + 0.75 * b[0], abs=2e-3)  # pixels are rounded


def test_age_of_a_table_reaches_the_member_that_uses_it(tmp_path: Path) -> None:
    path = film(tmp_path / "a.png")
    attributes = np.array([[0.1, 0, 0, 0, 0], [np.nan, 0, 0, 0, 0]], np.float32)
    given = replace(inputs(path, path), attributes=attributes)
    score_files(model(), given, tmp_path / "out.csv")
    score = pd.read_csv(tmp_path / "out.csv")["score:Mass"]
    assert score[0] - score[1] == pytest.approx(0.75 * 0.1)


def test_a_stopped_table_continues_after_its_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS", 3)
    given = inputs(*[film(tmp_path / f"{number}.png") for number in range(8)])
    out, whole, seen = tmp_path / "out.parquet", tmp_path / "whole.parquet", 0

    def failing(image: np.ndarray, attributes: Floats) -> tuple[Floats, Floats | None]:
        nonlocal seen
        seen += len(image)
        if seen == 6:
            raise KeyboardInterrupt
        return forward(image, attributes)

    with pytest.raises(KeyboardInterrupt):
        score_files(replace(model(), forwards=(failing, second)), given, out)
    assert not out.exists() and seen == 6
    with pytest.raises(CxrError, match=r"out.parquet.parts holds parts of other images or of another model"):
        score_files(model(model="1" * 64), given, out)
    with files.Parts(tmp_path / "held.csv", {}), pytest.raises(CxrError, match=r"another process is writing .*held"):
        score_files(model(), given, tmp_path / "held.csv")
    assert not list(tmp_path.rglob(".lock"))
    assert score_files(replace(model(), forwards=(failing, second)), given, out) == 0
    assert seen == 6 + 5, "three images were scored before"
    score_files(model(), given, whole)
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(whole))
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.parquet"]


def test_a_damaged_part_is_named_and_files_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS", 1)
    given = inputs(film(tmp_path / "0.png"), film(tmp_path / "1.png"))
    out, folder = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(files.Parts, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        score_files(model(), given, out)
    first = folder / "part-000000.parquet"
    first.write_text("damaged")
    (folder / "note.txt").write_text("mine")
    with pytest.raises(CxrError, match=r"part-000000.parquet is damaged; remove it and run the same command again"):
        score_files(model(), given, out)
    assert not out.exists()
    first.unlink()
    assert score_files(model(), given, out) == 0
    assert len(pd.read_csv(out)) == 2 and [path.name for path in folder.iterdir()] == ["note.txt"]


def test_a_table_of_which_no_part_is_finished_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = inputs(film(tmp_path / "a.png")), tmp_path / "out.csv"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(files.Parts, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        score_files(model(), given, out)
    (tmp_path / "mine").write_text("a file")
    with pytest.raises(CxrError, match=r"cannot write .*mine: file exists"):
        score_files(model(), given, out, maps=tmp_path / "mine")
    assert score_files(model(model="1" * 64), given, out) == 0
    assert pd.read_csv(out, dtype=str)["model"].tolist() == ["1" * 64]


def test_a_table_among_the_images_continues_without_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "z").mkdir()
    film(tmp_path / "a.png")
    film(tmp_path / "z" / "b.png")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    chosen = {"images": str(tmp_path), "root": None, "out": f"{tmp_path}/link/out.csv", "maps": f"{tmp_path}/z/maps",
              "workers": 1, "batch_size": 1}  # fmt: skip
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(files.Parts, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        predict(chosen, model)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1 and len(list(tmp_path.rglob("maps/1-a/*.png"))) == 2
    predict(chosen, model)
    assert pd.read_csv(tmp_path / "out.csv")["image"].tolist() == ["a.png", "z/b.png"]


def test_parts_with_another_calibration_are_of_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, out = inputs(film(tmp_path / "a.png")), tmp_path / "out.csv"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(files.Parts, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        score_files(model(), given, out)
    with pytest.raises(CxrError, match=r"holds parts of other images or of another model"):
        score_files(model(points={"half": (0.5, 0.25)}), given, out)


def test_an_existing_table_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(CxrError, match=r"out.csv exists and is not overwritten"):
        score_files(model(), inputs(film(tmp_path / "a.png")), out)
    assert out.read_text() == "mine"
    with pytest.raises(CxrError, match=r"must end in .parquet or .csv"):
        score_files(model(), inputs(tmp_path / "a.png"), tmp_path / "out.txt")


def test_names_are_written_so_that_no_program_stumbles_over_them(tmp_path: Path) -> None:
    odd = tmp_path / "b\udcff.png"  # a byte that is no text
    odd.write_bytes(film(tmp_path / "=1+1.png").read_bytes())
    score_files(model(), inputs(tmp_path / "=1+1.png", odd), tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["image"].tolist() == ["'=1+1.png", "b\\xff.png"]


def test_few_images_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read, scored, most = film(tmp_path / "a.png"), 0, 0, 0
    real = files.read_file

    def counting(name: str) -> bytes:
        nonlocal read, most
        read += 1
        most = max(most, read - scored)
        return real(name)

    def slow(image: np.ndarray, attributes: Floats) -> tuple[Floats, Floats | None]:
        nonlocal scored
        scored += len(image)
        return forward(image, attributes)

    monkeypatch.setattr(files, "read_file", counting)
    given = inputs(*[path] * 300)
    score_files(replace(model(), forwards=(slow, second)), given, tmp_path / "out.parquet", batch_size=4, workers=2)
    assert read == scored == 300 and most <= 20


def test_maps_are_drawn_over_the_image_and_stay_in_their_folder(tmp_path: Path) -> None:
    path = film(tmp_path / "a.png")
    given = Inputs(["../../a.png", "a/../b.png"], [str(path)] * 2)
    score_files(model(), given, tmp_path / "out.csv", maps=tmp_path / "maps")
    drawn = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "maps").rglob("*.png"))
    assert drawn == ["maps/1-a/0000000-a.png", "maps/1-a/0000001-b.png"]
    picture = cv2.imread(str(tmp_path / drawn[0]))
    assert picture.shape == (8, 8, 3) and np.ptp(picture.astype(int), axis=2).max() > 20, "in colour"
    long = Inputs(["x" * 300] * 2, [str(path)] * 2)
    names = ("\u5fc3\u81df", "\u80ba\u708e")  # two characters each, which are not ASCII
    each = model(findings=names, scaling=None, points={}, members=(
        replace(model().system.members[0], maps="findings"), model().system.members[1]))  # fmt: skip
    two = replace(each, forwards=(lambda *given: (*forward(*given)[:1], np.ones((2, 2, 2, 2)), None), second))
    score_files(two, long, tmp_path / "long.csv", batch_size=2, maps=tmp_path / "two")
    drawn = sorted(file.name for file in (tmp_path / "two").rglob("*.png"))
    assert [name.replace("x", "") for name in drawn] == [f"000000{n}-.{k}.-.png" for n in (0, 1) for k in (1, 2)]
    alone = model(members=tuple(replace(member, maps="") for member in model().system.members))
    with pytest.raises(CxrError, match="made has no attention maps"):
        score_files(alone, given, tmp_path / "other.csv", maps=tmp_path / "maps")


def test_remarks_on_an_accepted_file_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shades = RNG.integers(0, 256, (20, 20), np.uint8)
    monkeypatch.setattr(files, "gray_with_remarks", lambda content: (shades, ("a lateral view", "of a hand")))
    assert score_files(model(), inputs(film(tmp_path / "a.png")), tmp_path / "out.csv") == 0
    (row,) = pd.read_csv(tmp_path / "out.csv").itertuples(index=False)
    assert (row.status, row.warnings) == ("ok", "a lateral view; of a hand") and row[-1] in (0, 1)
