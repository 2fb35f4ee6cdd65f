"""Tables of results whose cells may carry an interval, for a terminal, as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.figures import latex
from cxr.figures.tables import MACRO, escaped, no_formula, printable
from cxr.files.writing import write_text


@dataclass(frozen=True)
class WithInterval:
    """A number and its interval; NaN where undefined."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def of(cls, plain: object) -> "WithInterval":
        """From `metrics.json`: a number, `{"value": x, "ci": [low, high]}`, or null."""
        if isinstance(plain, dict):
            return cls(float(plain["value"]), *(float(end) for end in plain["ci"]))
        return cls(float("nan") if plain is None else float(plain))  # type: ignore[arg-type]

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.4f}" if np.isnan(self.low) else f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


Cell = int | float | str | WithInterval | None


@dataclass(frozen=True)
class Results:
    """A table.

    Attributes:
        title: what it shows.
        columns: headings; the first is that of the names of rows.
        rows: as many cells each as there are columns.
        notes: sentences below it, such as which split this is.
        best: columns whose greatest value is bold in LaTeX.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    best: Sequence[str] = ()

    def as_text(self) -> str:
        """For a terminal."""
        cells = [[printable(text) for text in row] for row in [self.columns, *map(_shown, self.rows)]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        return "\n".join([self.title, *lines, *self.notes])

    def as_markdown(self) -> str:
        """A Markdown table with its title above and its notes below."""
        cells = [[escaped(text) for text in row] for row in [self.columns, *map(_shown, self.rows)]]
        ruled = [cells[0], ["---", *["---:"] * (len(self.columns) - 1)], *cells[1:]]
        lines = [f"| {' | '.join(row)} |" for row in ruled]
        return "\n".join([escaped(self.title), "", *lines, "", *(f"- {escaped(note)}" for note in self.notes)]) + "\n"

    def as_latex(self) -> str:
        """Tables of the packages booktabs and graphicx, no wider and no longer than a page, see `cxr.figures.latex`."""
        rows = [self._latex_row(row) for row in self.rows]
        return latex.tables(self.title, [latex.heading(name) for name in self.columns], rows, self.notes)

    def _latex_row(self, row: Sequence[Cell]) -> latex.Row:
        first, group = str(row[0]), ""
        if self.columns[0] != "configuration":  # the names of runs stay as they are
            first = first.replace("_", " ")
        if self.columns[0] in ("point", "group"):
            group, _, first = first.partition(": ")
        cells, below = [latex.tex(first)], [""]
        for k, cell in enumerate(row[1:], 1):
            text, small = _latex(cell, self.columns[k])
            best = self.columns[k] in self.best and _value(cell) == max(_value(other[k]) for other in self.rows)
            cells.append(latex.bold(text) if best else text)
            below.append(small)
        return latex.Row(cells, below, latex.heading(group), apart=first == MACRO)

    def as_csv(self) -> str:
        """All digits; a column with intervals is three, `<name>`, `<name>_low` and `<name>_high`."""
        wide = [any(isinstance(row[k], WithInterval) for row in self.rows) for k in range(len(self.columns))]
        names: list[str] = []
        for name, three in zip(self.columns, wide, strict=True):
            names += [name, f"{name}_low", f"{name}_high"] if three else [name]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(no_formula, names))
        for row in self.rows:
            values: list[object] = []
            for cell, three in zip(row, wide, strict=True):
                if three:
                    one = cell if isinstance(cell, WithInterval) else WithInterval.of(cell)
                    values += [_digits(number) for number in (one.value, one.low, one.high)]
                else:
                    values.append(no_formula(cell) if isinstance(cell, str) else _digits(cell))
            writer.writerow(values)
        return text.getvalue()

    def write(self, stem: Path) -> None:
        """Writes `<stem>.csv`, `<stem>.md` and `<stem>.tex`."""
        for suffix, text in ((".csv", self.as_csv()), (".md", self.as_markdown()), (".tex", self.as_latex())):
            write_text(stem.with_name(stem.name + suffix), text)


def _shown(row: Sequence[Cell]) -> list[str]:
    return ["-" if cell is None else f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row]


def _digits(number: object) -> object:
    return "" if number is None or (isinstance(number, float) and np.isnan(number)) else number


def _latex(cell: Cell, column: str) -> tuple[str, str]:
    """A cell and, if it has one, its interval."""
    if isinstance(cell, WithInterval):
        ends = "" if np.isnan(cell.low) else f"({latex.number(cell.low)}, {latex.number(cell.high)})"
        return latex.number(cell.value), ends
    if cell is None or isinstance(cell, float):
        return latex.number(cell, p=column in ("p", "p_holm")), ""
    return latex.tex(cell), ""


def _value(cell: Cell) -> float:
    """For the greatest of a column; what is undefined is least."""
    value = cell.value if isinstance(cell, WithInterval) else cell
    return float(value) if isinstance(value, int | float) and not np.isnan(value) else -np.inf
