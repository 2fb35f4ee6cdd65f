"""The part of `bundle.json` that describes a system, written and read; what is read may come from anybody."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cxr.errors import CxrError
from cxr.findings import check_names
from cxr.imaging.preprocessing import read_preprocessing
from cxr.metrics.tree import downwards
from cxr.use.system import RULES, Member, Rule, System, is_numbers, read_scaling
from cxr.use.unusual import read_detectors

FORMAT = 1
_MOST_MEMBERS, _MOST_FINDINGS = 100, 1000


def describe(system: System) -> dict[str, Any]:
    """A system as plain values; each member lacks `file` and `sha256`."""
    return {
        "format": FORMAT,
        "name": system.name,
        "model": system.model,
        "findings": list(system.findings),
        "parents": list(system.parents),
        "members": [asdict(member) for member in system.members],
        "rule": {
            "kind": system.rule.kind,
            "weights": [list(row) for row in system.rule.weights],
            "intercept": list(system.rule.intercept),
        },
        "calibration": None if system.scaling is None else system.scaling.as_plain(),
        "operating_points": {
            name: dict(zip(system.findings, thresholds, strict=True)) for name, thresholds in system.points.items()
        },
        "detectors": None if system.detectors is None else system.detectors.as_plain(),
    }


def read_system(about: Any, origin: str) -> System:
    """The system that plain values describe.

    Raises:
        CxrError: they are not those of `describe`; `origin` and the key are named.
    """
    if not isinstance(about, Mapping) or type(about.get("format")) is not int:
        raise CxrError(f"{origin} is not what export writes: it has no format; export the run again")
    if about["format"] != FORMAT:
        raise CxrError(
            f"{origin} has format {about['format']}, and this version reads {FORMAT}; install the version of cxr that "
            "exported it, or export the run again with this one"
        )
    findings = _texts(about, "findings", origin, _MOST_FINDINGS)
    check_names(findings, "finding", origin)
    members = about.get("members")
    if not isinstance(members, list) or not 1 <= len(members) <= _MOST_MEMBERS:
        raise _wrong(origin, "members")
    parents = about.get("parents")
    if not isinstance(parents, list) or len(parents) != len(findings) or not all(type(p) is int for p in parents):
        raise _wrong(origin, "parents")
    downwards(parents)
    calibration, detectors = about.get("calibration"), about.get("detectors")
    return System(
        _text(about, "name", origin),
        _text(about, "model", origin),
        tuple(findings),
        tuple(parents),
        tuple(_member(member, origin) for member in members),
        _rule(about.get("rule"), len(findings), len(members), origin),
        None if calibration is None else read_scaling(calibration, findings, origin),
        _points(about.get("operating_points"), findings, origin),
        None if detectors is None else read_detectors(detectors, origin),
    )


def _member(about: Any, origin: str) -> Member:
    if not isinstance(about, Mapping) or type(about.get("attributes")) is not bool:
        raise _wrong(origin, "members")
    maps = about.get("maps")
    if maps not in ("", "heads", "findings"):
        raise _wrong(origin, "maps")
    preprocessing = read_preprocessing(about.get("preprocessing"), origin)
    return Member(_text(about, "name", origin), preprocessing, about["attributes"], str(maps))


def _rule(about: Any, findings: int, members: int, origin: str) -> Rule:
    if not isinstance(about, Mapping) or about.get("kind") not in RULES:
        raise _wrong(origin, "rule")
    kind, weights, intercept = str(about["kind"]), about.get("weights"), about.get("intercept")
    rows = findings if kind in ("mean", "logit") else 0
    fits = isinstance(weights, list) and len(weights) == rows and all(is_numbers(row, members) for row in weights)
    if not fits or not is_numbers(intercept, findings if kind == "logit" else 0):
        raise _wrong(origin, "rule")
    return Rule(kind, tuple(tuple(map(float, row)) for row in weights or ()), tuple(map(float, intercept or ())))


def _points(about: Any, findings: list[str], origin: str) -> dict[str, tuple[float | None, ...]]:
    if not isinstance(about, Mapping) or len(about) > _MOST_FINDINGS:
        raise _wrong(origin, "operating_points")
    check_names(about, "operating point", origin)
    for thresholds in about.values():
        if not isinstance(thresholds, Mapping) or list(thresholds) != findings:
            raise _wrong(origin, "operating_points")
        known = [value for value in thresholds.values() if value is not None]
        if not is_numbers(known, len(known)):
            raise _wrong(origin, "operating_points")
    return {
        str(name): tuple(None if value is None else float(value) for value in thresholds.values())
        for name, thresholds in about.items()
    }


def _texts(about: Mapping[str, Any], key: str, origin: str, most: int) -> list[str]:
    values = about.get(key)
    if not isinstance(values, list) or not 1 <= len(values) <= most or not all(type(v) is str for v in values):
        raise _wrong(origin, key)
    if len(set(values)) < len(values):
        raise _wrong(origin, key)
    return values


def _text(about: Mapping[str, Any], key: str, origin: str) -> str:
    value = about.get(key)
    if type(value) is not str or not value.isprintable() or not 0 < len(value) <= 200:
        raise _wrong(origin, key)
    return value


def _wrong(origin: str, key: str) -> CxrError:
    return CxrError(f"{origin} is damaged: {key} is not what export writes; export the run again")
