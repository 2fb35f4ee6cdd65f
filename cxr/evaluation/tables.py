"""The tables of an evaluation, from the plain values of `metrics.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.errors import counted
from cxr.evaluation.evaluate import of_test
from cxr.figures.tables import MACRO, Cell, Table
from cxr.metrics.patients import FEWEST
from cxr.metrics.plain import OF_SUPPORTED, value_of
from cxr.metrics.subgroups import FREQUENCIES
from cxr.run.ancestry import unknown_note, unknown_of
from cxr.run.directory import Run
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions
from cxr.run.splits import OWN, describe_split

SUPPORTED = f"{MACRO} ({FEWEST}+ patients each)"
ALONE = "auroc_attributes_only"
_METRICS = ("auroc", "average_precision", "brier", "ece")
_ACCURACIES = {
    "balanced_accuracy": "balanced accuracy",
    **{f"{group}_accuracy": f"balanced accuracy of {group} findings" for group in FREQUENCIES},
    "top1_accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mcc": "Matthews correlation",
}
_RATES = ("sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "accuracy")


def notes_of(
    run: Run, val: Predictions, test: Predictions, metrics: Mapping[str, Any], by: str, name: str | None = None
) -> list[str]:
    """The notes below every table: which split and labels these are, and how often the test split was scored.

    This enters the scores in the ledger; call it before anything is written or printed about them.
    """
    ledger, name = ledger_beside(run.path), name or run.path.name
    times = count_test(ledger, test, name, by)
    return [
        split_note(run, val, test, metrics),
        f"This test split has been scored {counted(times, 'time')} in {ledger.parent.name or ledger.parent}.",
        *unknown_note({name: unknown_of(metrics)}),
    ]


def split_note(run: Run, val: Predictions, test: Predictions | None, metrics: Mapping[str, Any]) -> str:
    """Which split and labels these are; where test was not scored, only their fingerprints."""
    split, labels = (str(metrics.get(key) or "unknown")[:16] for key in ("split_fingerprint", "labels_sha256"))
    trained = "" if run.best.exists() or metrics.get("split_fingerprint") else "; training patients are unknown"
    kind = "test was not scored" if test is None else f"{split_of(val, test, metrics)}{trained}"
    return f"Split: {kind} (split {split}, labels {labels})."


def split_of(val: Predictions, test: Predictions, metrics: Mapping[str, Any]) -> str:
    """The text of `describe_split`; of another data set than the run's, its name, and what is unusual of the split."""
    kind, place = describe_split(val, test), metrics.get("external")
    if not isinstance(place, Mapping):
        return kind
    images = "all images" if place.get("images") == "all" else "test split"
    unusual = "" if kind == OWN else f", {kind}"
    return f"{images} of data={place.get('data')}, scored by {place.get('run')}{unusual}"


def write_tables(
    run: Run, split: str, title: str, metrics: dict[str, Any], findings: Sequence[str], notes: Sequence[str]
) -> dict[str, Table]:
    """Writes the tables of a test split into `evaluation/` of a run and returns them; see `tables`.

    Files of other test splits than `test` end in the split's name: `auroc_<split>.csv`.
    """
    made = tables(metrics, findings, title, notes, split)
    for name, table in made.items():
        table.write(run.path / "evaluation" / (name if split == "test" else f"{name}_{split}"))
    return made


def tables(
    metrics: dict[str, Any], findings: Sequence[str], title: str, notes: Sequence[str], split: str = "test"
) -> dict[str, Table]:
    """The tables of a test split by name: `auroc`, `operating_points` and, where available, further ones.

    Args:
        metrics: as `evaluate` returns them, with `calibration` and `localisation` where available, see `of_test`.
        findings: L names.
        split: `test` or another test split.
    """
    test, about, title = metrics[split], of_test(metrics, split), f"{title}, {split}"
    made = {"auroc": _auroc(test, findings, title, notes), "operating_points": _points(test, findings, title, notes)}
    if "recall" in test:
        made["accuracy"] = _accuracy(test, findings, title, notes)
    if "subgroups" in test:
        made["subgroups"] = _subgroups(test["subgroups"], findings, title, notes)
    if about.get("calibration"):
        made["calibration"] = _calibration(about["calibration"], findings, title, notes)
    if about.get("localisation"):
        made["localisation"] = _localisation(about["localisation"], findings, title, notes)
    return made


