"""Tables of results, for a terminal and as CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.figures import latex
from cxr.files.writing import write_text
from cxr.findings import no_formula, printable
from cxr.metrics.auroc import macro
from cxr.metrics.plain import interval_of, value_of

MACRO = "macro average"
Cell = Any  # text, an int, or a number as in `metrics.json`: a float, {"value": x, "ci": [low, high]} or None


@dataclass(frozen=True)
class Table:
    """A table of texts and of numbers with intervals.

    Attributes:
        title: caption.
        columns: headings; the first is that of the row names.
        rows: as many cells each as there are columns.
        notes: sentences below the table, such as which split this is.
        intervals: columns that have the further columns `<name>_low` and `<name>_high` in CSV.
        best: `row` marks the greatest number of each row, except in CSV; the name of a column, that of the column in
            LaTeX.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    intervals: Sequence[str] = ()
    best: str = ""

    def as_text(self) -> str:
        """For a terminal; the best of a row has a star."""
        cells = self._texts(printable, "{}*", "{} " if self.best == "row" else "{}")
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        return "\n".join([self.title, *lines, *self.notes])

    def as_markdown(self) -> str:
        """A Markdown table with its title above and its notes below; the best of a row is bold."""
        cells = self._texts(escaped, "**{}**", "{}")
        ruled = [cells[0], ["---", *["---:"] * (len(self.columns) - 1)], *cells[1:]]
        lines = [f"| {' | '.join(row)} |" for row in ruled]
        return "\n".join([escaped(self.title), "", *lines, "", *(f"- {escaped(note)}" for note in self.notes)]) + "\n"

    def as_latex(self) -> str:
        """Tables of the packages booktabs and graphicx, no wider and no longer than a page, see `cxr.figures.latex`."""
        name = latex.method if self.best == "row" else latex.heading
        headings = [latex.heading(self.columns[0]), *map(name, self.columns[1:])]
        title = f"{self.title}. The best of each row is bold." if self.best == "row" else self.title
        return latex.tables(title, headings, [self._latex_row(row) for row in self.rows], self.notes)

    def as_csv(self) -> str:
        """All digits, without title and notes. A name that a spreadsheet would run as a formula starts with `'`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        ends = ("", "_low", "_high")
        writer.writerow(
            no_formula(f"{name}{end}") for name in self.columns for end in ends[: 3 if name in self.intervals else 1]
        )
        for row in self.rows:
            values: list[object] = []
            for name, cell in zip(self.columns, row, strict=True):
                values += interval_of(cell) if name in self.intervals else [cell]
            writer.writerow(
                no_formula(v) if isinstance(v, str) else "" if v is None or np.isnan(v) else v  # type: ignore[call-overload]
                for v in values
            )
        return text.getvalue()

    def write(self, stem: Path) -> None:
        """Writes `<stem>.csv`, `<stem>.md` and `<stem>.tex`."""
        for suffix, text in ((".csv", self.as_csv()), (".md", self.as_markdown()), (".tex", self.as_latex())):
            write_text(stem.with_name(stem.name + suffix), text)

    def _texts(self, clean: Callable[[object], str], marked: str, unmarked: str) -> list[list[str]]:
        """Headings and rows with four decimals; `marked` and `unmarked` format the cells of a row after its name."""
        cells = [[clean(name) for name in self.columns]]
        for row in self.rows:
            shown = [clean(_four_decimals(cell)) for cell in row]
            best = [self.best == "row" and self._is_best(row, k, _four_decimals) for k in range(1, len(row))]
            forms = (marked if mark else unmarked for mark in best)
            cells.append([shown[0], *(form.format(text) for form, text in zip(forms, shown[1:], strict=True))])
        return cells

    def _latex_row(self, row: Sequence[Cell]) -> latex.Row:
        first, group = str(row[0]), ""
        if self.columns[0] != "configuration":  # names of runs stay unchanged
            first = first.replace("_", " ")
        if self.columns[0] in ("point", "group"):
            group, _, first = first.partition(": ")
        cells, below = [latex.tex(first)], [""]
        for k, cell in enumerate(row[1:], 1):
            text, ends = latex.tex(cell), ""
            if not isinstance(cell, int | str):
                value, low, high = interval_of(cell)
                text = latex.number(value, p=self.columns[k] in ("p", "p_holm"))
                ends = "" if np.isnan(low) else f"({latex.number(low)}, {latex.number(high)})"
            cells.append(latex.bold(text) if self._is_best(row, k, latex.number) else text)
            below.append(ends)
        return latex.Row(cells, below, latex.heading(group), ruled=first == MACRO)

    def _is_best(self, row: Sequence[Cell], k: int, shown: Callable[[Cell], str]) -> bool:
        """Whether a cell is `shown` like the greatest number of its row or column, whichever `best` names."""
        if self.best not in ("row", self.columns[k]):
            return False
        values = [value_of(cell) for cell in (row[1:] if self.best == "row" else (other[k] for other in self.rows))]
        return not np.isnan(values).all() and shown(value_of(row[k])) == shown(float(np.nanmax(values)))


def auroc_table(areas: Mapping[str, NDArray[np.float64]], findings: Sequence[str]) -> pd.DataFrame:
    """One column per model or method from its (L,) AUROC values; the last row is the mean of the defined ones."""
    columns = {name: [*values, macro(values)] for name, values in areas.items()}
    return pd.DataFrame(columns, index=pd.Index([*findings, MACRO], name="finding"))


def method_table(areas: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> Table:
    """The values of `auroc_table` as a table that marks the best of each row."""
    rows = [[str(finding), *map(float, row)] for finding, row in areas.iterrows()]
    return Table(title, ["finding", *map(str, areas.columns)], rows, notes, best="row")


def escaped(name: object) -> str:
    """A name as a cell of a Markdown table that displays it unchanged: nothing in it is read as markup."""
    text = printable(name).replace("&", "&amp;").replace("<", "&lt;").replace("$", "&#36;").replace("\\", "\\\\")
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word `_` is not emphasis
    return "".join(f"\\{sign}" if sign in "|`*[]~" else sign for sign in text)


def _four_decimals(cell: Cell) -> str:
    if isinstance(cell, int | str):
        return str(cell)
    value, low, high = interval_of(cell)
    if np.isnan(value):
        return "-"
    return f"{value:.4f}" if np.isnan(low) else f"{value:.4f} ({low:.4f} to {high:.4f})"
