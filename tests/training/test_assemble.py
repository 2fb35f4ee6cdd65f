"""What `assemble` reads and builds, how often and in which order, and what it refuses before a run appears."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.training.assemble import Parts, assemble
from cxr.training.devices import Devices
from cxr.training.prepare import prepare, read_prepared
from cxr.training.resumption import Restored
from cxr.training.run import train
from tests.training.conftest import Configure, Trained

CPU = Devices("cpu", 1, "32-true")
TABLE = "Data_Entry_2017.csv"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of initial weights, of which one is known."""
    state = timm.create_model("test_resnet", in_chans=1, num_classes=0).state_dict()
    state["bn1.weight"] = torch.full_like(state["bn1.weight"], 0.125)
    torch.save(state, tmp_path / "first.pth")
    return tmp_path / "first.pth"


def first_norm(parts: Parts) -> float:
    return float(parts.task.network.state_dict()["backbone.net.bn1.weight"][0])


def test_a_new_run_reads_its_table_and_weights_and_builds_its_network_once(
    configure: Configure, tmp_path: Path, weights: Path, networks: list[str], listening: Callable[[], Any]
) -> None:
    config = configure(f"backbone.weights={weights}")
    prepare(config)  # images are decoded once, and then read from the cache
    with listening() as opened:
        parts = assemble(config, Run(tmp_path / "runs" / "a"), CPU)
    assert [opened.times(name) for name in (TABLE, "first.pth", "train_val_list.txt", "test_list.txt")] == [1, 1, 1, 1]
    assert opened.times(".png") == 0 and networks == ["test_resnet"]
    assert first_norm(parts) == 0.125 and not (tmp_path / "runs").exists()


def restored(trained: Trained) -> Restored:
    content = torch.load(trained.run.last, weights_only=True)
    return Restored(trained.run.last, content, (1, 0))


def test_a_resumed_run_reads_no_initial_weights_and_has_its_checkpoints_preprocessing(
    trained: Trained, weights: Path, networks: list[str], listening: Callable[[], Any]
) -> None:
    given = restored(trained)
    given.content["cxr"]["preprocessing"] |= {"mean": 0.25}
    changed = {"backbone": trained.config["backbone"] | {"weights": str(weights)}, "init": "runs/nobody"}
    with listening() as opened:
        parts = assemble(trained.config | changed, trained.run, CPU, given)
    assert [opened.times(name) for name in (TABLE, "first.pth", ".ckpt")] == [1, 0, 0] and networks == ["test_resnet"]
    assert first_norm(parts) != 0.125 and parts.task.network.preprocessing.mean == 0.25
    kept = parts.task.provenance["ancestry"]
    assert torch.equal(kept["trained"], given.content["cxr"]["ancestry"]["trained"])


