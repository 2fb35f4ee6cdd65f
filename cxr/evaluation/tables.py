"""The tables of an evaluation, from the plain values of `metrics.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.evaluation.judge import of_test
from cxr.figures.results import Cell, Results, WithInterval
from cxr.metrics.patients import FEWEST
from cxr.metrics.plain import OF_SUPPORTED
from cxr.run.ancestry import unknown_note, unknown_of
from cxr.run.directory import Run
from cxr.run.ledger import count_test, ledger_beside
from cxr.run.predictions import Predictions
from cxr.run.splits import describe_split

MACRO = "macro average"
SUPPORTED = f"{MACRO} ({FEWEST}+ patients each)"
_RATES = ("sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "accuracy")


def notes_of(
    run: Run, val: Predictions, test: Predictions, metrics: Mapping[str, Any], by: str, name: str | None = None
) -> list[str]:
    """What stands below every table: which split and labels these are, and how often the test split was scored.

    This enters the scores in the ledger, so it comes before anything is said of them.
    """
    ledger = ledger_beside(run.path)
    times = count_test(ledger, test, name or run.path.name, by)
    return [
        split_note(run, val, test, metrics),
        f"This test split has been scored {times} time{'s' * (times != 1)} in {ledger.parent.name or ledger.parent}.",
        *unknown_note({name or run.path.name: unknown_of(metrics)}),
    ]


def split_note(run: Run, val: Predictions, test: Predictions | None, metrics: Mapping[str, Any]) -> str:
    """Which split and labels these are; where test was not scored, their fingerprints alone."""
    prints = [
        f"{name} {str(metrics[key])[:16]}" if metrics.get(key) else f"{name} unknown"
        for name, key in (("split", "split_fingerprint"), ("labels", "labels_sha256"))
    ]
    trained = "" if run.best.exists() or metrics.get("split_fingerprint") else "; training patients are unknown"
    kind = "test was not scored" if test is None else f"{describe_split(val, test)}{trained}"
    return f"Split: {kind} ({', '.join(prints)})."


def write_tables(
    run: Run, split: str, title: str, metrics: dict[str, Any], findings: Sequence[str], notes: Sequence[str]
) -> dict[str, Results]:
    """Writes the tables of a test split into `evaluation/` of a run, and returns them; see `tables`.

    The file of a further test split ends in its name: `auroc_<split>.csv`.
    """
    made = tables(metrics, findings, title, notes, split)
    for name, table in made.items():
        table.write(run.path / "evaluation" / (name if split == "test" else f"{name}_{split}"))
    return made


def tables(
    metrics: dict[str, Any], findings: Sequence[str], title: str, notes: Sequence[str], split: str = "test"
) -> dict[str, Results]:
    """Name to table: `auroc`, `operating_points`, `subgroups` and what else there is of a test split.

    Args:
        metrics: as `judge` made them, with `calibration` and `localisation` where these were done, see `of_test`.
        findings: L names.
        title: of the run.
        notes: below each table.
        split: `test` or a further one.
    """
    judged, about, title = metrics[split], of_test(metrics, split), f"{title}, {split}"
    made = {
        "auroc": _auroc(judged, findings, title, notes),
        "operating_points": _points(judged, findings, title, notes),
    }
    if "subgroups" in judged:
        made["subgroups"] = _subgroups(judged["subgroups"], findings, title, notes)
    if about.get("calibration"):
        made["calibration"] = _calibration(about["calibration"], findings, title, notes)
    if about.get("localisation"):
        made["localisation"] = _localisation(about["localisation"], findings, title, notes)
    return made


def _auroc(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    measures = ("auroc", "average_precision", "brier", "ece")
    delong = test.get("delong", {})
    rows: list[list[Cell]] = []
    for name in findings:
        rows.append([name, test["positives"][name], *(WithInterval.of(test[m][name]) for m in measures)])
    rows.append([MACRO, None, *(WithInterval.of(test[f"macro_{m}"]) for m in measures)])
    others = _of_supported(test)
    if others:
        rows.append([SUPPORTED, None, *(WithInterval.of(others.get(m)) for m in measures)])
    for name, key in (("micro average", "micro_auroc"), ("weighted by prevalence", "weighted_auroc")):
        rows.append([name, None, WithInterval.of(test[key]), None, None, None])
    for group, about in test.get("by_frequency", {}).items():
        rows.append([f"{group} findings", None, WithInterval.of(about["macro_auroc"]), None, None, None])
    if delong:
        for name, row in zip([*findings, *[""] * len(rows)], rows, strict=False):
            row.append(WithInterval.of(delong[name]) if name else None)
    left_out = test["left_out_of_macro_auroc"]
    said = []
    if left_out:
        names = ", ".join(left_out)
        said.append(f"Without a positive or a negative image, and in no mean of auroc and average_precision: {names}.")
    said += _of_intervals(test)
    same = [
        f"{name} ({', '.join(m for m in measures if _alone(test[m][name]))})"
        for name in findings
        if "intervals" in test
        and name not in test["intervals"]["too_few_patients"]
        and any(_alone(test[m][name]) for m in measures)
    ]
    if same:
        said.append(f"No interval, since all resamples are the same: {', '.join(same)}.")
    columns = ["finding", "positives", *measures, *["auroc_delong"] * bool(delong)]
    return Results(f"{title}: {test['n']} images", columns, rows, [*said, *notes])


def _points(test: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    rows: list[list[Cell]] = []
    for rule, at in test["operating_points"].items():
        for name in findings:
            rates = [WithInterval.of(at[rate][name]) for rate in _RATES]
            rows.append([f"{rule}: {name}", at["threshold"][name], *rates])
        rows.append([f"{rule}: {MACRO}", None, *(WithInterval.of(at[f"macro_{rate}"]) for rate in _RATES)])
        others = _of_supported(at)
        if others:
            cells = (WithInterval.of(others.get(rate)) for rate in _RATES)
            rows.append([f"{rule}: {SUPPORTED}", None, *cells])
    said = ["Thresholds were chosen on validation.", *_undefined_rates(test["operating_points"])]
    few = _few(test)
    if few:
        said.append(few_patients(few)[0] + " Sensitivity needs positive patients only, specificity negative ones.")
    for rule, at in test["operating_points"].items():
        said += [f"{rule}: {text}" for text in _lost(at)]
    return Results(f"{title}: operating points", ["point", "threshold", *_RATES], rows, [*said, *notes])


def _undefined_rates(points: Mapping[str, Any]) -> list[str]:
    """Which findings macro averages of rates leave out, those with the same findings in one sentence."""
    without: dict[str, list[str]] = {}
    for rule, at in points.items():
        for rate, names in at.get("left_out_of_macro", {}).items():
            without.setdefault(", ".join(names), []).append(f"{rule} {rate}")
    return [f"Undefined and not in the macro average of {', '.join(at)}: {names}." for names, at in without.items()]


def few_patients(few: Mapping[str, Any], so: str = "so no interval, nor for a mean with them") -> list[str]:
    """One sentence that names the findings whose patients are too few for an interval, or none.

    Args:
        few: finding to how many patients are positive and negative, or to how many there are.
        so: what follows.
    """
    if not few:
        return []
    named = [
        f"{name} ({about['positive']} positive, {about['negative']} negative)"
        if isinstance(about, Mapping)
        else f"{name} ({about})"
        for name, about in few.items()
    ]
    kind = "positive or negative patients" if isinstance(next(iter(few.values())), Mapping) else "patients with boxes"
    return [f"Fewer than {FEWEST} {kind}, {so}: {', '.join(named)}."]


def _few(about: Mapping[str, Any]) -> Mapping[str, Any]:
    found = about.get("intervals", {}).get("too_few_patients", {})
    return found if isinstance(found, Mapping) else {}


def _of_supported(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Macro averages over the findings with patients enough, where there are others."""
    found = about.get("intervals", {}).get("macro_of_supported", {})
    return found if any(value is not None for value in found.values()) else {}


