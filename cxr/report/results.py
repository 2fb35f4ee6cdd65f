"""Tables of results whose cells may carry an interval, for a terminal, as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.files import write_text
from cxr.report.tables import escaped, no_formula, printable


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
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

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
        """A `tabular` with rules of the package booktabs; title and notes are comments above it."""
        cells = [[_tex(text) for text in row] for row in [self.columns, *map(_shown, self.rows)]]
        lines = [" & ".join(row) + r" \\" for row in cells]
        above = [f"% {printable(text)}" for text in (self.title, *self.notes)]
        begin = rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}"
        body = [begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*above, *body]) + "\n"

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


def _tex(text: object) -> str:
    special = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }  # fmt: skip
    return "".join(special.get(sign, sign) for sign in printable(text))
