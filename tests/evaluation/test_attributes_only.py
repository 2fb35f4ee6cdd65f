"""The attributes-only baseline, against scikit-learn's logistic regression."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxr.errors import CxrError
from cxr.evaluation.attributes_only import attributes_only, fit_attributes
from cxr.metrics.interval import Resampling
from cxr.run.predictions import Predictions

FINDINGS = ("Mass", "Edema")


def drawn(seed: int, images: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of which age, sex and view are sometimes unknown, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    age, sex, view = (
        rng.uniform(10, 90, images),
        rng.choice(["M", "F", ""], images),
        rng.choice(["PA", "ap", ""], images),
    )
    logit = np.stack([((age - 50) / 25) ** 2 - 1.5, 2.0 * (view == "ap") + 1.0 * (sex == "M") - 1.5], axis=1)
    target = (rng.random((images, 2)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    target[:5, 0] = np.nan
    age[rng.random(images) < 0.1] = np.nan
    return pd.DataFrame({"age": age, "sex": sex, "view": view, "followup": 0.0}), target


def expected(rows: pd.DataFrame, target: np.ndarray, other: pd.DataFrame) -> np.ndarray:
    def design(table: pd.DataFrame) -> np.ndarray:
        age = table["age"].fillna(50)
        columns = [(age - 50) / 25, ((age - 50) / 25) ** 2, table["age"].isna()]
        columns += [table["sex"] == "F", table["sex"] == "", table["view"] == "PA", table["view"] == "ap"]
        return np.stack([column.to_numpy(float) for column in columns], axis=1)

    scores = []
    for truth in target.T:
        known = ~np.isnan(truth)
        model = LogisticRegression(C=1, tol=1e-8, max_iter=1000).fit(design(rows)[known], truth[known])
        scores.append(model.decision_function(design(other)))
    return np.stack(scores, axis=1)


def predictions(rows: pd.DataFrame | None, target: np.ndarray) -> Predictions:
    image = np.array([f"{k}.png" for k in range(len(target))], object)
    patient = np.array([str(k // 2) for k in range(len(target))], object)
    return Predictions(image, patient, FINDINGS, np.full(target.shape, 0.5, np.float32), target, "", "test", rows)


def test_the_baseline_is_a_logistic_regression_on_the_training_split() -> None:
    (rows, target), (others, labels) = drawn(0), drawn(1)
    fitted, score = fit_attributes(rows, target, FINDINGS), expected(rows, target, others)
    areas = [roc_auc_score(labels[5:, 0], score[5:, 0]), roc_auc_score(labels[:, 1], score[:, 1])]
    found = attributes_only(predictions(others, labels), fitted)
    assert found is not None
    assert [found["auroc"][name] for name in FINDINGS] == pytest.approx(areas, abs=2e-4)
    assert found["macro_auroc"] == pytest.approx(np.mean(areas), abs=2e-4)
    assert min(areas) > 0.65, "a quadratic effect of age is found, too"
    intervals = attributes_only(predictions(others, labels), fitted, Resampling(50))
    assert intervals is not None
    for name, area in zip(FINDINGS, areas, strict=True):
        assert intervals["auroc"][name]["value"] == pytest.approx(area, abs=2e-4)
        assert intervals["auroc"][name]["ci"][0] < area < intervals["auroc"][name]["ci"][1]


def test_a_finding_of_one_class_in_training_is_scored_by_a_constant() -> None:
    rows, target = drawn(2)
    fitted = fit_attributes(rows, target * [1, 0], FINDINGS)
    found = attributes_only(predictions(rows, target), fitted)
    assert found is not None and found["auroc"]["Edema"] == 0.5 and found["auroc"]["Mass"] > 0.6


def test_predictions_without_attributes_have_none_and_other_coefficients_are_refused() -> None:
    rows, target = drawn(3)
    fitted = fit_attributes(rows, target, FINDINGS)
    assert attributes_only(predictions(None, target), fitted) is None
    assert attributes_only(predictions(rows[["age"]], target), fitted) is None
    for wrong in ({"Mass": fitted["Mass"]}, {**fitted, "Edema": [1.0]}, {**fitted, "Edema": "x"}, ["Mass"]):
        with pytest.raises(CxrError, match=r"train\.attributes_only in metrics\.json"):
            attributes_only(predictions(rows, target), wrong)  # type: ignore[arg-type]
