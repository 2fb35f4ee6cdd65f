"""Tables of AUROC: findings down, models and ensemble methods across, the macro average last."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.figures import latex
from cxr.files.writing import replacing, write_text
from cxr.metrics.auroc import macro

MACRO = "macro average"


def auroc_table(areas: Mapping[str, NDArray[np.float64]], findings: Sequence[str]) -> pd.DataFrame:
    """One column a model or method from its (L,) AUROC values; the last row is the mean of the defined ones."""
    columns = {name: [*values, macro(values)] for name, values in areas.items()}
    return pd.DataFrame(columns, index=pd.Index([*findings, MACRO], name="finding"))


def as_text(table: pd.DataFrame, title: str) -> str:
    """The table for a terminal, the best value of each row marked with a star."""
    names = [printable(column) for column in table.columns]
    left = max(len(title), *(len(printable(name)) for name in table.index))
    widths = [max(7, len(name)) for name in names]
    lines = [title.ljust(left) + "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for finding, row in table.iterrows():
        if finding == MACRO:
            lines.append("-" * len(lines[0]))
        best = row.max()
        cells = [f"{'-' if np.isnan(v) else f'{v:.4f}'}{'*' if v == best else ' '}" for v in row]
        lines.append(
            printable(finding).ljust(left) + "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True))
        )
    return "\n".join(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, the best value of each row in bold."""
    names = [escaped(column) for column in table.columns]
    lines = [f"| finding | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for finding, row in table.iterrows():
        best = row.max()
        cells = ["-" if np.isnan(v) else f"**{v:.4f}**" if v == best else f"{v:.4f}" for v in row]
        lines.append(f"| {escaped(finding)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_latex(table: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """The table in LaTeX, see `cxr.figures.latex`; the best value of each row, and what is printed like it, in bold."""
    rows = []
    for finding, row in table.iterrows():
        cells = [latex.number(value) for value in row]
        best = latex.number(row.max())
        marked = [latex.bold(cell) if cell == best and not np.isnan(row.max()) else cell for cell in cells]
        name = str(finding).replace("_", " ")
        rows.append(latex.Row([latex.tex(name), *marked], apart=finding == MACRO))
    return latex.tables(caption, ["Finding", *(latex.method(str(name)) for name in table.columns)], rows, notes)


def escaped(name: object) -> str:
    """A name as a cell of a Markdown table that shows it as it is: no cell ends in it, nothing is taken for markup."""
    text = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace("$", "&#36;").replace("\\", "\\\\")
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word `_` is no emphasis
    return "".join(f"\\{sign}" if sign in "|`*[]~" else sign for sign in text)


def printable(name: object) -> str:
    """A name without line breaks and other signs that move a cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(name))


def no_formula(name: object) -> str:
    """A name on one line that no spreadsheet takes for a formula."""
    text = printable(name)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def write_table(
    table: pd.DataFrame, stem: Path, notes: Sequence[str] = (), caption: str = "AUROC of each finding"
) -> None:
    """Writes `<stem>.csv`, with all digits, and `<stem>.md` and `<stem>.tex`, with the notes below.

    A name that a spreadsheet would take for a formula gets an apostrophe before it in the CSV file.
    """
    with replacing(stem.with_suffix(".csv")) as temporary:
        table.rename(index=no_formula, columns=no_formula).to_csv(temporary)
    below = "".join(f"\n{escaped(note)}\n" for note in notes)
    write_text(stem.with_suffix(".md"), as_markdown(table) + below)
    write_text(stem.with_suffix(".tex"), as_latex(table, f"{caption}. The best of each row is bold.", notes))
