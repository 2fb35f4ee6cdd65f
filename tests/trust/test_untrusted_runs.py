"""Untrusted runs: nothing is written through their links or where they say, and nothing in them is waited for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.cli.evaluate import evaluate
from cxr.configuration.targets import build
from cxr.errors import CxrError
from cxr.files.reading import check_links
from cxr.run.directory import Run
from cxr.run.ledger import LEDGER, count_test
from cxr.run.predictions import Predictions, read_predictions
from cxr.training.finished_run import FinishedRun
from cxr.training.log import read_log, read_rows, read_steps
from cxr.training.run import resume
from cxr.training.saving import read_verified
from tests.trust.conftest import CONFIG

NOTHING: dict[str, Any] = {"data": {"root": None}, "cache": {"dir": None}}


def predictions(split: str, seed: int = 0) -> Predictions:
    """Forty patients of one image, both labels in either half."""
    rng = np.random.default_rng([seed, len(split)])
    names = np.array([f"{split}{k:02}.png" for k in range(40)], object)
    target = (np.arange(40)[:, None] % 2 == [0, 1]).astype(np.float32)
    return Predictions(names, names, ("Mass", "Nodule"), rng.random((40, 2)).astype(np.float32), target, "", split)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that `evaluate` takes: predictions alone."""
    for split in ("val", "test"):
        predictions(split).write(tmp_path / "runs" / "a" / "predictions" / f"{split}.parquet")
    return tmp_path / "runs" / "a"


def evaluated(run: Path) -> None:
    saved = OmegaConf.to_container(OmegaConf.load(conf_dir() / "evaluate.yaml"))
    assert isinstance(saved, dict)
    evaluate(
        {str(k): v for k, v in saved.items() if k not in ("defaults", "hydra")} | {"run": str(run), "resamples": 5}
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["evaluation", "figures", "checkpoints"])
@pytest.mark.parametrize("target", ["mine", "absent", "runs/a/predictions"])
def test_folder_of_a_run_that_is_a_link_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, name: str, target: str
) -> None:
    (tmp_path / "mine").mkdir()
    (run / name).symlink_to(tmp_path / target)
    before = tree(tmp_path)
    with pytest.raises(CxrError, match=f"{name} is a link or not a folder"):
        evaluated(run)
    assert tree(tmp_path) == before and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch])
def test_folder_of_a_run_that_is_none_is_refused(run: Path, make: Callable[[Path], None]) -> None:
    make(run / "evaluation")
    with pytest.raises(CxrError, match="evaluation is a link or not a folder"):
        evaluated(run)


def test_links_deep_in_a_run_are_refused_where_they_could_be_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine").mkdir()
    for link, target in (
        ("tensorboard/version_0/hparams.yaml", "absent.yaml"), ("tensorboard/version_0/hparams.yaml", "mine.yaml"),
        ("wandb/run-1", "mine"), ("figures/more", "mine"), ("loop", "runs/a/loop"), ("metrics.json", "absent"),
    ):  # fmt: skip
        (run / link).parent.mkdir(parents=True, exist_ok=True)
        (run / link).symlink_to(tmp_path / target)
        with pytest.raises(CxrError, match=f"{link} is a link"):
            check_links(run)
        (run / link).unlink()


