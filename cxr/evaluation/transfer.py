"""Runs on other data sets: a table and a figure of source and target, from the metrics of `evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.errors import CxrError
from cxr.figures.canvas import draw
from cxr.figures.intervals import transfer_points
from cxr.figures.tables import Table
from cxr.metrics.plain import value_of
from cxr.run.directory import Run, runs_of

_COLUMNS = ("macro_auroc", "macro_ece", "macro_sensitivity")


def transfer(config: Mapping[str, Any]) -> float:
    """Prints and writes the table of runs on their own test split and on other data sets.

    Returns:
        The smallest macro AUROC on another data set.

    Raises:
        CxrError: no run was evaluated on another data set.
    """
    patterns = [config["runs"]] if isinstance(config["runs"], str) else config["runs"]
    runs = list(dict.fromkeys(run for pattern in patterns for run in runs_of(pattern)))
    rows: list[list[Any]] = []
    for run in runs:
        targets = [Run(file.parent) for file in sorted(run.path.glob("external/*/metrics.json"))]
        if targets and run.metrics().get("test"):
            rows.append([run.path.name, "own test", *_cells(run)])
        rows += [[run.path.name, target.path.name, *_cells(target)] for target in targets]
    external = [row for row in rows if row[1] != "own test"]
    if not external:
        raise CxrError(
            f"runs={config['runs']}: none was evaluated on another data set; run python -m cxr evaluate run=RUN "
            "data=NAME data.root=DIR first"
        )
    columns = ["run", "evaluated_on", "images", "findings", *_COLUMNS]
    note = (
        "Operating points (sensitivity of at least 0.9, unless points.sensitivity was changed) and calibration are "
        "fitted on the validation split of the run. Averages are over the findings that run and data set have in "
        "common, so that rows with different numbers of findings are not comparable."
    )
    table = Table("Runs on other data sets", columns, rows, [note], list(_COLUMNS))
    stem = Path(config["out"]) if config["out"] else runs[0].path.parent / "transfer"
    table.write(stem)
    draw(stem.with_name(f"{stem.name}.png"), transfer_points, rows)
    print(table.as_text())
    print(f"tables are {stem}.csv, .md and .tex, the figure is {stem}.png", flush=True)
    return min(value_of(row[4]) for row in external)


def _cells(run: Run) -> list[Any]:
    """Images, findings with an AUROC, and the three averages with their intervals, of the split `test`."""
    test = run.metrics().get("test") or {}
    defined = [name for name, value in (test.get("auroc") or {}).items() if value is not None]
    point = (test.get("operating_points") or {}).get("sensitivity") or {}
    return [test.get("n"), len(defined), test.get("macro_auroc"), test.get("macro_ece"), point.get("macro_sensitivity")]
