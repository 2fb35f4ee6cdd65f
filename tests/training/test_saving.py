"""Checkpoint files: their sums, what is left when the process dies while one is written, and damage."""

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.training.saving import CheckpointFiles, newest_verified, read_verified, write_checkpoint


class Died(BaseException):
    pass


def value(path: Path | None) -> int:
    assert path is not None
    return int(torch.load(path, weights_only=True)["step"])


def write(run: Run, step: int) -> None:
    write_checkpoint({"step": step, "weights": torch.full((1000,), float(step))}, run.last, run.previous)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "a")
    for step in (1, 2, 3):
        write(made, step)
    return made


def test_the_last_and_the_one_before_are_kept_and_sha256sum_agrees(run: Run) -> None:
    folder = run.last.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256",
    ]  # fmt: skip
    assert (value(run.last), value(run.previous), value(newest_verified(run)[0])) == (3, 2, 3)
    if shutil.which("sha256sum"):
        names = ["last.ckpt.sha256", "previous.ckpt.sha256"]
        assert subprocess.run(["sha256sum", "--strict", "-c", *names], cwd=folder, capture_output=True).returncode == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(
    run: Run, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(run.last.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    spoilt = {"flipped": bytes(content), "cut": bytes(content[:-100]), "empty": b""}
    if damage == "missing":
        run.last.unlink()
    else:
        run.last.write_bytes(spoilt[damage])
    found = newest_verified(run)
    assert found == (run.previous, run.previous.read_bytes()) and value(run.previous) == 2
    if damage != "missing":
        assert "last.ckpt is damaged" in capsys.readouterr().out
        assert (run.last.parent / "last.ckpt.damaged").read_bytes() == spoilt[damage], "nothing is deleted"
    write(run, 3)
    assert (value(run.last), value(run.previous)) == (3, 2), "the damaged file does not replace the whole one"


def test_two_damaged_checkpoints_are_refused_by_name(run: Run) -> None:
    for path in (run.last, run.previous):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CxrError, match=r"last\.ckpt and .*previous\.ckpt are damaged: their SHA-256 does not match"):
        newest_verified(run)


def test_a_checkpoint_without_a_sum_is_taken_as_it_is(run: Run) -> None:
    for path in run.last.parent.glob("*.sha256"):
        path.unlink()
    assert value(newest_verified(run)[0]) == 3


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest_verified(Run(tmp_path / "b")) is None


def test_whatever_call_the_process_dies_at_a_whole_checkpoint_is_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies at each call that touches the disk, before it and after it; the next life writes on."""
    names = ("replace", "write_text", "chmod", "unlink")
    places = [(os, "fsync"), (torch, "save"), *((Path, name) for name in names)]
    deaths = 0
    for owner, name in places:
        for after in (False, True):
            call = 0
            while True:
                real, left = getattr(owner, name), [call]

                def mortal(*given: object, _real=real, _left=left, _after=after, **named: object) -> object:
                    _left[0] -= 1
                    if _left[0] == -1 and not _after:
                        raise Died
                    result = _real(*given, **named)
                    if _left[0] == -1:
                        raise Died
                    return result

                before = value(newest_verified(run)[0])
                with monkeypatch.context() as patch:
                    patch.setattr(owner, name, mortal)
                    try:
                        write(run, before + 1)
                    except Died:
                        deaths += 1
                    else:
                        break
                assert value(newest_verified(run)[0]) in (before, before + 1)
                assert read_verified(newest_verified(run)[0]) is not None
                call += 1
    assert deaths >= 30


def test_a_file_that_was_read_already_is_handed_to_lightning_once_and_then_read(run: Run) -> None:
    files, other = CheckpointFiles(run), {"step": 7}
    files.restored = (run.last, other)
    assert files.load_checkpoint(run.previous)["step"] == 2, "another file is read"
    assert files.load_checkpoint(str(run.last)) is other
    assert files.load_checkpoint(run.last)["step"] == 3 and files.restored is None


def test_only_last_has_one_before_and_a_file_that_is_removed_takes_its_sum_along(run: Run) -> None:
    files = CheckpointFiles(run)
    before = run.previous.read_bytes()
    for epoch in (0, 1):
        files.save_checkpoint({"step": epoch}, run.best)
    assert value(run.best) == 1 and run.previous.read_bytes() == before
    files.save_checkpoint({"step": 4}, run.last)
    assert (value(run.last), value(run.previous)) == (4, 3)
    files.remove_checkpoint(run.best)
    files.remove_checkpoint(run.best)  # that is gone
    assert not list(run.best.parent.glob("best*"))


@pytest.mark.parametrize("size", [1, 1 << 20, 3 << 20])
def test_the_noted_sum_is_that_of_the_file_however_large_it_is(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint({"weights": torch.arange(size)}, path)  # up to 24 MiB, in several pieces
    assert (tmp_path / "a.ckpt.sha256").read_text() == f"{sha256(path.read_bytes()).hexdigest()}  a.ckpt\n"
    assert read_verified(path) == path.read_bytes()
