"""What stands below the tables: what means leave out, and which numbers have no interval and why."""

from typing import Any

import numpy as np
import pytest

from cxr.evaluation.evaluate import evaluate
from cxr.evaluation.tables import tables
from cxr.metrics.interval import Resampling
from cxr.run.predictions import Predictions

FINDINGS = ("Common", "Rare", "Absent")


def predictions(split: str) -> Predictions:
    """60 patients with two images each; three have `Rare`, none `Absent`."""
    rng = np.random.default_rng(len(split))
    owner = np.repeat(np.arange(60), 2)
    target = np.stack([owner < 25, owner < 3, owner < 0], axis=1).astype(np.float32)
    score = np.clip(rng.normal(0.3, 0.15, target.shape) + 0.25 * target, 0.01, 0.99).astype(np.float32)
    score[:, 1] = np.minimum(score[:, 1], 0.45)  # nobody is called at 0.5
    names = np.array([f"{split}{k}.png" for k in range(120)], object)
    return Predictions(names, np.array([f"{split}-{k}" for k in owner], object), FINDINGS, score, target, "", split)


def made(plan: Resampling | None) -> tuple[dict[str, Any], dict[str, list[str]]]:
    metrics = evaluate(predictions("val"), {"test": predictions("test")}, {"half": None, "youden": None}, plan)
    return metrics["test"], {name: list(t.notes) for name, t in tables(metrics, FINDINGS, "run", ["Last."]).items()}


def test_macro_averages_at_operating_points_name_what_they_leave_out() -> None:
    for plan in (None, Resampling(100)):
        test, notes = made(plan)
        half = test["operating_points"]["half"]
        assert half["left_out_of_macro"]["sensitivity"] == ["Absent"]
        assert half["left_out_of_macro"]["ppv"] == [name for name in FINDINGS if half["ppv"][name] is None]
        assert "Rare" in half["left_out_of_macro"]["ppv"] and "specificity" not in half["left_out_of_macro"]
        said = " ".join(notes["operating_points"])
        assert "Undefined and not in the macro average of" in said
        for rate, names in half["left_out_of_macro"].items():
            assert any(
                f"half {rate}" in note and note.endswith(f": {', '.join(names)}.") for note in notes["operating_points"]
            )


def test_tables_list_findings_without_an_interval_and_the_reason() -> None:
    test, notes = made(Resampling(100))
    assert isinstance(test["auroc"]["Rare"], float) and isinstance(test["delong"]["Rare"], float)
    said = "Fewer than 5 positive or negative patients, so they and means with them have no interval: Rare (3"
    assert notes["auroc"][1].startswith(said)
    assert any(note.startswith(said) for note in notes["operating_points"])
    assert any(note.startswith("findings, too few patients: ") for note in notes["subgroups"])
    assert test["intervals"]["undefined_resamples"]["auroc"]["Rare"] > 0


def test_resamples_left_out_of_an_interval_are_noted_below_the_table() -> None:
    val, test = predictions("val"), predictions("test")
    target = test.target.copy()
    target[10:, 1], target[:10, 1] = 0, 1  # five patients: about one resample in 150 has none of them
    test = Predictions(test.image, test.patient, FINDINGS, test.score, target, "", "test")
    metrics = evaluate(val, {"test": test}, {"youden": None}, Resampling(800))
    lost = metrics["test"]["intervals"]["undefined_resamples"]["auroc"]["Rare"]
    assert 0 < lost < 30 and set(metrics["test"]["auroc"]["Rare"]) == {"value", "ci"}
    notes = tables(metrics, FINDINGS, "run", [])["auroc"].notes
    assert any(f"left out of 800: auroc Rare {lost}; macro_auroc {lost};" in note for note in notes)


def test_metrics_of_an_earlier_version_still_make_tables() -> None:
    metrics = evaluate(predictions("val"), {"test": predictions("test")}, {"half": None}, Resampling(50))
    del metrics["test"]["intervals"]
    for at in metrics["test"]["operating_points"].values():
        del at["intervals"], at["left_out_of_macro"]
    for division in metrics["test"]["subgroups"].values():
        del division["macro_auroc_gap_findings"], division["left_out_of_gaps"]
        for group in division["groups"].values():
            del group["too_few_patients"], group["undefined_resamples"]
    assert set(tables(metrics, FINDINGS, "run", [])) == {"auroc", "operating_points", "subgroups"}


def test_means_by_frequency_are_over_the_defined_findings_of_a_group() -> None:
    positives = {"Common": 2000, "Rare": 1001, "Absent": 99}
    test = evaluate(predictions("val"), {"test": predictions("test")}, {}, train_positives=positives)["test"]
    mean = (test["auroc"]["Common"] + test["auroc"]["Rare"]) / 2
    assert test["by_frequency"]["head"] == {"macro_auroc": pytest.approx(mean), "findings": ["Common", "Rare"]}
    assert test["by_frequency"]["tail"] == {"macro_auroc": None, "findings": ["Absent"]}
    assert test["by_frequency"]["medium"] == {"macro_auroc": None, "findings": []}