def _auroc(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    rows: list[list[Cell]] = [[name, test["positives"][name], *(test[m][name] for m in _METRICS)] for name in findings]
    rows.append([MACRO, None, *(test[f"macro_{m}"] for m in _METRICS)])
    rows += [[SUPPORTED, None, *(means.get(m) for m in _METRICS)] for means in _of_supported(test)]
    means = {"micro average": test["micro_auroc"], "weighted by prevalence": test["weighted_auroc"]}
    means |= {f"{group} findings": about["macro_auroc"] for group, about in test.get("by_frequency", {}).items()}
    rows += [[name, None, mean, None, None, None] for name, mean in means.items()]
    columns = ["finding", "positives", *_METRICS]
    if test.get("delong"):
        columns.append("auroc_delong")
        rows = [[*row, test["delong"].get(row[0])] for row in rows]
    texts = []
    if alone := test.get("attributes_only"):
        columns.append(ALONE)
        areas = {**alone["auroc"], MACRO: alone["macro_auroc"]}
        rows = [[*row, areas.get(row[0])] for row in rows]
        texts.append(f"{ALONE}: a logistic regression on age, sex and view alone, fitted on the training split.")
    if test["left_out_of_macro_auroc"]:
        names = ", ".join(test["left_out_of_macro_auroc"])
        texts.append(f"No positive or no negative image, so in no mean of auroc and average_precision: {names}.")
    texts += [*few_patients(_few(test)), *_undefined_resamples(test)]
    if "intervals" in test:
        constant = {
            name: [m for m in _METRICS if isinstance(test[m][name], float)]
            for name in findings
            if name not in test["intervals"]["too_few_patients"]
        }
        named = [f"{name} ({', '.join(metrics)})" for name, metrics in constant.items() if metrics]
        texts += [f"No interval, since all resamples have the same value: {', '.join(named)}."] * bool(named)
    intervals = [*_METRICS, "auroc_delong", ALONE]
    return Table(f"{title}: {counted(test['n'], 'image')}", columns, rows, [*texts, *notes], intervals)


def _accuracy(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    """Of a task with one finding per image: the recall of every finding, and means."""
    rows: list[list[Cell]] = [[name, test["positives"][name], test["recall"][name]] for name in findings]
    rows += [[label, None, test[name]] for name, label in _ACCURACIES.items() if name in test]
    groups = [f"{group} ({', '.join(about['findings'])})" for group, about in test.get("by_frequency", {}).items()]
    texts = [f"Findings by training images, more than 1,000, 100 to 1,000, fewer: {'; '.join(groups)}."] * bool(groups)
    return Table(f"{title}: accuracy", ["finding", "images", "recall"], rows, [*texts, *notes], ["recall"])


def _points(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    undefined: dict[str, list[str]] = {}
    lost: list[str] = []
    for rule, at in test["operating_points"].items():
        rows += [[f"{rule}: {name}", at["threshold"][name], *(at[rate][name] for rate in _RATES)] for name in findings]
        rows.append([f"{rule}: {MACRO}", None, *(at[f"macro_{rate}"] for rate in _RATES)])
        rows += [[f"{rule}: {SUPPORTED}", None, *(means.get(rate) for rate in _RATES)] for means in _of_supported(at)]
        for rate, names in at.get("left_out_of_macro", {}).items():
            undefined.setdefault(", ".join(names), []).append(f"{rule} {rate}")
        lost += [f"{rule}: {text}" for text in _undefined_resamples(at)]
    texts = ["Thresholds were chosen on validation."]
    texts += [f"Undefined and not in the macro average of {', '.join(at)}: {names}." for names, at in undefined.items()]
    for text in few_patients(_few(test)):
        texts.append(f"{text} Sensitivity needs only positive patients, specificity only negative ones.")
    columns = ["point", "threshold", *_RATES]
    return Table(f"{title}: operating points", columns, rows, [*texts, *lost, *notes], _RATES)


def few_patients(few: Mapping[str, Any], so: str = "so they and means with them have no interval") -> list[str]:
    """One sentence that names the findings with too few patients for an interval, or none.

    Args:
        few: finding to its numbers of `positive` and `negative` patients, or to its number of patients.
        so: the consequence.
    """
    if not few:
        return []
    by_class = all(isinstance(count, Mapping) for count in few.values())
    kind = "positive or negative patients" if by_class else "patients with boxes"
    counts = {k: f"{n['positive']} positive, {n['negative']} negative" if by_class else n for k, n in few.items()}
    return [f"Fewer than {FEWEST} {kind}, {so}: {', '.join(f'{name} ({count})' for name, count in counts.items())}."]


def _few(about: Mapping[str, Any]) -> Mapping[str, Any]:
    few: Mapping[str, Any] = about.get("intervals", {}).get("too_few_patients", {})
    return few


def _of_supported(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The macro averages over the findings with enough patients, if some findings have too few; else an empty list."""
    means = about.get("intervals", {}).get("macro_of_supported", {})
    return [means] if any(value is not None for value in means.values()) else []


def _undefined_resamples(about: Mapping[str, Any]) -> list[str]:
    """How many resamples had no value, for the numbers with an interval."""
    intervals = about.get("intervals", {})
    texts = []
    for name, counts in intervals.get("undefined_resamples", {}).items():
        if isinstance(counts, Mapping):
            values = about[name].get("findings", about[name])
            shown = [f"{finding} {count}" for finding, count in counts.items() if isinstance(values[finding], dict)]
            texts += [f"{name} {', '.join(shown)}"] * bool(shown)
            continue
        metric = name.removeprefix("macro_")
        if metric.endswith(OF_SUPPORTED):
            mean = intervals["macro_of_supported"][metric.removesuffix(OF_SUPPORTED)]
        else:
            mean = about[name] if name in about else about[metric]["macro"]
        texts += [f"{name} {counts}"] * isinstance(mean, dict)
    return [f"Resamples without a value, left out of {intervals['resamples']}: {'; '.join(texts)}."] if texts else []


def _subgroups(divisions: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    """A row per group with its macro AUROC and mean sensitivity, and a row per attribute with the gaps."""
    rows: list[list[Cell]] = []
    texts = [
        f"Means of a group are over its findings with at least {FEWEST} positive and {FEWEST} negative patients; "
        "groups without such findings are in no gap. The gap of AUROC is over the findings that all other groups have, "
        "that of sensitivity is the mean of the findings' gaps."
    ]
    for attribute, about in divisions.items():
        few: list[str] = []
        for name, group in about["groups"].items():
            missing = group.get("too_few_patients", [])
            sensitivity = _mean({k: value for k, value in group["sensitivity"].items() if k not in missing})
            counts = (group["n"], group["patients"], sum(group["positives"].values()))
            rows.append([f"{attribute}: {name}", *counts, group["macro_auroc"], sensitivity])
            which = "all findings" if len(missing) == len(findings) else ", ".join(missing)
            few += [f"{name} ({which})"] * bool(missing)
        if len(about["groups"]) > 1:
            gaps = (about["macro_auroc_gap"], _mean(about["equal_opportunity_gap"]))
            rows.append([f"{attribute}: gap", None, None, None, *gaps])
        texts += [f"{attribute}, too few patients: {'; '.join(few)}."] * bool(few)
        common = about.get("macro_auroc_gap_findings", findings)
        if about["macro_auroc_gap"] is not None and len(common) < len(findings):
            texts.append(f"{attribute}, gap of AUROC over {counted(len(common), 'finding')}: {', '.join(common)}.")
        lost = {name: group.get("undefined_resamples", 0) for name, group in about["groups"].items()}
        if any(lost.values()):
            each = ", ".join(f"{name} {count}" for name, count in lost.items() if count)
            texts.append(f"{attribute}, resamples without a value, left out: {each}.")
    columns = ["group", "images", "patients", "positives", "macro_auroc", "mean_sensitivity"]
    return Table(f"{title}: subgroups", columns, rows, [*texts, *notes], ["macro_auroc"])


def _calibration(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    pairs = [(key, when) for key in ("brier", "ece") for when in ("before", "after")]
    rows: list[list[Cell]] = [[name, *(about[when][key][name] for key, when in pairs)] for name in findings]
    rows.append([MACRO, *(about[when][f"macro_{key}"] for key, when in pairs)])
    texts = [f"Scores are unchanged for: {', '.join(about['not_fitted'])}."] if about["not_fitted"] else []
    columns = ["finding", *(f"{key}_{when}" for key, when in pairs)]
    return Table(f"{title}: {about['method']} scaling, fitted on validation", columns, rows, [*texts, *notes])


def _localisation(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    metrics = [name for name in about if name not in ("pairs", "intervals")]
    shown = [name for name in findings if any(about[m]["findings"][name] is not None for m in metrics)]
    rows: list[list[Cell]] = [[name, *(about[m]["findings"][name] for m in metrics)] for name in shown]
    rows.append([MACRO, *(about[m]["macro"] for m in metrics)])
    rows += [[SUPPORTED, *(means.get(m) for m in metrics)] for means in _of_supported(about)]
    texts = [*few_patients(_few(about)), *_undefined_resamples(about), *notes]
    title = f"{title}: attention against {counted(about['pairs'], 'boxed finding')}"
    return Table(title, ["finding", *metrics], rows, texts, metrics)


def _mean(values: Mapping[str, Any]) -> float | None:
    known = [value_of(value) for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None
