"""Mistakes in the arguments of all programs: one sentence each, with the closest name, before anything starts."""

import inspect
import subprocess
import sys

import pytest
from lightning.pytorch import Trainer

from cxr.cli import conf_dir, mistakes
from cxr.cli.compose import read_command_line
from cxr.errors import CxrError


def said(program: str, *words: str) -> str:
    """The sentence of the refusal."""
    with pytest.raises(CxrError) as caught:
        read_command_line(program, words, str(conf_dir()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


NEEDED = {
    "train": (),
    "ensemble": ("runs=a",),
    "cache": (),
    "inspect": (),
    "evaluate": ("run=a",),
    "compare": ("runs=a",),
}


@pytest.mark.parametrize("program", NEEDED)
def test_an_unknown_key_is_refused_by_every_program(program: str) -> None:
    assert "there is no option nosuch.thing" in said(program, *NEEDED[program], "+nosuch.thing=1")


@pytest.mark.parametrize(
    ("words", "closest"),
    [
        ("+traner.fast_dev_run=true", "did you mean +trainer.fast_dev_run=true?"),
        ("+trainer.fast_dev_rn=2", "did you mean +trainer.fast_dev_run=2?"),
        ("trainer.fast_dev_run=true", "did you mean +trainer.fast_dev_run=true?"),
        ("fast_dev_run=true", "did you mean +trainer.fast_dev_run=true?"),
        ("+optimiser.lr=3", "did you mean optimizer.lr=3?"),
        ("++early_stopping={patiense: 3}", "did you mean early_stopping.patience?"),
        ("+early_stopping.patiense=3", "did you mean early_stopping.patience=3?"),
        ("epochs=1", "did you mean trainer.max_epochs=1?"),
        ("+workers=0", "did you mean data.workers=0?"),
        ("+backbon=vgg19", "did you mean backbone=vgg19?"),
        ("+traner.x=1", "did you mean trainer?"),
        ("callbacks=erly_stopping", "did you mean early_stopping? choose one of early_stopping, ema"),
        ("callbacks.ema.decay=0.9", "without that callback; write callbacks=[early_stopping,ema]"),
        ("+callbacks.swa.epochs=3", "options of a callback are below its name: early_stopping, ema"),
        ("callbacks.early_stopping.patience=1", "are early_stopping.*: write early_stopping.patience="),
        ("+callbacks.early_stopping.min_delta=1", "are early_stopping.*: write early_stopping.min_delta="),
        ("+callbacks.ema.epochs=1", "there is no option callbacks.ema.epochs without that callback"),
        ("logger.wandb.offline=true", "without that logger; add logger=wandb"),
        ("logger.offline=true", "write logger.wandb.offline=, with logger=wandb"),
        ("debug=fats", "did you mean fast? choose one of fast, overfit, profile"),
        ("debug=null", "debug cannot be null; choose one of fast"),
        ("debg=fast", "did you mean debug=fast?"),
        ("+backbone@second=vgg19", "there is no option second."),
        ("+trainer.callbacks=[]", "trainer.callbacks is set by the run itself"),
        ("+seed=3", "write seed=VALUE without +"),
        ("+experiment=demo", "write experiment=OPTION without +"),
        ("+hydra.nosuch=1", "there is no option hydra.nosuch"),
        ("~optimizer", "optimizer cannot be null; choose one of adam"),
        ("~seed", "seed is required; remove ~seed"),
        ("logger=null", "logger cannot be null; choose one of csv"),
        ("callbacks=[ema,ema]", "callbacks=[ema,ema] names an option twice; name each once"),
    ],
)
def test_an_unknown_key_is_answered_with_the_closest_valid_one(words: str, closest: str) -> None:
    assert closest in said("train", words)


def test_early_stopping_has_no_options_where_it_is_not_chosen() -> None:
    closest = "there is no option early_stopping.patience without that callback; "
    assert f"{closest}add callbacks=early_stopping" in said("train", "callbacks=[]", "early_stopping.patience=3")
    assert f"{closest}write callbacks=[ema,early_stopping]" in said(
        "train", "callbacks=ema", "early_stopping.patience=3"
    )


@pytest.mark.parametrize("words", [["loss=bce,mae", "+traner.x=1"], ["+traner.x=1,2"]])
def test_a_sweep_is_checked_like_a_run(words: list[str]) -> None:
    assert "there is no option traner.x" in said("train", "-m", *words)


@pytest.mark.parametrize("program", ["train", "ensemble", "cache", "evaluate"])
@pytest.mark.parametrize(
    "words",
    [
        ["data.test_lists.other=o.txt", "data.test_lists.ward-2=w.txt"], ["+data.test_lists.other=o.txt"],
        ["data.test_lists={other: o.txt}"], ["++data.test_lists.other=p.txt", "data.test_lists.other=o.txt"],
    ],
)  # fmt: skip
def test_further_test_splits_may_have_any_name(program: str, words: list[str]) -> None:
    line = read_command_line(program, [*NEEDED[program], *words], str(conf_dir()))
    assert line.config is not None and line.config.data.test_lists.other == "o.txt"


@pytest.mark.parametrize("word", ["data.test_listss.a=b", "data.test_lists.a.b=c", "data.test_list.a=b"])
def test_a_key_similar_to_a_further_test_split_is_refused(word: str) -> None:
    assert "there is no option data.test_list" in said("train", word)


def test_a_long_value_is_not_repeated() -> None:
    assert "x" * 20 not in said("train", f"epochs={'x' * 20}")


@pytest.mark.parametrize(
    "words",
    [
        ["+trainer.fast_dev_run=true"], ["+trainer.benchmark=true"], ["+optimizer.betas=[0.9,0.99]"],
        ["++optimizer.lr=1"], ["optimizer=sgd", "+optimizer.nesterov=true"], ["~optimizer.weight_decay"],
        ["~callbacks"], ["callbacks=[]"], ["callbacks=[early_stopping,ema]", "early_stopping.patience=3"], ["~debug"],
        ["+callbacks.swa._target_=mine.Swa", "+callbacks.swa.epochs=3"], ["early_stopping=null"],
        ["+hydra.job.env_set.X=1"], ["-m", "loss=bce,mae", "+trainer.benchmark=true"], ["--cfg", "job"],
        ["backbone=vgg19", "--cfg", "job", "seed=1"], ["--help"], ["seed=1", "-m"],
    ],
)  # fmt: skip
def test_valid_additions_and_flags_are_accepted(words: list[str]) -> None:
    read_command_line("train", words, str(conf_dir()))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--help", "backbone"], "backbone takes one of its options: "),
        (["--help", "seed"], "seed lacks its value; write seed=VALUE"),
        (["--epochs", "3"], "--epochs is not a flag; options are written key=value; did you mean trainer.max_epochs=3"),
        (["--image-size=64"], "--image-size is not a flag; write image_size=64"),
        (["--config-name", "foo"], "--config-name is not supported"),
        (["--config-dir", "/nowhere"], "--config-dir=/nowhere is not a folder"),
        (["data.root", "=", "/foo"], "spaces around = are not allowed; write data.root=/foo"),
        (["seed=1", "data.root", "=/foo"], "write data.root=/foo"),
        (["data.root=", "/foo"], "write data.root=/foo"),
        (["data.root = /foo"], "write data.root=/foo"),
        (["-m", "--cfg", "job"], "-m and --cfg exclude each other"),
        (["loss=bce,mae", "--cfg", "job"], "names several values; pass one"),
        (["--cfg", "foo"], "invalid choice: 'foo'"),
        (["--cfg", "job", "--package", "nosuch"], "--package nosuch: the configuration has no such part"),
        (["--cfg", "job", "+traner.x=1"], "there is no option traner.x"),
        (["--help", "backbone=nosuch"], "backbone=nosuch is not an option; choose one of "),
        (["help=foo"], "help=foo is unknown; write --help, or help=all for every option"),
        (["-m", "help=all"], "-m and --help exclude each other"),
        (["help=all", "backbone=nosuch"], "backbone=nosuch is not an option; choose one of "),
        (["--info", "job"], "invalid choice: 'job'"),
        (["seed=range(1,3"], "seed=range(1,3 cannot be parsed"),
        (
            ["data.findings=[Mass]", "data.test_lists=[o.txt]"],
            "data.test_lists is not a list; write data.test_lists.NAME=",
        ),
    ],
)
def test_an_invalid_override_gives_one_sentence(words: list[str], sentence: str) -> None:
    assert sentence in said("train", *words)


def test_groups_of_another_program_are_unknown() -> None:
    assert "there is no option backbone; options are runs, split" in said("compare", "runs=a", "backbone=vgg19")
    assert "+trainer" not in said("compare", "runs=a", "fast_dev_run=true")


def test_known_trainer_arguments_are_those_of_lightning() -> None:
    shown = {"accelerator", "devices", "strategy", "precision", "max_epochs", "gradient_clip_val", "deterministic",
             "limit_train_batches", "log_every_n_steps"}  # fmt: skip
    named = [*mistakes.ADDABLE, *mistakes.SET_BY_RUNS, *mistakes.WITHOUT_VALIDATION]
    assert sorted([*named, *shown]) == sorted(set(inspect.signature(Trainer.__init__).parameters) - {"self"})


def test_mistakes_are_answered_without_pytorch() -> None:
    check = (
        "import sys\nfrom cxr.cli import conf_dir\nfrom cxr.cli.compose import read_command_line\n"
        "try: read_command_line('train', ['+traner.fast_dev_run=true'], str(conf_dir()))\n"
        "except Exception as error: print(type(error).__name__, sorted({'torch', 'lightning'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "CxrError []"
