"""Groups against metrics of the images picked by hand, and the names of groups at their edges."""

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score  # type: ignore[import-untyped]

from cxr.metrics.bootstrap import bootstrap_auroc
from cxr.metrics.interval import Resampling
from cxr.metrics.subgroups import age_bands, divide, finding_counts, frequency_groups, macro_by_frequency, visits
from tests.metrics.random_findings import NAN, findings

PLAN = Resampling(resamples=50)


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    target, score, patient = findings(0, images=400, prevalence=(0.5, 0.2))
    sex = np.random.default_rng(1).choice(["F", "M", ""], 400, p=[0.5, 0.4, 0.1])
    return target, score, patient, sex


def test_each_group_is_evaluated_on_its_own_images() -> None:
    target, score, patient, sex = case()
    division = divide(target, score, 0.4, patient, {"sex": sex}, PLAN)["sex"]
    assert [group.name for group in division.groups] == ["F", "M"] and division.unknown == (sex == "").sum()
    for group in division.groups:
        mine = sex == group.name
        assert (group.images, group.patients) == (mine.sum(), len(set(patient[mine])))
        for k in range(2):
            some = mine & ~np.isnan(target[:, k])
            t, s = target[some, k], score[some, k].astype(float)
            assert group.positives[k] == t.sum()
            assert group.auroc.findings.value[k] == pytest.approx(roc_auc_score(t, s), abs=1e-12)
            assert group.sensitivity[k] == pytest.approx(recall_score(t, s >= 0.4))
            assert group.specificity[k] == pytest.approx(recall_score(t, s >= 0.4, pos_label=0))
        alone = bootstrap_auroc(target[mine], score[mine], patient[mine], PLAN)
        np.testing.assert_array_equal(group.auroc.findings.low, alone.findings.low)


def test_gaps_are_largest_minus_smallest() -> None:
    target, score, patient, _ = case()
    view = np.array(["AP", "PA", "LL", "XX"])[np.arange(400) % 4]
    target[view == "XX"] = 0
    division = divide(target, score, [0.3, 0.5], patient, {"view": view}, PLAN)["view"]
    areas = np.array([group.auroc.findings.value for group in division.groups])
    found = np.array([group.sensitivity for group in division.groups])
    assert np.isnan(areas).any(axis=1).tolist() == [False, False, False, True]
    np.testing.assert_allclose(division.auroc_gap, areas[:3].max(axis=0) - areas[:3].min(axis=0))
    np.testing.assert_allclose(division.sensitivity_gap, found[:3].max(axis=0) - found[:3].min(axis=0))
    macros = areas[:3].mean(axis=1)
    assert division.macro_gap == pytest.approx(macros.max() - macros.min())


def test_one_group_or_none_has_no_gap() -> None:
    target, score, patient, _ = case()
    columns = {"sex": ["F"] * 400, "age": [None] * 400, "view": np.full(400, NAN)}
    found = divide(target, score, 0.5, patient, columns, PLAN)
    assert [len(found[name].groups) for name in columns] == [1, 0, 0] and found["age"].unknown == 400
    assert all(np.isnan(d.auroc_gap).all() and np.isnan(d.macro_gap) for d in found.values())


def test_column_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"sex \(3,\) must name the group of each of 2 images"):
        divide([[0.0], [1.0]], [[0.1], [0.2]], 0.5, [1, 2], {"sex": ["F", "M", "F"]})


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
    division = divide(target, score, 0.5, np.arange(6), {"findings": count}, PLAN)["findings"]
    none, one, more = division.groups
    assert np.isnan(none.auroc.findings.value).all() and np.isnan(none.sensitivity).all()
    assert none.specificity.tolist() == [1.0, 0.5]
    assert one.auroc.findings.value.tolist() == [1.0, 1.0] and np.isnan(more.specificity).all()


def test_frequency_groups_and_their_means() -> None:
    names = frequency_groups([1001, 1000, 100, 99, 0])
    assert names.tolist() == ["head", "medium", "medium", "tail", "tail"]
    means = macro_by_frequency([0.9, 0.8, 0.6, NAN, 0.5], names)
    assert means == pytest.approx({"head": 0.9, "medium": 0.7, "tail": 0.5})
    assert np.isnan(macro_by_frequency([0.9], ["head"])["tail"])


def test_groups_of_one_or_two_patients_do_not_count_in_gaps() -> None:
    target, score, patient, sex = case()
    sex = np.where(sex == "", "F", sex)
    few = np.isin(patient, np.unique(patient)[:2])
    rest = ~few
    score = np.where(few[:, None], 1 - target, score)  # as bad as can be
    tiny = divide(target, score, 0.4, patient, {"sex": np.where(few, "X", sex)}, PLAN)["sex"]
    without = divide(target[rest], score[rest], 0.4, patient[rest], {"sex": sex[rest]}, PLAN)["sex"]
    assert [group.name for group in tiny.groups] == ["F", "M", "X"] and tiny.groups[2].patients == 2
    assert np.isnan(tiny.groups[2].auroc.findings.low).all() and np.isnan(tiny.groups[2].auroc.supported.value)
    for gap in ("auroc_gap", "sensitivity_gap", "macro_gap"):
        np.testing.assert_array_equal(getattr(tiny, gap), getattr(without, gap))
        assert np.less(getattr(tiny, gap), 0.5).all()  # that of the tiny group would be 1
    assert tiny.common.tolist() == [True, True]


def test_the_macro_gap_is_over_findings_that_all_groups_have() -> None:
    target, score, patient, _ = case()
    view = np.array(["AP", "PA"])[np.arange(400) % 2]
    mine = np.flatnonzero((view == "PA") & (target[:, 1] == 1))
    target[mine[3:], 1] = 0  # three positive images are left of the second finding
    division = divide(target, score, 0.4, patient, {"view": view}, PLAN)["view"]
    areas = [group.auroc.findings.value[0] for group in division.groups]
    assert division.common.tolist() == [True, False] and np.isnan(division.auroc_gap[1])
    assert division.macro_gap == pytest.approx(max(areas) - min(areas)) == pytest.approx(division.auroc_gap[0])
