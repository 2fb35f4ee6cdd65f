"""The numbers beside their peers: `python benchmarks/numbers.py [ROW ...]`; docs/benchmarks.md explains the rows.

The rows of metrics and those of ensembles run in processes of their own, since each sets its threads.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import subprocess

PARTS = {
    "numbers_metrics.py": ("auroc_sklearn", "auroc_torchmetrics", "auroc_full", "bootstrap"),
    "numbers_ensemble.py": ("sweep", "search", "stage", "memory"),
}


def main(chosen: list[str]) -> int:
    every = [row for rows in PARTS.values() for row in rows]
    unknown = sorted(set(chosen) - set(every))
    if unknown:
        print(f"error: unknown row {', '.join(unknown)}; rows are {', '.join(every)}", file=sys.stderr)
        return 2
    codes = []
    for part, rows in PARTS.items():
        mine = [row for row in rows if not chosen or row in chosen]
        if mine:
            codes.append(subprocess.run([sys.executable, str(Path(__file__).with_name(part)), *mine]).returncode)
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