def test_a_rank_reads_the_checked_table_of_rank_0(
    configure: Configure, tmp_path: Path, networks: list[str], listening: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    config = configure("batch_size=4", "synthetic_batch_size=16")
    (tmp_path / "given").mkdir()
    prepare(config).write(tmp_path / "given")
    with listening() as opened:
        parts = assemble(
            config,
            Run(tmp_path / "a"),
            Devices("cpu", 2, "32-true"),
            None,
            read_prepared(tmp_path / "given"),
        )
    assert opened.times(TABLE) == 0 and networks == ["test_resnet"]
    assert parts.trainer.world_size == 2 and parts.trainer.global_rank == 1
    data = parts.loaders((0, 0))
    assert (data.settings.rank, data.settings.ranks, data.settings.batch_size) == (1, 2, 4)


def test_one_seed_gives_one_network_and_another_another(configure: Configure, tmp_path: Path) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.rand(7)
        parts = assemble(configure(f"seed={seed}"), Run(tmp_path / "a"), CPU)
        states.append(parts.task.network.state_dict()["backbone.net.conv1.0.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_the_checkpoint_receives_what_it_needs(configure: Configure, tmp_path: Path) -> None:
    config = configure("data.findings=[Mass,Effusion]", f"cache.dir={tmp_path / 'cache'}", "backbone.mean=0.25")
    about = assemble(config, Run(tmp_path / "a"), CPU).task.provenance
    assert about["findings"] == ["Mass", "Effusion"] and str(tmp_path) not in json.dumps(about["config"])
    assert about["preprocessing"] == {"size": 32, "cached": 32, "crop": False, "mean": 0.25, "std": 0.226}
    prepared = prepare(config)
    assert (about["split_fingerprint"], about["labels_sha256"]) == (prepared.split_fingerprint, prepared.labels_sha256)
    trained, selected = (len(np.unique(about["ancestry"][name].numpy())) for name in ("trained", "selected"))
    for split, count in (("train", trained), ("val", selected)):  # a hash each image, and each patient
        rows = prepared.catalog.rows(split)
        assert count == len(rows) + rows["patient"].nunique()


NO_DATA = [
    (["image_size=7"], "image_size=7 does not fit test_resnet"),
    (["backbone.name=resnet5"], "resnet5 is not a model of timm"),
    (["batch_size=1"], "batch_size=1 gives batch norm one value per channel"),
    (["synthetic_batch_size=12"], "synthetic_batch_size=12 is not a multiple"),
    (["task=single_label"], "BinaryCrossEntropy trains for sigmoid, but SingleLabel scores with softmax"),
    (["loss=cross_entropy"], "CrossEntropy trains for softmax, but MultiLabel scores with sigmoid"),
    (["+loss.nosuch=1"], "nosuch"),
    (["optimizer.lr=-1"], "the optimizer or its scheduler rejects its arguments: Invalid learning rate: -1"),
    (["+optimizer.nosuch=1"], "nosuch"),
    (["+scheduler.nosuch=1"], "nosuch"),
    (["+trainer.nosuch=1"], "trainer: .*nosuch"),
    (["+attention.nosuch=1"], "nosuch"),
    (["head.dropout=2"], "dropout"),
    (["+sampler.nosuch=1"], "Shuffled"),
    (["augment.transforms=[{_target_:os.system}]"], r"_target_=os\.system is not allowed"),
    (["+logger.x._target_=os.system"], r"_target_=os\.system is not allowed"),
    (
        ["+logger.x._target_=lightning.pytorch.loggers.Nosuch"],
        r"_target_=lightning\.pytorch\.loggers\.Nosuch does not exist",
    ),
    (["trainer=gpu"], "this machine has no CUDA GPU"),
]


@pytest.mark.parametrize(
    ("options", "said"), NO_DATA, ids=lambda value: "-".join(value) if isinstance(value, list) else ""
)
def test_what_needs_no_data_is_refused_before_data_are_looked_for(
    configure: Configure, tmp_path: Path, options: list[str], said: str, listening: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config = configure(*options)
    config["data"] = config["data"] | {"root": "/nowhere", "source": config["data"]["source"] | {"root": "/nowhere"}}
    with listening() as opened, pytest.raises(CxrError, match=said):
        train(config, Run(tmp_path / "runs" / "a"))
    assert opened.times(TABLE) == 0 and not (tmp_path / "runs").exists()


def nowhere(config: dict[str, Any]) -> None:
    config["data"]["root"] = config["data"]["source"]["root"] = "/nowhere"


def no_picture(config: dict[str, Any]) -> None:
    next(Path(config["data"]["root"], "images").iterdir()).write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("options", "spoil", "said"),
    [
        (["backbone.weights=nosuch.pth"], nowhere, "data.root=/nowhere is not a folder"),
        (["init=runs/nobody"], nowhere, "data.root=/nowhere is not a folder"),
        (["data.findings=[Nodul]", "backbone.weights=nosuch.pth"], None, "did you mean Nodule"),
        (["backbone.weights=nosuch.pth"], no_picture, r"backbone\.weights=nosuch\.pth is not a file"),
        (["init=runs/nobody"], no_picture, "init=runs/nobody is not a finished run"),
        (["task=single_label", "loss=cross_entropy", "backbone.weights=nosuch.pth"], no_picture, "of 24 images"),
        ([], no_picture, "1 of 24 images cannot be used"),
    ],
)
def test_the_table_comes_before_weights_and_weights_before_images(
    configure: Configure, tmp_path: Path, options: list[str], spoil: Callable[[dict[str, Any]], None] | None, said: str
) -> None:
    config = configure(*options)
    if spoil:
        spoil(config)
    with pytest.raises(CxrError, match=said):
        train(config, Run(tmp_path / "runs" / "a"))
    assert not (tmp_path / "runs").exists()
    if spoil is not no_picture or options:
        assert not list(tmp_path.rglob("images.npy")), "no image was cached"


def test_weights_trained_on_the_test_images_are_refused(trained: Trained, tmp_path: Path) -> None:
    """What was trained on is tested, and what was tested is trained on."""
    root = Path(trained.config["data"]["root"])
    swapped = {"train_list": str(root / "test_list.txt"), "test_list": str(root / "train_val_list.txt")}
    config = trained.config | {"data": trained.config["data"] | swapped, "init": str(trained.run.path)}
    with pytest.raises(CxrError, match=r"the weights of init=.* trained or selected with \d+ patients of the test"):
        train(config, Run(tmp_path / "runs" / "a"))
    assert not (tmp_path / "runs").exists()