def _lost(about: Mapping[str, Any]) -> list[str]:
    """How many resamples had no value, of the numbers that have an interval."""
    intervals = about.get("intervals", {})
    said = []
    for name, counts in intervals.get("undefined_resamples", {}).items():
        if isinstance(counts, Mapping):
            values = about[name].get("findings", about[name])
            shown = [f"{finding} {count}" for finding, count in counts.items() if isinstance(values[finding], dict)]
            said += [f"{name} {', '.join(shown)}"] if shown else []
        elif isinstance(_mean_named(name, about), dict):
            said.append(f"{name} {counts}")
    if not said:
        return []
    return [f"Resamples without a value, left out of {intervals['resamples']}: {'; '.join(said)}."]


def _mean_named(name: str, about: Mapping[str, Any]) -> object:
    """The mean that `undefined_resamples` calls so."""
    metric = name.removeprefix("macro_")
    if metric.endswith(OF_SUPPORTED):
        return about["intervals"]["macro_of_supported"][metric.removesuffix(OF_SUPPORTED)]
    return about[name] if name in about else about[metric]["macro"]


def _of_intervals(about: Mapping[str, Any]) -> list[str]:
    return [*few_patients(_few(about)), *_lost(about)]


def _alone(plain: object) -> bool:
    """Whether a number has no interval."""
    return isinstance(plain, float)