def test_links_that_a_run_may_have_are_passed(run: Path, tmp_path: Path) -> None:
    """Its folder itself, W&B's own, and a file that is replaced whole."""
    (run / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (run / "wandb" / "latest-run").symlink_to("run-1")
    (run / "wandb" / "debug.log").symlink_to("run-1/logs/debug.log")
    (tmp_path / "thesis").write_text("mine")
    (run / "calibration.json").symlink_to(tmp_path / "thesis")
    (tmp_path / "latest").symlink_to(run)
    evaluated(tmp_path / "latest")
    assert (run / "metrics.json").is_file() and (tmp_path / "thesis").read_text() == "mine"


@pytest.mark.parametrize("name", [LEDGER, f"{LEDGER}.lock"])
@pytest.mark.parametrize("target", ["thesis", "absent"])
def test_ledger_that_is_a_link_is_refused_and_its_target_left(
    run: Path, tmp_path: Path, name: str, target: str
) -> None:
    (tmp_path / "thesis").write_text("mine")
    (run.parent / name).symlink_to(tmp_path / target)
    for attempt in (lambda: evaluated(run), lambda: count_test(run.parent / LEDGER, predictions("test"), "a", "x")):
        with pytest.raises(CxrError, match="is not a regular file and is not written"):
            attempt()
    assert (tmp_path / "thesis").read_text() == "mine" and not (tmp_path / "absent").exists()
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize("name", [";touch X;", "$(touch X)", "a\ntouch X", "`x`", "a b", "=1+1"])
def test_no_line_of_the_ledger_is_shell(tmp_path: Path, name: str) -> None:
    count_test(tmp_path / LEDGER, predictions("test"), name, name)
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert len(lines) == 2 and not set(lines[1]) & set(";$`|&<>()=\\\"' \t\n")


def test_run_with_a_link_is_not_resumed_and_what_it_leads_to_is_left(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".last-abcd1234.ckpt").touch()  # called like what a killed process leaves
    (run / "checkpoints").symlink_to(tmp_path / "mine")
    with pytest.raises(CxrError, match="checkpoints is a link or not a folder"):
        resume({}, Run(run))
    assert (tmp_path / "mine" / ".last-abcd1234.ckpt").exists()


@pytest.mark.parametrize("name", ["metrics.csv", "steps.csv"])
def test_run_with_a_pipe_is_not_resumed(run: Path, name: str) -> None:
    os.mkfifo(run / name)
    with pytest.raises(CxrError, match=f"{name} cannot be read: it is not a regular file"):
        resume({}, Run(run))


READERS: dict[str, Callable[[Path], object]] = {
    "config.yaml": lambda path: Run(path.parent).config(),
    "metrics.json": lambda path: Run(path.parent).metrics(),
    "metrics.csv": read_rows,
    "steps.csv": read_steps,
    "best.ckpt.sha256": lambda path: read_verified(path.with_suffix("")),
    "best.ckpt": lambda path: read_verified(path),
    "test.parquet": read_predictions,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_in_a_run_is_one_sentence_at_once(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if name == "best.ckpt":
        (tmp_path / "best.ckpt.sha256").write_text("0" * 64 + "  best.ckpt\n")
    {"pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    with pytest.raises(CxrError, match="cannot be read"):
        READERS[name](path)


def test_pipe_among_the_remembered_paths_is_one_sentence_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "a")
    run.create({"data": {"root": "/x/y"}, "run_id": "1"})
    (tmp_path / "runs" / ".places").mkdir()
    os.mkfifo(tmp_path / "runs" / ".places" / "a-1.json")
    with pytest.raises(CxrError, match=r"\.places.*is not a regular file"):
        run.config()


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "metrics.csv", "steps.csv", "best.ckpt.sha256"])
def test_file_of_a_terabyte_in_a_run_is_refused_unread(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CxrError, match="has 1099511627776 bytes, at most"):
        READERS[name](tmp_path / name)


EPOCHS = "epoch,step,lr,train/loss,val/loss\n"
LOGS = {
    "other columns": (b"a,b\n1,2\n", "line 1 has the unknown column 'a'"),
    "no epoch": (b"step,lr\n1,2\n", "line 1 lacks the column 'epoch'"),
    "no number": (EPOCHS.encode() + b"0,1,1,1,1\nx,1,1,1,1\n", "line 3: 'epoch' is 'x'; it must be a whole number"),
    "short": (EPOCHS.encode() + b"0,1\n", "line 2 has 2 values for 5 columns"),
    "long": (EPOCHS.encode() + b"0,1,1,1,1,1\n", "line 2 has 6 values for 5 columns"),
    "not text": (b"\xff\xfe\x00", "cannot be read as text"),
    "huge": (EPOCHS.encode() + b"9" * 5000 + b",1,1,1,1\n", "line 2: 'epoch' is '999"),
    "quoted": (EPOCHS.encode() + b'"0,1,1,1,1\n', "line 2"),
}


@pytest.mark.parametrize("content", LOGS)
def test_metrics_csv_of_other_content_is_one_sentence_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_bytes(LOGS[content][0])
    with pytest.raises(CxrError, match=r"metrics\.csv") as caught:
        read_log(tmp_path / "metrics.csv")
    assert LOGS[content][1] in str(caught.value)


def test_steps_csv_of_other_content_is_kept_and_refused(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("my,thesis\n1,2\n")
    with pytest.raises(CxrError, match=r"steps\.csv line 1 is not step,epoch,loss,lr"):
        read_steps(tmp_path / "steps.csv")
    (tmp_path / "steps.csv").write_text("step,epoch,loss,lr\n10,0,0.5,0.1\n²,0,0.5,0.1\n30,0,0.5,0.1\n")
    assert [row["step"] for row in read_steps(tmp_path / "steps.csv")] == ["10"]


def test_log_with_numbers_beyond_any_is_drawn_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(EPOCHS + "0,1,1e400,-inf,0.5\n")
    row = read_log(tmp_path / "metrics.csv").iloc[0]
    assert np.isnan(row["lr"]) and np.isnan(row["train/loss"]) and row["val/loss"] == 0.5


def score_config(root: str, **data: Any) -> dict[str, Any]:
    """Of a run on the small data set of `nih_folder`, or on phantoms."""
    return CONFIG | {
        "seed": 0, "batch_size": 8, "run_id": "1", "augment": {"transforms": []},
        "cache": {"size": None, "dir": None, "on_error": "fail", "processes": 1},
        "data": {
            "source": {"_target_": "cxr.data.sources.nih.read_nih", "root": root}, "root": root,
            "train_list": "train_val_list.txt", "val_list": None, "test_list": "test_list.txt", "val_share": 0.3,
            "split_seed": 0, "findings": ["Mass", "Nodule"], "exclude": [], "min_cases": 0, "on_missing": "fail",
            "workers": 0,
        } | data,
    }  # fmt: skip


@pytest.fixture
def scored(
    tmp_path: Path, checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Predictions]]:
    """Scores a run with this configuration, with what the user names, in an empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def score(config: dict[str, Any], named: dict[str, Any] = NOTHING) -> dict[str, Predictions]:
        run = Run(tmp_path / "runs" / "a")
        run.best.parent.mkdir(parents=True, exist_ok=True)
        text = OmegaConf.to_yaml(OmegaConf.create(config))
        checkpoint(config=text, cxr={"split_fingerprint": ""}).rename(run.best)  # of any split
        return FinishedRun(run, {"accelerator": "cpu", **named}).predictions(("val", "test"))[0]

    return score


def phantom(root: Path | str) -> dict[str, Any]:
    return {
        "_target_": "cxr.data.sources.phantom.read_phantom", "root": str(root), "images": 30, "size": 64, "seed": 0,
        "label_noise": 0.0,
    }  # fmt: skip


def test_scoring_draws_no_phantoms_in_the_folder_of_the_run(
    scored: Callable[..., Any], tmp_path: Path, nih_folder: Callable[..., Path]
) -> None:
    new, real = tmp_path / "new", nih_folder()
    (tmp_path / "empty").mkdir()
    for config in (
        score_config(str(new), source=phantom(new)),
        score_config(str(tmp_path / "empty"), source=phantom(tmp_path / "empty")),
        score_config(str(real), source=phantom(new)),
        score_config("data/phantom", source=phantom("data/phantom")),
        score_config("elsewhere:phantom30", source=phantom("elsewhere:phantom30")),
        score_config(str(real)) | {"cache": {"dir": "elsewhere:cache"}},
        score_config(str(real), source={"_target_": "cxr.data.sources.nih.read_nih", "root": phantom(new)}),
        score_config(str(real)) | {"augment": {"transforms": [phantom(new)]}},
        score_config(str(real)) | {"backbone": phantom(new)},
        score_config(str(real)) | {"attention": CONFIG["attention"] | {"in": phantom(new)}},
    ):
        with pytest.raises(CxrError):
            scored(config)
    assert not new.exists() and not list((tmp_path / "empty").iterdir()) and not list(Path.cwd().iterdir())


def test_scoring_without_a_cache_is_an_error_with_a_remedy_and_builds_nothing(
    scored: Callable[..., Any], tmp_path: Path, nih_folder: Callable[..., Path]
) -> None:
    root = nih_folder()
    before = tree(tmp_path / "nih")
    for cache in ({"dir": None}, {"dir": str(tmp_path / "theirs")}):
        with pytest.raises(CxrError, match=r"are not cached at 32 px .* pass data.root=DIR .* or cache.dir=DIR"):
            scored(score_config(str(root)) | {"cache": cache})
    assert tree(root) == before and not (tmp_path / "theirs").exists() and not (tmp_path / "home").exists()


def test_missing_data_of_a_run_are_one_sentence_with_what_to_pass(scored: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"data\.root=/no/where does not exist; pass data\.root=DIR"):
        scored(score_config("/no/where"))
    with pytest.raises(CxrError, match=r"data\.root of .* is elsewhere:nih, .* pass data\.root=PATH"):
        scored(score_config("elsewhere:nih"))
    with pytest.raises(CxrError, match="cannot be read with its configuration"):
        scored(CONFIG)


def test_further_test_lists_of_a_run_are_found_or_an_error(
    scored: Callable[..., Any], tmp_path: Path, nih_folder: Callable[..., Path]
) -> None:
    root = nih_folder()
    names = (root / "test_list.txt").read_text().split()
    (tmp_path / "o.txt").write_text("\n".join(names[:2]))
    config = score_config(str(root), test_lists={"other": "elsewhere:o.txt"})
    with pytest.raises(
        CxrError, match=r"data\.test_lists\.other of .* is elsewhere:o\.txt, .* pass data\.test_lists\.other="
    ):
        scored(config, {"data": {"root": str(root), "test_lists": {}}})
    where = {"root": str(root), "test_lists": {"other": str(tmp_path / "o.txt")}}
    assert len(scored(config, {"data": where})["test"]) == 6
    for wrong in (["o.txt"], "o.txt", 3, {"other": 3}, {"other": "absent.txt"}):
        with pytest.raises(CxrError):
            scored(score_config(str(root), test_lists=wrong), {"data": {"root": str(root)}})


def test_scoring_reads_what_exists_and_builds_in_the_users_folder(
    scored: Callable[..., Any], tmp_path: Path, nih_folder: Callable[..., Path]
) -> None:
    root, theirs, mine = nih_folder(), tmp_path / "theirs", tmp_path / "mine"
    config = score_config("elsewhere:nih") | {"cache": {"dir": str(theirs)}}
    first = scored(config, {"data": {"root": str(root)}, "cache": {"dir": str(mine)}})
    assert len(first["test"]) == 6 and list(mine.iterdir()) and not theirs.exists()
    (next(mine.iterdir()) / "report.csv").write_text("theirs")  # no longer what an audit would write
    before = tree(root) | tree(mine)
    again = scored(score_config(str(root)) | {"cache": {"dir": str(mine)}})  # its cache is there, and is read
    assert tree(root) | tree(mine) == before
    for split in ("val", "test"):
        np.testing.assert_array_equal(first[split].score, again[split].score)


def test_phantoms_are_drawn_in_the_users_folder(scored: Callable[..., Any], tmp_path: Path) -> None:
    found = scored(score_config("data/gone", source=phantom("data/gone")), {"data": {"root": str(tmp_path / "drawn")}})
    assert len(found["test"]) > 0 and not list(Path.cwd().iterdir())
    assert {"phantom.json", "cxr-cache"} <= {path.name for path in (tmp_path / "drawn").iterdir()}


def test_sources_and_loggers_are_built_only_where_they_are_wanted(tmp_path: Path) -> None:
    logger = {"_target_": "lightning.pytorch.loggers.csv_logs.CSVLogger", "save_dir": str(tmp_path)}
    for node in (phantom(tmp_path / "x"), logger):
        for place in (node, {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": node}):
            with pytest.raises(CxrError, match="is not allowed here"):
                build(place)
    assert not (tmp_path / "x").exists()
