"""Rows of a comparison are called by what differs between configurations."""

from pathlib import Path

from omegaconf import OmegaConf

from cxr.evaluation.rows import configuration, row_names
from cxr.run.directory import Run


def made(path: Path, seed: int = 0, **keys: object) -> Run:
    """A run with a configuration of these keys, `a__b` for `a.b`."""
    config = OmegaConf.create({"seed": seed, "name": path.name})
    for key, value in keys.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "best.ckpt").touch()
    (path / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return Run(path)


def option(attention: str, **keys: object) -> dict[str, object]:
    return {"choices__attention": attention, "attention__kind": attention.upper(), **keys}


def test_groups_replace_the_keys_that_they_set(tmp_path: Path) -> None:
    rows = [[made(tmp_path / f"{a}-seed-{s}", s, **option(a)) for s in (0, 1)] for a in ("location", "none")]
    assert len({configuration(run) for run in rows[0]}) == 1 and configuration(rows[0][0]) != configuration(rows[1][0])
    assert row_names(rows) == ["attention=location (2 seeds)", "attention=none (2 seeds)"]


def test_keys_that_no_group_determines_are_listed_once(tmp_path: Path) -> None:
    given = [("location", 0.1), ("location", 0.2), ("none", 0.1)]
    rows = [
        [made(tmp_path / f"{k}{s}", s, **option(a, optimizer__lr=lr, scheduler__of__lr=lr)) for s in (0, 1)]
        for k, (a, lr) in enumerate(given)
    ]
    assert row_names(rows) == [f"attention={a} optimizer.lr={lr} (2 seeds)" for a, lr in given]


def test_an_experiment_replaces_all_keys_that_it_sets(tmp_path: Path) -> None:
    rows = [
        [made(tmp_path / f"{a}{s}", s, **option(a, choices__experiment=f"paper_{a}", image_size=size)) for s in (0, 1)]
        for a, size in (("vgg", 224), ("resnet", 256))
    ]
    assert row_names(rows) == ["experiment=paper_vgg (2 seeds)", "experiment=paper_resnet (2 seeds)"]


def test_runs_initialized_from_seeds_of_one_configuration_are_seeds_too(tmp_path: Path) -> None:
    first = {a: [made(tmp_path / f"{a}{s}", s, **option(a)) for s in (0, 1)] for a in ("location", "none")}
    second = {
        a: [made(tmp_path / f"{a}-again{s}", s, **option("csra"), init=str(run.path)) for s, run in enumerate(runs)]
        for a, runs in first.items()
    }
    assert configuration(second["location"][0]) == configuration(second["location"][1])
    assert configuration(second["location"][0]) != configuration(second["none"][0])


def test_single_runs_are_named_after_their_folders_and_names_are_unique(tmp_path: Path) -> None:
    one, two = made(tmp_path / "a" / "net", **option("location")), made(tmp_path / "b" / "net", **option("none"))
    assert row_names([[one], [Run(tmp_path / "other")]]) == ["net", "other"]
    assert row_names([[one], [two]]) == [f"net, {one.path}", f"net, {two.path}"]
    again = made(tmp_path / "a" / "net-1", 1, **option("location"))
    assert row_names([[one, again], [two]]) == ["attention=location (2 seeds)", "attention=none"]


def test_seeds_next_to_a_folder_without_configuration_have_their_common_name(tmp_path: Path) -> None:
    seeds = [made(tmp_path / f"net-seed-{s}", s) for s in (0, 1)]
    assert row_names([seeds, [Run(tmp_path / "other")]]) == ["net (2 seeds)", "other"]


def test_a_run_of_an_earlier_version_is_a_seed_of_the_equivalent_configuration(tmp_path: Path) -> None:
    task = {"task___target_": "cxr.task.multi_label.MultiLabel", "choices__task": "multi_label"}
    chosen = {"data__single_finding": False, "crop": False, "sampler___target_": "cxr.data.sampling.Shuffled"}
    now = made(tmp_path / "b", 1, **option("none", data__min_cases=0, **chosen, **task))
    task |= {"task___target_": "cxr.task.single_label.SingleLabel", "choices__task": "single_label"}
    other = [made(tmp_path / f"c{seed}", seed, **option("none", data__min_cases=0, **task)) for seed in (0, 1)]
    earlier = made(tmp_path / "a", 0, **option("none", data__min_cases=0))
    assert configuration(earlier) == configuration(now) != configuration(other[0])
    assert row_names([[earlier, now], other]) == ["task=multi_label (2 seeds)", "task=single_label (2 seeds)"]


def test_score_test_is_not_part_of_a_configuration(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / f"{k}", k, **keys) for k, keys in enumerate(({"score_test": False}, {"score_test": True}, {}))
    ]
    assert len({configuration(run) for run in runs}) == 1 and row_names([runs]) == [f"{tmp_path.name} (3 seeds)"]
