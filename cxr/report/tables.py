"""Tables of AUROC: findings down, models and ensemble methods across, the macro average last."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.files import replacing, write_text
from cxr.metrics.auroc import macro

MACRO = "macro average"


def auroc_table(areas: Mapping[str, NDArray[np.float64]], findings: Sequence[str]) -> pd.DataFrame:
    """One column a model or method from its (L,) AUROC values; the last row is the mean of the defined ones."""
    columns = {name: [*values, macro(values)] for name, values in areas.items()}
    return pd.DataFrame(columns, index=pd.Index([*findings, MACRO], name="finding"))


def as_text(table: pd.DataFrame, title: str) -> str:
    """The table for a terminal, the best value of each row marked with a star."""
    names = [str(column) for column in table.columns]
    left = max(len(title), *(len(str(name)) for name in table.index))
    widths = [max(7, len(name)) for name in names]
    lines = [title.ljust(left) + "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for finding, row in table.iterrows():
        if finding == MACRO:
            lines.append("-" * len(lines[0]))
        best = row.max()
        cells = [f"{'-' if np.isnan(v) else f'{v:.4f}'}{'*' if v == best else ' '}" for v in row]
        lines.append(str(finding).ljust(left) + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return "\n".join(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, the best value of each row in bold."""
    names = [str(column).replace("|", "\\|") for column in table.columns]
    lines = [f"| finding | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for finding, row in table.iterrows():
        best = row.max()
        cells = ["-" if np.isnan(v) else f"**{v:.4f}**" if v == best else f"{v:.4f}" for v in row]
        lines.append(f"| {finding} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_table(table: pd.DataFrame, stem: Path) -> None:
    """Writes `<stem>.csv`, with all digits, and `<stem>.md`."""
    with replacing(stem.with_suffix(".csv")) as temporary:
        table.to_csv(temporary)
    write_text(stem.with_suffix(".md"), as_markdown(table))
