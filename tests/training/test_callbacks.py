"""Which callbacks a run has: those that are chosen, a user's own, and none that would work against it."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks
import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from cxr.cli import conf_dir
from cxr.cli.compose import read_command_line
from cxr.configuration.plugins import trust, user_configuration
from cxr.configuration.schema import of_run
from cxr.configuration.targets import CALLBACKS, build
from cxr.errors import CxrError
from cxr.task.multi_label import MultiLabel
from cxr.training.callbacks.early_stopping import EarlyStopping
from cxr.training.callbacks.ema import WeightAverage
from cxr.training.trainer import build_callbacks

OURS = "cxr.training.callbacks.early_stopping.EarlyStopping"


def chosen(*words: str) -> dict[str, Any]:
    """The configuration of a command line, as the program reads it."""
    line = read_command_line("train", words, str(conf_dir()))
    content: Any = OmegaConf.to_container(line.config, resolve=True)
    return dict(content)


def built(*words: str) -> list[Callback]:
    return build_callbacks(chosen(*words), MultiLabel())


def of(**nodes: Any) -> list[Callback]:
    return build_callbacks({"callbacks": nodes}, MultiLabel())


def test_early_stopping_is_the_default_and_keeps_its_options() -> None:
    (stopping,) = built(
        "early_stopping.patience=3", "early_stopping.monitor=val/macro_auroc", "early_stopping.mode=max"
    )
    assert isinstance(stopping, EarlyStopping)
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val/macro_auroc", "max", 3)
    (stopping,) = built("early_stopping.monitor=null")
    assert isinstance(stopping, EarlyStopping)
    assert (stopping.monitor, stopping.mode) == ("val/macro_auroc", "max")  # what the task selects by


def test_several_callbacks_stand_below_their_names() -> None:
    stopping, average = built("callbacks=[early_stopping,ema]", "callbacks.ema.decay=0.9", "early_stopping.patience=4")
    assert isinstance(stopping, EarlyStopping) and stopping.patience == 4
    assert isinstance(average, WeightAverage) and average.decay == 0.9


@pytest.mark.parametrize("word", ["callbacks=[]", "~callbacks", "callbacks.early_stopping=null", "early_stopping=null"])
def test_callbacks_are_left_out(word: str) -> None:
    assert built(word) == []
    assert word == "early_stopping=null" or built(word, "experiment=paper_vgg", "data.root=DIR") == []


def test_an_experiment_sets_the_values_of_early_stopping() -> None:
    (stopping,) = built("experiment=paper_vgg", "data.root=DIR")
    assert isinstance(stopping, EarlyStopping) and (stopping.monitor, stopping.patience) == ("val/loss", 2)


@pytest.mark.parametrize("patience", ["x", 1.5, True, -1])
def test_a_patience_that_counts_no_epochs_is_refused(patience: Any) -> None:
    with pytest.raises(CxrError, match=r"early_stopping\.patience=.* must be 0 or a positive whole number"):
        of(early_stopping={"_target_": OURS, "monitor": "val/loss", "patience": patience})


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"_target_": OURS, "monitor": "val/los"}, r"early\.monitor=val/los is not logged; choose one of lr, train"),
        ({"_target_": OURS, "monitor": "val/loss", "mode": "most"}, r"configuration: `mode` can be"),
        ({"_target_": OURS, "monitr": "val/loss"}, "cannot be built from its configuration: "),
        ({"_target_": "torch.nn.Identity"}, r"callbacks\.early is not a Lightning callback"),
        ({"_target_": "cxr.loss.mae.MeanAbsoluteError"}, "is not a Lightning callback"),
        ({"_target_": OURS, "monitor": "val/loss", "_partial_": True}, "is not a Lightning callback"),
        ({"_target_": "os.system", "command": "ls"}, r"_target_=os\.system is not allowed"),
        ({"_target_": "cxr.training.keeping.RunCheckpoints"}, "is not allowed"),
        ({"_target_": "cxr.training.callbacks.ema.averaged"}, "cannot be built from its configuration|is not allowed"),
        ({"decay": 0.9}, "is not a Lightning callback; set its _target_ to one"),
        (3, "is not a Lightning callback; set its _target_ to one"),
        ("ema", "is not a Lightning callback; set its _target_ to one"),
    ],
)  # fmt: skip
def test_what_is_no_callback_is_one_sentence(node: Any, sentence: str) -> None:
    with pytest.raises(CxrError, match=sentence):
        of(early=node)


@pytest.mark.parametrize("callbacks", ["ema", ["ema"], 3])
def test_callbacks_of_a_run_without_names_are_one_sentence(callbacks: Any) -> None:
    with pytest.raises(CxrError, match=r"callbacks=.* must be a group of options"):
        of_run({"callbacks": callbacks})


def test_an_option_file_without_its_name_is_refused_with_the_missing_line() -> None:
    with pytest.raises(CxrError, match=r"must begin with the line '# @package callbacks\.NAME'"):
        of(_target_=OURS)


OF_LIGHTNING = [
    name
    for name, found in vars(lightning.pytorch.callbacks).items()
    if inspect.isclass(found) and issubclass(found, Callback)
]


@pytest.mark.parametrize("name", OF_LIGHTNING)
def test_callbacks_of_lightning_that_work_against_a_run_are_refused_by_whoever_names_them(name: str) -> None:
    target = f"lightning.pytorch.callbacks.{name}"
    options = {"monitor": "val/loss"} if name == "EarlyStopping" else {}
    if name in ("Callback", "EarlyStopping", "ModelSummary", "RichModelSummary"):
        try:
            (callback,) = of(one={"_target_": target, **options})
        except CxrError as error:  # rich is not installed
            assert name == "RichModelSummary" and "rich" in str(error)
        else:
            assert type(callback).__name__ == name
    else:
        for own in (False, True):
            with (
                user_configuration(own),
                pytest.raises(CxrError, match=f"Lightning's {name} conflicts with"),
            ):
                of(one={"_target_": target})


def test_the_list_of_lightnings_callbacks_is_that_of_this_version() -> None:
    assert {"ModelCheckpoint", "Timer", "WeightAveraging", "StochasticWeightAveraging"} <= {*OF_LIGHTNING}


def test_a_callback_has_no_place_among_other_parts() -> None:
    for target in (OURS, "lightning.pytorch.callbacks.ModelSummary"):
        with pytest.raises(CxrError, match="is not allowed here"):
            build({"_target_": target, "monitor": "val/loss"})
        with pytest.raises(CxrError, match="is not allowed here"):
            build({"_target_": OURS, "monitor": {"_target_": target}}, allow=CALLBACKS)


MINE = """
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

