"""Groups against metrics of the images picked by hand, and the names of groups at their edges."""

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.bootstrap import bootstrap_auroc
from cxr.metrics.interval import Resampling
from cxr.metrics.plain import interval_of, value_of
from cxr.metrics.subgroups import age_bands, divide, finding_counts, frequency_groups, visits
from tests.metrics.random_findings import NAN, findings

PLAN = Resampling(resamples=50)
NAMES = ("A", "B")


def values(plain: dict[str, object]) -> list[float]:
    """Of A and B; NaN for null."""
    return [value_of(plain[name]) for name in NAMES]


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    target, score, patient = findings(0, images=400, prevalence=(0.5, 0.2))
    sex = np.random.default_rng(1).choice(["F", "M", ""], 400, p=[0.5, 0.4, 0.1])
    return target, score, patient, sex


def test_each_group_is_evaluated_on_its_own_images() -> None:
    target, score, patient, sex = case()
    division = divide(target, score, 0.4, patient, {"sex": sex}, NAMES, PLAN)["sex"]
    assert list(division["groups"]) == ["F", "M"] and division["unknown"] == (sex == "").sum()
    for name, group in division["groups"].items():
        mine = sex == name
        assert (group["n"], group["patients"]) == (mine.sum(), len(set(patient[mine])))
        for k, finding in enumerate(NAMES):
            some = mine & ~np.isnan(target[:, k])
            t, s = target[some, k], score[some, k].astype(float)
            assert group["positives"][finding] == t.sum()
            assert value_of(group["auroc"][finding]) == pytest.approx(roc_auc_score(t, s), abs=1e-12)
            assert group["sensitivity"][finding] == pytest.approx(recall_score(t, s >= 0.4))
            assert group["specificity"][finding] == pytest.approx(recall_score(t, s >= 0.4, pos_label=0))
        alone = bootstrap_auroc(target[mine], score[mine], patient[mine], PLAN)
        assert [interval_of(group["auroc"][finding])[1] for finding in NAMES] == alone.findings.low.tolist()


def test_gaps_are_largest_minus_smallest() -> None:
    target, score, patient, _ = case()
    view = np.array(["AP", "PA", "LL", "XX"])[np.arange(400) % 4]
    target[view == "XX"] = 0
    division = divide(target, score, [0.3, 0.5], patient, {"view": view}, NAMES, PLAN)["view"]
    areas = np.array([values(group["auroc"]) for group in division["groups"].values()])
    found = np.array([values(group["sensitivity"]) for group in division["groups"].values()])
    assert np.isnan(areas).any(axis=1).tolist() == [False, False, False, True]
    np.testing.assert_allclose(values(division["auroc_gap"]), areas[:3].max(axis=0) - areas[:3].min(axis=0))
    gaps = found[:3].max(axis=0) - found[:3].min(axis=0)
    np.testing.assert_allclose(values(division["equal_opportunity_gap"]), gaps)
    macros = areas[:3].mean(axis=1)
    assert division["macro_auroc_gap"] == pytest.approx(macros.max() - macros.min())


def test_one_group_or_none_has_no_gap() -> None:
    target, score, patient, _ = case()
    columns = {"sex": ["F"] * 400, "age": [None] * 400, "view": np.full(400, NAN)}
    found = divide(target, score, 0.5, patient, columns, NAMES, PLAN)
    assert [len(found[name]["groups"]) for name in columns] == [1, 0, 0] and found["age"]["unknown"] == 400
    assert all(d["auroc_gap"] == dict.fromkeys(NAMES) and d["macro_auroc_gap"] is None for d in found.values())


def test_column_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"sex \(3,\) must name the group of each of 2 images"):
        divide([[0.0], [1.0]], [[0.1], [0.2]], 0.5, [1, 2], {"sex": ["F", "M", "F"]}, ["A"])


def test_age_bands_hold_their_lower_edge_and_sort_as_ages_do() -> None:
    names = age_bands([0, 17.9, 18, 40, 59, 60, 80, 99, NAN, -1])
    assert names.tolist() == ["00-18", "00-18", "18-40", "40-60", "40-60", "60-80", "80+", "80+", "", ""]


def test_first_visit_is_follow_up_number_zero() -> None:
    assert visits([0, 1, 12, NAN]).tolist() == ["first", "follow-up", "follow-up", ""]


def test_images_without_findings_define_specificity_alone() -> None:
    target = np.array([[0, 0], [0, 0], [1, 0], [1, 1], [0, 1], [NAN, 1]], float)
    score = np.array([[0.2, 0.8], [0.1, 0.1], [0.9, 0.3], [0.8, 0.7], [0.4, 0.6], [0.5, 0.5]])
    count = finding_counts(target)
    assert count.tolist() == ["0", "0", "1", "2", "1", ""]
    assert finding_counts(np.ones((1, 5))).tolist() == ["3+"] == finding_counts(np.ones((1, 3))).tolist()
    division = divide(target, score, 0.5, np.arange(6), {"findings": count}, NAMES, PLAN)["findings"]
    none, one, more = division["groups"].values()
    assert none["auroc"] == none["sensitivity"] == more["specificity"] == dict.fromkeys(NAMES)
    assert values(none["specificity"]) == [1.0, 0.5] and values(one["auroc"]) == [1.0, 1.0]


def test_frequency_groups() -> None:
    names = frequency_groups([1001, 1000, 100, 99, 0])
    assert names.tolist() == ["head", "medium", "medium", "tail", "tail"]


def test_groups_of_one_or_two_patients_do_not_count_in_gaps() -> None:
    target, score, patient, sex = case()
    sex = np.where(sex == "", "F", sex)
    few = np.isin(patient, np.unique(patient)[:2])
    rest = ~few
    score = np.where(few[:, None], 1 - target, score)  # as bad as can be
    tiny = divide(target, score, 0.4, patient, {"sex": np.where(few, "X", sex)}, NAMES, PLAN)["sex"]
    without = divide(target[rest], score[rest], 0.4, patient[rest], {"sex": sex[rest]}, NAMES, PLAN)["sex"]
    few_patients = tiny["groups"]["X"]
    assert list(tiny["groups"]) == ["F", "M", "X"] and few_patients["patients"] == 2
    assert all(np.isnan(interval_of(area)[1]) for area in few_patients["auroc"].values())
    assert few_patients["macro_auroc"] is None and tiny["left_out_of_gaps"] == ["X"]
    for gap in ("auroc_gap", "equal_opportunity_gap"):
        assert tiny[gap] == without[gap] and max(tiny[gap].values()) < 0.5  # that of the tiny group would be 1
    assert tiny["macro_auroc_gap"] == without["macro_auroc_gap"] < 0.5
    assert tiny["macro_auroc_gap_findings"] == ["A", "B"]


def test_the_macro_gap_is_over_findings_that_all_groups_have() -> None:
    target, score, patient, _ = case()
    view = np.array(["AP", "PA"])[np.arange(400) % 2]
    mine = np.flatnonzero((view == "PA") & (target[:, 1] == 1))
    target[mine[3:], 1] = 0  # three positive images are left of the second finding
    division = divide(target, score, 0.4, patient, {"view": view}, NAMES, PLAN)["view"]
    areas = [value_of(group["auroc"]["A"]) for group in division["groups"].values()]
    assert division["macro_auroc_gap_findings"] == ["A"] and division["auroc_gap"]["B"] is None
    gap = division["auroc_gap"]["A"]
    assert division["macro_auroc_gap"] == pytest.approx(max(areas) - min(areas)) == pytest.approx(gap)
