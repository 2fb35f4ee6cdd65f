"""Asks the database of known vulnerabilities about requirements.lock: `python tests/trust/audit.py`.

pip-audit lives in an environment of its own, `<this environment>/audit`: it needs sixteen packages, of which rich
changes what Lightning draws. Without an answer of the service nothing fails, and the last line says so.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"
PATIENCE = 120  # seconds


def audited() -> dict[str, Any] | None:
    """pip-audit's report, or none where it or its service is out of reach."""
    folder = Path(sys.prefix) / "audit"
    program = folder / "bin" / "pip-audit"
    try:
        if not program.exists():
            venv.create(folder, with_pip=True)
            install = [
                folder / "bin" / "python",
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "pip-audit",
            ]
            subprocess.run(install, check=True, capture_output=True, timeout=PATIENCE)
        options = ["--requirement", LOCK, "--no-deps", "--disable-pip", "--format", "json", "--timeout", "5"]
        answer = subprocess.run([program, *options], capture_output=True, text=True, timeout=PATIENCE)
        return json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def verdict(report: dict[str, Any] | None) -> tuple[int, str]:
    """Exit code and sentence of a report."""
    if report is None:
        return 0, "NOT AUDITED: pip-audit or its service cannot be reached; run make check where it can"
    known = report["dependencies"]
    skipped = [package["name"] for package in known if "skip_reason" in package]
    found = [
        f"{package['name']} {package['version']}: {', '.join(v['id'] for v in package['vulns'])} "
        f"(fixed in {', '.join(sorted({f for v in package['vulns'] for f in v['fix_versions']})) or 'no version'})"
        for package in known
        if package.get("vulns")
    ]
    if found:
        return 1, "vulnerable: " + "; ".join(found)
    if 2 * len(skipped) > len(known):
        return 0, f"NOT AUDITED: the service knows nothing of {len(skipped)} of {len(known)} packages; is it a mirror?"
    left = f"; not known to it: {', '.join(skipped)}" if skipped else ""
    return 0, f"audited {len(known) - len(skipped)} of {len(known)} packages, none with a known vulnerability{left}"


if __name__ == "__main__":
    code, sentence = verdict(audited())
    print(sentence)
    sys.exit(code)
