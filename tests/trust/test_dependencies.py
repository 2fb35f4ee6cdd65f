"""The lock file holds no release that is known to have been malware."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.trust.audit import verdict

ROOT = Path(__file__).parents[2]
MALWARE = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}  # GHSA-w37p-236h-pfx3


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pairs = [re.split(r"==", line.split(";")[0].strip(), maxsplit=1) for line in lines if line and line[0] not in "#-"]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


@pytest.mark.parametrize("name", MALWARE)
def test_lock_file_has_no_lightning_that_was_malware(name: str) -> None:
    assert locked()[name] not in MALWARE[name]


def test_project_itself_refuses_lightning_that_was_malware() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {(r := Requirement(text)).name: r for text in project["dependencies"]}
    assert not any(wanted["lightning"].specifier.contains(version) for version in MALWARE["lightning"])


def test_every_line_of_the_lock_file_is_one_exact_version() -> None:
    versions = locked()
    assert len(versions) > 50
    assert all(re.fullmatch(r"[0-9][A-Za-z0-9.+!_-]*", version) for version in versions.values())


def package(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "version": "1.0", "vulns": []} | more


HOLE = {"id": "GHSA-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        (None, 0, "NOT AUDITED: pip-audit or its service cannot be reached"),
        ([package("a"), package("b")], 0, "audited 2 of 2 packages, none with a known vulnerability"),
        ([package("a", vulns=[HOLE]), package("b")], 1, "vulnerable: a 1.0: GHSA-1 (fixed in 1.1)"),
        ([{"name": "a", "skip_reason": "x"}, {"name": "b", "skip_reason": "x"}, package("c")], 0, "NOT AUDITED: the"),
        ([{"name": "a", "skip_reason": "x"}, package("b", vulns=[HOLE])], 1, "vulnerable: b 1.0"),
        ([{"name": "a", "skip_reason": "x"}, package("b"), package("c")], 0, "not known to it: a"),
    ],
)
def test_audit_fails_on_a_vulnerability_and_reports_when_it_could_not_check(
    packages: list[dict[str, object]] | None, code: int, words: str
) -> None:
    given, sentence = verdict(None if packages is None else {"dependencies": packages})
    assert given == code and words in sentence