class Counts(Callback):
    def __init__(self, every=1):
        self.every = every

class Writes(ModelCheckpoint):
    pass

class Other:
    pass

def function():
    return Other()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package of the user's own, with an option file."""
    (tmp_path / "my_callbacks" / "conf" / "callbacks").mkdir(parents=True)
    (tmp_path / "my_callbacks" / "__init__.py").write_text(MINE)
    (tmp_path / "my_callbacks" / "conf" / "callbacks" / "counts.yaml").write_text(
        "# @package callbacks.counts\n# Counts.\n_target_: my_callbacks.Counts\nevery: 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_callbacks"
    trust([])
    sys.modules.pop("my_callbacks", None)


def test_a_custom_callback_is_built_where_the_user_names_it(mine: str) -> None:
    node = {"_target_": f"{mine}.Counts", "every": 3}
    with pytest.raises(CxrError, match=r"_target_=my_callbacks\.Counts is not allowed.*pass plugins=\[my_callbacks\]"):
        of(counts=node)
    assert mine not in sys.modules, "it was not even imported"
    with user_configuration():
        (callback,) = of(counts=node)
    assert isinstance(callback, Callback) and callback.every == 3  # type: ignore[attr-defined]
    trust([mine])  # as a run that is resumed with plugins=
    assert type(of(counts=node)[0]) is type(callback)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Writes", "Lightning's ModelCheckpoint conflicts"),
        ("Other", "is not a Lightning callback"),
        ("function", "is not a Lightning callback"),
        ("Nothing", r"my_callbacks\.Nothing does not exist"),
    ],
)
def test_what_the_user_names_must_be_a_callback(mine: str, name: str, sentence: str) -> None:
    with user_configuration(), pytest.raises(CxrError, match=sentence):
        of(one={"_target_": f"{mine}.{name}"})
    trust([mine])
    with pytest.raises(CxrError, match=sentence):
        of(one={"_target_": f"{mine}.{name}"})


def test_options_of_a_custom_callback_are_below_its_name(mine: str) -> None:
    with user_configuration():
        stopping, counts = built(f"plugins=[{mine}]", "callbacks=[early_stopping,counts]", "callbacks.counts.every=5")
    assert isinstance(stopping, EarlyStopping) and counts.every == 5  # type: ignore[attr-defined]


def test_debug_comes_after_experiment_and_values_after_both() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", ["debug=overfit", "experiment=paper_vgg", "data.root=DIR", "trainer.max_epochs=7"])
    assert config.augment.transforms == [] and config.synthetic_batch_size is None and config.image_size == 224
    assert config.early_stopping.patience is None and config.trainer.max_epochs == 7
    assert config.smoke is True and config.score_test is False
