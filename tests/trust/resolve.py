"""Asks pip whether every extra can be installed beside requirements.lock: `python tests/trust/resolve.py`.

Only packages that this environment lacks are looked up. Without an answer of the index nothing fails, and the last line
says so.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def verdict() -> tuple[int, str]:
    """Exit code and sentence."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check",
           "--report", "-", "-c", str(ROOT / "requirements.lock")]  # fmt: skip
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
    if "ResolutionImpossible" in done.stderr or "conflicting dependencies" in done.stderr:
        return 1, f"the extras do not resolve beside requirements.lock:\n{done.stderr.strip()}"
    if done.returncode:
        return 0, f"NOT RESOLVED: pip gave no answer: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
    locked = {canonical(line.partition("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    new = {canonical(item["metadata"]["name"]) for item in json.loads(done.stdout)["install"]}
    if new - locked:
        return 1, f"requirements.lock lacks {', '.join(sorted(new - locked))}"
    return 0, f"the extras {', '.join(extras)} resolve beside requirements.lock"


if __name__ == "__main__":
    code, sentence = verdict()
    print(sentence)
    sys.exit(code)
