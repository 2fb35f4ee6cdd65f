"""The tables of an evaluation, from the plain values of `metrics.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.guard import count_test, describe_split, ledger_beside
from cxr.predictions import Predictions
from cxr.report.results import Cell, Results, WithInterval
from cxr.runs import Run

MACRO = "macro average"
_RATES = ("sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "accuracy")


def notes_of(
    run: Run, val: Predictions, test: Predictions, metrics: Mapping[str, Any], by: str, name: str | None = None
) -> list[str]:
    """What stands below every table: which split and labels these are, and how often the test split was scored."""
    ledger = ledger_beside(run.path)
    times = count_test(ledger, test, name or run.path.name, by)
    prints = [
        f"{name} {str(metrics[key])[:16]}" if metrics.get(key) else f"{name} unknown"
        for name, key in (("split", "split_fingerprint"), ("labels", "labels_sha256"))
    ]
    trained = "" if run.best.exists() or metrics.get("split_fingerprint") else "; training patients are unknown"
    return [
        f"Split: {describe_split(val, test)}{trained} ({', '.join(prints)}).",
        f"This test split has been scored {times} time{'s' * (times != 1)} in {ledger.parent.name or ledger.parent}.",
    ]


def write_tables(
    run: Run, title: str, metrics: Mapping[str, Any], findings: Sequence[str], notes: Sequence[str]
) -> dict[str, Results]:
    """Writes the tables of an evaluation into `evaluation/` of a run, and returns them."""
    made = tables(metrics, findings, title, notes)
    for name, table in made.items():
        table.write(run.path / "evaluation" / name)
    return made


def tables(metrics: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> dict[str, Results]:
    """File name to table: `auroc`, `operating_points`, `subgroups` and what else there is of test.

    Args:
        metrics: as `judge` made them, with `calibration` and `localisation` where these were done.
        findings: L names.
        title: of the run.
        notes: below each table.
    """
    made = {
        "auroc": _auroc(metrics["test"], findings, f"{title}, test", notes),
        "operating_points": _points(metrics["test"], findings, f"{title}, test", notes),
    }
    if "subgroups" in metrics["test"]:
        made["subgroups"] = _subgroups(metrics["test"]["subgroups"], findings, f"{title}, test", notes)
    if metrics.get("calibration"):
        made["calibration"] = _calibration(metrics["calibration"], findings, title, notes)
    if metrics.get("localisation"):
        made["localisation"] = _localisation(metrics["localisation"], findings, title, notes)
    return made


def _auroc(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    measures = ("auroc", "average_precision", "brier", "ece")
    delong = test.get("delong", {})
    rows: list[list[Cell]] = []
    for name in findings:
        rows.append([name, test["positives"][name], *(WithInterval.of(test[m][name]) for m in measures)])
    rows.append([MACRO, None, *(WithInterval.of(test[f"macro_{m}"]) for m in measures)])
    for name, key in (("micro average", "micro_auroc"), ("weighted by prevalence", "weighted_auroc")):
        rows.append([name, None, WithInterval.of(test[key]), None, None, None])
    for group, about in test.get("by_frequency", {}).items():
        rows.append([f"{group} findings", None, WithInterval.of(about["macro_auroc"]), None, None, None])
    if delong:
        for name, row in zip([*findings, *[""] * len(rows)], rows, strict=False):
            row.append(WithInterval.of(delong[name]) if name else None)
    left_out = test["left_out_of_macro_auroc"]
    said = [f"Without a positive or a negative image, and in no mean: {', '.join(left_out)}."] if left_out else []
    columns = ["finding", "positives", *measures, *["auroc_delong"] * bool(delong)]
    return Results(f"{title}: {test['n']} images", columns, rows, [*said, *notes])


def _points(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    rows: list[list[Cell]] = []
    for rule, at in test["operating_points"].items():
        for name in findings:
            rates = [WithInterval.of(at[rate][name]) for rate in _RATES]
            rows.append([f"{rule}: {name}", at["threshold"][name], *rates])
        rows.append([f"{rule}: {MACRO}", None, *(WithInterval.of(at[f"macro_{rate}"]) for rate in _RATES)])
    chosen = "Thresholds were chosen on validation."
    return Results(f"{title}: operating points", ["point", "threshold", *_RATES], rows, [chosen, *notes])


def _subgroups(divisions: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    """A row a group, its macro AUROC and the mean sensitivity; gaps as a row each."""
    rows: list[list[Cell]] = []
    for attribute, about in divisions.items():
        for name, group in about["groups"].items():
            positives = sum(group["positives"].values())
            area = WithInterval.of(group["macro_auroc"])
            rows.append(
                [f"{attribute}: {name}", group["n"], group["patients"], positives, area, _mean(group["sensitivity"])]
            )
        if len(about["groups"]) > 1:
            gap, missed = about["macro_auroc_gap"], _mean(about["equal_opportunity_gap"])
            rows.append([f"{attribute}: gap", None, None, None, WithInterval.of(gap), missed])
    columns = ["group", "images", "patients", "positives", "macro_auroc", "mean_sensitivity"]
    said = "Means over the findings that a group has; the gap of sensitivity is the mean of the findings' gaps."
    return Results(f"{title}: subgroups", columns, rows, [said, *notes])


def _calibration(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    keys = ("brier", "ece")
    rows: list[list[Cell]] = [
        [name, *(about[when][key][name] for key in keys for when in ("before", "after"))] for name in findings
    ]
    rows.append([MACRO, *(about[when][f"macro_{key}"] for key in keys for when in ("before", "after"))])
    said = [f"Left as they are: {', '.join(about['not_fitted'])}."] if about["not_fitted"] else []
    columns = ["finding", *(f"{key}_{when}" for key in keys for when in ("before", "after"))]
    return Results(f"{title}, test: {about['method']} scaling, fitted on validation", columns, rows, [*said, *notes])


def _localisation(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    measures = [name for name in about if name != "pairs"]
    shown = [name for name in findings if any(about[m]["findings"][name] is not None for m in measures)]
    rows: list[list[Cell]] = [
        [name, *(WithInterval.of(about[m]["findings"][name]) for m in measures)] for name in shown
    ]
    rows.append([MACRO, *(WithInterval.of(about[m]["macro"]) for m in measures)])
    return Results(
        f"{title}, test: attention against {about['pairs']} boxed findings", ["finding", *measures], rows, notes
    )


def _mean(values: Mapping[str, Any]) -> float | None:
    known = [WithInterval.of(value).value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None
