"""Initial weights from another run: which are loaded, which networks they do not fit, and their ancestry."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.errors import CxrError
from cxr.model.network import Network
from cxr.training.build import build_network
from cxr.training.initial import ancestry_of_options, check_frozen, freeze, start_from
from tests.training.conftest import NETWORK, Trained, composed

OURS = "cxr.model.backbone.Backbone"


def network(*options: str, findings: int = 14, seed: int = 3) -> Network:
    torch.manual_seed(seed)
    base = () if any(word.startswith("backbone=") for word in options) else (NETWORK,)
    return build_network(composed("image_size=32", *base, *options), findings)


def names(trained: Trained) -> list[str]:
    columns = pd.read_parquet(trained.run.predictions("val")).columns
    return [name.removeprefix("score:") for name in columns if name.startswith("score:")]


def stored(trained: Trained) -> dict[str, Any]:
    state = torch.load(trained.run.best, weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items()}


@pytest.mark.parametrize("place", ["path", "best"])
def test_weights_of_a_run_or_its_checkpoint_are_taken_over(
    trained: Trained, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made, first = network(), stored(trained)
    ancestry = start_from(made, str(getattr(trained.run, place)), names(trained))
    assert capsys.readouterr().out == f"initial weights: {trained.run.best}\n"
    state = made.state_dict()
    assert state.keys() == first.keys() and all(torch.equal(state[name], first[name]) for name in first)
    hashes = torch.load(trained.run.best, weights_only=True)["cxr"]["ancestry"]
    assert np.array_equal(ancestry.trained, hashes["trained"].numpy()) and len(ancestry.trained) > 0
    assert np.array_equal(ancestry.selected, hashes["selected"].numpy()) and ancestry.unknown == ()


@pytest.mark.parametrize(
    ("options", "chosen"), [([], slice(0, 3)), ([], slice(None, None, -1)), (["head=mlp"], slice(None))]
)
def test_a_head_of_other_findings_or_another_kind_starts_anew(
    trained: Trained, options: list[str], chosen: slice, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = names(trained)[chosen]
    made, untouched = network(*options, findings=len(findings)), network(*options, findings=len(findings))
    start_from(made, str(trained.run.path), findings)
    assert capsys.readouterr().out.endswith("best.ckpt; the head is initialized randomly\n")
    state, first, fresh = made.state_dict(), stored(trained), untouched.state_dict()
    for name in state:
        expected = fresh[name] if name.startswith("head.") else first[name]
        assert torch.equal(state[name], expected), name


@pytest.mark.parametrize(
    ("options", "part", "said"),
    [
        (["attention=none"], "attention", "; the attention of that run is not used\n"),
        (
            ["attention=gap_mask"],
            "attention",
            "; the attention is initialized randomly; the head is initialized randomly\n",
        ),
        (["fusion=join"], "fusion", "; the fusion is initialized randomly; the head is initialized randomly\n"),
    ],
)
def test_parts_that_fit_are_taken_over_and_the_others_named(
    trained: Trained, options: list[str], part: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = names(trained)
    made, untouched = (network(*options, findings=len(findings)) for _ in range(2))
    start_from(made, str(trained.run.path), findings)
    assert capsys.readouterr().out.endswith(f"best.ckpt{said}")
    state, first, fresh = made.state_dict(), stored(trained), untouched.state_dict()
    new = {name for name in state if f"the {name.partition('.')[0]} is initialized" in said}
    assert all(torch.equal(state[name], (fresh if name in new else first)[name]) for name in state)
    with pytest.raises(CxrError, match=f"keeps the {part} of init"):
        start_from(made, str(trained.run.path), findings, kept_parts=["backbone", part])


@pytest.mark.parametrize(
    ("init", "options", "said"),
    [
        ("runs/nobody", [], "init=runs/nobody is not a finished run: runs/nobody is missing"),
        (
            "empty",
            [],
            r"init=.*empty is not a finished run: .*best\.ckpt is missing; pass runs/<name> or a checkpoint file",
        ),
        ("run", ["backbone=resnet18"], "has the weights of another network: backbone.* and .* more do not fit"),
        ("run", ["backbone.mean=0.1"], r"trained with backbone\.mean=0\.449.* has 0\.1; pass backbone\.mean=0\.449"),
        ("run", ["backbone.std=0.1"], r"trained with backbone\.std=0\.226.* has 0\.1; pass backbone\.std=0\.226"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_network_keeps_its_own(
    trained: Trained, tmp_path: Path, init: str, options: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    place = {"run": str(trained.run.path), "empty": str(tmp_path / "empty")}.get(init, init)
    made = network(*options)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(CxrError, match=said):
        start_from(made, place, names(trained))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_a_checkpoint_of_an_earlier_version_has_an_unknown_ancestry(trained: Trained, tmp_path: Path) -> None:
    checkpoint = torch.load(shutil.copy(trained.run.best, tmp_path / "old.ckpt"), weights_only=True)
    del checkpoint["cxr"]["ancestry"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    ancestry = start_from(network(), str(tmp_path / "old.ckpt"), names(trained))
    assert ancestry.unknown == ("a checkpoint of an earlier version",) and len(ancestry.trained) == 0


@pytest.mark.parametrize(
    ("backbone", "unknown"),
    [
        ({"_target_": OURS, "name": "resnet10t", "pretrained": False, "weights": None}, ()),
        ({"_target_": OURS, "name": "resnet10t", "pretrained": True, "weights": None}, ()),  # of photographs
        ({"_target_": OURS, "name": "resnet10t", "weights": "/home/me/w.pth"}, ("backbone.weights=w.pth",)),
        ({"_target_": OURS, "name": "hf-hub:x/y", "pretrained": True}, ("the pretrained weights of hf-hub:x/y",)),
        ({"_target_": OURS, "name": "hf-hub:x/y", "pretrained": False}, ()),
        ({"_target_": "my.Net", "pretrained": True}, ("the pretrained weights of my.Net",)),
        ({"_target_": "my.Net"}, ()),
    ],
)
def test_weights_of_a_file_or_of_another_hub_have_an_unknown_ancestry(
    backbone: dict[str, Any], unknown: tuple[str, ...]
) -> None:
    found = ancestry_of_options({"backbone": backbone})
    assert found.unknown == unknown and len(found.trained) == len(found.selected) == 0


def test_a_head_that_fits_is_initialized_again_with_init_head_false(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    made, untouched = network(), network()
    start_from(made, str(trained.run.path), names(trained), with_head=False)
    with pytest.raises(CxrError, match=r"keeps the head of init=.*, which does not fit"):
        start_from(made, str(trained.run.path), names(trained), with_head=False, kept_parts=["head"])
    assert capsys.readouterr().out.endswith("best.ckpt; the head is initialized randomly\n")
    first, own, before = stored(trained), made.state_dict(), untouched.state_dict()
    assert all(torch.equal(own[name], (before if name.startswith("head.") else first)[name]) for name in own)


def test_frozen_parts_keep_weights_and_buffers_and_the_others_learn() -> None:
    made = network(findings=3).train()
    freeze(made, ["backbone"])
    before = {name: value.clone() for name, value in made.state_dict().items()}
    image = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made({"image": image}).logits.sum().backward()
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    optimizer.step()
    changed = {name.split(".")[0] for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"attention", "head"} or changed == {"head"}  # the attention's gradient may be exactly zero
    assert any("running_mean" in name for name in before)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["freeze=[bakbone]"], r"freeze=\[bakbone\] names bakbone; .* are backbone, attention, fusion, head"),
     (["freeze=[backbone,head]"], r"backbone, which are random; pass init=runs/<name>"),
     (["experiment=holste_crt"], r"backbone, which are random; pass init=runs/<name>"),
     (["experiment=holste_tau_norm"], r"backbone, which are random; pass init=runs/<name>"),
     (["experiment=holste_tau_norm", "backbone.pretrained=true"], r"tau_norm keeps .* of the head, which are random"),
     (["freeze=[head]"], r"freeze=\[head\] .* the head, which are random; pass init=runs/<name>")],
)  # fmt: skip
def test_parts_that_do_not_exist_or_are_random_are_not_frozen(options: list[str], said: str) -> None:
    with pytest.raises(CxrError, match=said):
        check_frozen(composed(*options))
    for rest in ("init=runs/a", "backbone.pretrained=true"):
        check_frozen(composed("freeze=[backbone]", rest))


def test_a_network_without_a_rest_to_train_is_refused() -> None:
    with pytest.raises(CxrError, match=r"freeze=\[head, backbone\] leaves nothing to train"):
        freeze(network("attention=none"), ["head", "backbone"])