def _subgroups(divisions: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    """A row a group, its macro AUROC and the mean sensitivity; gaps as a row each."""
    rows: list[list[Cell]] = []
    for attribute, about in divisions.items():
        for name, group in about["groups"].items():
            positives = sum(group["positives"].values())
            area = WithInterval.of(group["macro_auroc"])
            few = group.get("too_few_patients", [])
            called = _mean({finding: value for finding, value in group["sensitivity"].items() if finding not in few})
            rows.append([f"{attribute}: {name}", group["n"], group["patients"], positives, area, called])
        if len(about["groups"]) > 1:
            gap, missed = about["macro_auroc_gap"], _mean(about["equal_opportunity_gap"])
            rows.append([f"{attribute}: gap", None, None, None, WithInterval.of(gap), missed])
    columns = ["group", "images", "patients", "positives", "macro_auroc", "mean_sensitivity"]
    said = [
        f"Means of a group are over its findings with at least {FEWEST} positive and {FEWEST} negative patients; "
        "groups without any are in no gap. The gap of AUROC is over the findings that all others have, that of "
        "sensitivity is the mean of the findings' gaps."
    ]
    for attribute, about in divisions.items():
        said += _left_out(attribute, about, findings)
    return Results(f"{title}: subgroups", columns, rows, [*said, *notes])


def _left_out(attribute: str, about: Mapping[str, Any], findings: Sequence[str]) -> list[str]:
    """Which groups and findings means and gaps of one attribute leave out, and which resamples."""
    said = []
    few = {name: group.get("too_few_patients", []) for name, group in about["groups"].items()}
    for name, missing in few.items():
        if missing:
            which = "all findings" if len(missing) == len(findings) else ", ".join(missing)
            said.append(f"{name} ({which})")
    notes = [f"{attribute}, too few patients: {'; '.join(said)}."] if said else []
    common = about.get("macro_auroc_gap_findings", findings)
    if about["macro_auroc_gap"] is not None and len(common) < len(findings):
        notes.append(f"{attribute}, gap of AUROC over {len(common)} findings: {', '.join(common)}.")
    lost = {name: group.get("undefined_resamples", 0) for name, group in about["groups"].items()}
    if any(lost.values()):
        counts = ", ".join(f"{name} {count}" for name, count in lost.items() if count)
        notes.append(f"{attribute}, resamples without a value, left out: {counts}.")
    return notes


def _calibration(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    keys = ("brier", "ece")
    rows: list[list[Cell]] = [
        [name, *(about[when][key][name] for key in keys for when in ("before", "after"))] for name in findings
    ]
    rows.append([MACRO, *(about[when][f"macro_{key}"] for key in keys for when in ("before", "after"))])
    said = [f"Left as they are: {', '.join(about['not_fitted'])}."] if about["not_fitted"] else []
    columns = ["finding", *(f"{key}_{when}" for key in keys for when in ("before", "after"))]
    return Results(f"{title}: {about['method']} scaling, fitted on validation", columns, rows, [*said, *notes])


def _localisation(about: Mapping[str, Any], findings: Sequence[str], title: str, notes: Sequence[str]) -> Results:
    measures = [name for name in about if name not in ("pairs", "intervals")]
    shown = [name for name in findings if any(about[m]["findings"][name] is not None for m in measures)]
    rows: list[list[Cell]] = [
        [name, *(WithInterval.of(about[m]["findings"][name]) for m in measures)] for name in shown
    ]
    rows.append([MACRO, *(WithInterval.of(about[m]["macro"]) for m in measures)])
    others = _of_supported(about)
    if others:
        rows.append([SUPPORTED, *(WithInterval.of(others.get(m)) for m in measures)])
    said = [*_of_intervals(about), *notes]
    return Results(f"{title}: attention against {about['pairs']} boxed findings", ["finding", *measures], rows, said)


def _mean(values: Mapping[str, Any]) -> float | None:
    known = [WithInterval.of(value).value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None
