"""Members lined up or refused: patients on two sides, splits that differ, rows and columns in any order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.ensemble.members import Members, gather
from cxr.ensemble.splits import Test, Validation
from cxr.errors import CxrError
from cxr.run.predictions import Predictions

FINDINGS = ("Mass", "Hernia")


def write(
    run: Path,
    seed: int = 0,
    val: Sequence[str] = ("p1", "p2", "p3"),
    test: Sequence[str] = ("p4", "p5"),
    findings: tuple[str, ...] = FINDINGS,
    shuffled: bool = False,
    about: dict[str, str] | None = None,
    split_options: dict[str, Any] | None = None,
) -> Path:
    """A folder of predictions, two images a patient, an image named after its patient."""
    rng = np.random.default_rng(seed)
    for split, patients in (("val", val), ("test", test)):
        image = np.array([f"{p}_{i}.png" for p in patients for i in range(2)], object)
        patient = np.array([p for p in patients for _ in range(2)], object)
        target = np.array([[name < f"{finding}q" for finding in FINDINGS] for name in image], np.float32)
        columns = [FINDINGS.index(f) if f in FINDINGS else 0 for f in findings]
        score = rng.random((len(image), len(findings))).astype(np.float32)
        rows = rng.permutation(len(image)) if shuffled else np.arange(len(image))
        table = Predictions(image[rows], patient[rows], findings, score[rows], target[rows][:, columns])
        table.write(run / "predictions" / f"{split}.parquet")
    if about:
        (run / "metrics.json").write_text(json.dumps(about))
    if split_options:
        (run / "config.yaml").write_text(json.dumps({"data": split_options}))
    return run


def gathered(*runs: Path) -> Members:
    return gather([str(run) for run in runs], "cpu")


def test_rows_and_findings_are_lined_up_by_name(tmp_path: Path) -> None:
    a = write(tmp_path / "a")
    b = write(tmp_path / "b", seed=5, findings=FINDINGS[::-1], shuffled=True)
    members = gathered(a, b)
    assert type(members.validation) is Validation and type(members.test) is Test and members.validation.members == 2
    for split in (members.validation, members.test):
        for k, finding in enumerate(FINDINGS):
            frame = pd.read_parquet(b / "predictions" / f"{split.name}.parquet").set_index("image")
            np.testing.assert_array_equal(split.scores[k][1], frame.loc[list(split.image), f"score:{finding}"])


def test_validation_patients_of_one_in_the_test_split_of_another_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a")
    b = write(tmp_path / "b", val=("p4", "p6"), test=("p1", "p3"))
    with pytest.raises(CxrError) as refused:
        gathered(a, b)
    message = str(refused.value)
    assert f"{b} has 2 validation patients of {a} in test, such as p1, p3" in message
    with pytest.raises(CxrError, match=r"a has 1 validation patient of .*c in test, such as p4"):
        gathered(a, write(tmp_path / "c", val=("p1", "p4"), test=("p5", "p9")))


def test_a_third_member_is_compared_too(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", val=("p4",), test=("p9",))]
    with pytest.raises(CxrError, match=r"a has 1 validation patient of .*c in test, such as p4"):
        gathered(*runs)


def test_patients_on_both_sides_of_every_members_split_are_counted_not_refused(tmp_path: Path) -> None:
    runs = [write(tmp_path / name, val=("p1", "p2"), test=("p3", "p4")) for name in "ab"]
    assert gathered(*runs).patients_in_both == ()
    for run in runs:
        path = run / "predictions" / "test.parquet"
        frame = pd.read_parquet(path).assign(patient=["p1", "p1", "p4", "p4"])
        frame.to_parquet(path)
    assert gathered(*runs).patients_in_both == ("p1",)


def test_other_patients_for_the_same_images_are_refused(tmp_path: Path) -> None:
    runs = [write(tmp_path / name) for name in "ab"]
    path = runs[1] / "predictions" / "val.parquet"
    pd.read_parquet(path).assign(patient="p1").to_parquet(path)
    with pytest.raises(CxrError, match="the patients of their val images differ"):
        gathered(*runs)


@pytest.mark.parametrize("name", ["split_fingerprint", "labels_sha256"])
def test_every_pair_of_known_splits_is_compared_though_the_first_is_unknown(tmp_path: Path, name: str) -> None:
    runs = [
        write(tmp_path / "a"),
        write(tmp_path / "b", about={name: "1" * 64}),
        write(tmp_path / "c", about={name: "2" * 64}),
    ]
    with pytest.raises(CxrError, match=rf"b and .*c cannot be one ensemble: their {name} differ"):
        gathered(*runs)
    assert len(gathered(*runs[:2]).origins) == 2


DRAWN = {"train_list": "t.txt", "val_list": None, "test_list": "e.txt", "val_share": 0.1, "split_seed": 0}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"split_seed": 1}, "data.split_seed is 0 in one and 1 in the other"),
        ({"val_share": 0.2}, "data.val_share is 0.1 in one and 0.2 in the other"),
        ({"train_list": "u.txt"}, "data.train_list is t.txt in one and u.txt in the other"),
        ({"val_list": "v.txt"}, "data.val_list is None in one and v.txt in the other"),
    ],
)
def test_configurations_that_split_differently_are_refused_where_no_fingerprint_is_left(
    tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    a = write(tmp_path / "a", split_options=DRAWN)
    b = write(tmp_path / "b", split_options={**DRAWN, **other})
    with pytest.raises(CxrError) as refused:
        gathered(a, b)
    assert message in str(refused.value)


def test_the_seed_of_a_draw_that_did_not_happen_does_not_matter(tmp_path: Path) -> None:
    listed = {**DRAWN, "val_list": "v.txt"}
    a = write(tmp_path / "a", split_options=listed)
    b = write(tmp_path / "b", split_options={**listed, "split_seed": 7})
    assert len(gathered(a, b).origins) == 2


def test_where_both_fingerprints_are_known_they_decide(tmp_path: Path) -> None:
    about = {"split_fingerprint": "1" * 64}
    a = write(tmp_path / "a", about=about, split_options=DRAWN)
    b = write(tmp_path / "b", about=about, split_options={**DRAWN, "train_list": "copy/t.txt"})
    origins = gathered(a, b).origins
    assert [origin.training_patients for origin in origins] == ["unknown", "unknown"]  # there is no checkpoint
