"""Tables in their four formats."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.figures.tables import Table, auroc_table, method_table

TABLE = Table(
    "a run", ["finding", "n", "auroc", "p"],
    [
        ["Mass", 12, {"value": 0.8123456, "ci": [0.7, 0.9]}, 0.04],
        ["=cmd|'x'", 3, None, None],
        ["a_b & <c>", 0, 0.5, float("nan")],
    ],
    ["own patient split"], ["auroc"],
)  # fmt: skip


def test_csv_has_all_digits_and_ends_of_intervals_in_columns_of_their_own() -> None:
    frame = pd.read_csv(io.StringIO(TABLE.as_csv()))
    assert list(frame.columns) == ["finding", "n", "auroc", "auroc_low", "auroc_high", "p"]
    assert frame.loc[0, "auroc"] == 0.8123456 and frame.loc[0, "auroc_high"] == 0.9
    assert frame["auroc"].isna().tolist() == [False, True, False] and frame["p"].isna().tolist() == [False, True, True]
    assert frame.loc[1, "finding"] == "'=cmd|'x'"


def test_markdown_has_as_many_cells_in_each_row_and_shows_names_as_they_are() -> None:
    lines = [line for line in TABLE.as_markdown().splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}
    assert "0.8123 (0.7000 to 0.9000)" in lines[2] and "&lt;c>" in lines[4] and "| - |" in lines[3]
    assert "- own patient split" in TABLE.as_markdown()


def test_latex_escapes_what_it_would_obey() -> None:
    text = TABLE.as_latex()
    assert r"a b \& \textless{}c\textgreater{}" in text and r"=cmd\textbar{}'x'" in text
    assert "own patient split" in text and r"\caption{a run}" in text


def test_latex_has_three_decimals_and_intervals_below_their_values() -> None:
    lines = TABLE.as_latex().splitlines()
    at = lines.index(r"Mass & 12 & 0.812 & 0.040 \\[-2pt]")
    assert lines[at + 1] == r" &  & {\scriptsize (0.700, 0.900)} &  \\[1pt]"
    assert lines[at + 2].startswith("=cmd") and lines[at + 2].endswith(r"& 3 & -- & -- \\")
    small = Table("", ["finding", "p", "gain"], [["A", 0.0001, {"value": -0.5, "ci": [-0.6, 0.1]}]]).as_latex()
    assert r"A & $<$0.001 & $-$0.500" in small and r"($-$0.600, 0.100)" in small


def test_latex_marks_the_best_of_the_columns_that_have_one() -> None:
    rows = [["a", 0.7], ["b", {"value": 0.9, "ci": [0.8, 1.0]}], ["c_d", None]]
    text = Table("", ["configuration", "macro_auroc"], rows, best="macro_auroc").as_latex()
    assert text.count(r"\textbf") == 1 and r"b & \textbf{0.900}" in text and r"c\_d & --" in text
    assert "configuration" not in text and r"Configuration & Macro AUROC \\" in text
    assert r"\textbf" not in Table("", ["configuration", "macro_auroc"], rows).as_latex()


def test_text_is_aligned() -> None:
    lines = TABLE.as_text().splitlines()
    assert lines[0] == "a run" and lines[-1] == "own patient split"
    ends = {name: lines[1].index(f" {name}") + len(name) + 1 for name in ("n", "auroc")}
    assert lines[2][: ends["n"]].endswith("12")
    assert lines[2][: ends["auroc"]].endswith("0.8123 (0.7000 to 0.9000)")


def test_the_best_of_a_row_is_marked_and_ties_as_printed_are_marked_too() -> None:
    areas = {"a_b": np.array([0.90001, np.nan]), "weighted": np.array([0.9, np.nan]), "c": np.array([0.4, np.nan])}
    table = method_table(auroc_table(areas, ["Mass", "Hernia"]), "AUROC", ["own patient split"])
    text = [line.split() for line in table.as_text().splitlines()]
    assert text[1] == ["finding", "a_b", "weighted", "c"] and text[3] == ["Hernia", "-", "-", "-"]
    assert text[2] == ["Mass", "0.9000*", "0.9000*", "0.4000"] and text[4][2:] == ["0.9000*", "0.9000*", "0.4000"]
    assert "| Mass | **0.9000** | **0.9000** | 0.4000 |" in table.as_markdown().splitlines()
    assert table.as_csv().splitlines()[:3] == ["finding,a_b,weighted,c", "Mass,0.90001,0.9,0.4", "Hernia,,,"]


def test_three_files_are_written(tmp_path: Path) -> None:
    TABLE.write(tmp_path / "out" / "a.b")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.b.csv", "a.b.md", "a.b.tex"]
    assert np.isclose(pd.read_csv(tmp_path / "out" / "a.b.csv")["auroc_low"][0], 0.7)
