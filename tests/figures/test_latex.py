"""LaTeX tables: what is in them, that they fit a page, and, where pdflatex is installed, that it sets them."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cxr.figures import latex
from cxr.figures.tables import Table, auroc_table, method_table

UGLY = ["Cost $5 {x$", "[a] b", "*b", "a--b---c", "#%&_~^\\", "<x>|`y'\""]
LONG = Table(
    "operating points",
    ["point", "threshold", "sensitivity", "ppv"],
    [
        [f"{rule}: finding {k}", 0.5, {"value": 0.5, "ci": [0.4, 0.6]}, {"value": 0.1, "ci": [0.0, 0.2]}]
        for rule in ("half", "youden", "f1")
        for k in range(15)
    ],
    ["Thresholds were chosen on validation."],
)


def environments(text: str) -> list[str]:
    return re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)


def test_the_table_of_methods_has_a_caption_rules_names_and_the_best_in_bold(tmp_path: Path) -> None:
    areas = {
        "paper_vgg": np.array([0.70004, 0.5]),
        "resnet50-mae": np.array([0.7, 0.61]),
        "max vote": np.array([np.nan, 0.6]),
        "weighted": np.array([0.6, 0.7]),
    }
    table = method_table(auroc_table(areas, ["Pleural_Thickening", "Mass"]), "Of a_b", ["Split: 50 % own."])
    table.write(tmp_path / "table")
    lines = (tmp_path / "table.tex").read_text().splitlines()
    assert r"\caption{Of a\_b. The best of each row is bold.}" in lines
    top = lines.index(r"\toprule")
    assert lines[top + 1] == r"Finding & VGG19 & ResNet50, MAE & Maximum vote & Weighted ensemble \\"
    assert lines[top + 2] == r"\midrule"
    assert lines[top + 3] == r"Pleural Thickening & \textbf{0.700} & \textbf{0.700} & -- & 0.600 \\", "as printed"
    assert lines[top + 4] == r"Mass & 0.500 & 0.610 & 0.600 & \textbf{0.700} \\"
    assert lines[top + 5] == r"\midrule"
    assert lines[top + 6] == r"macro average & 0.600 & \textbf{0.655} & 0.600 & 0.650 \\"
    assert lines[top + 7] == r"\bottomrule" and r"{\footnotesize Split: 50 \% own.\par}" in lines


def test_long_tables_are_continued_with_their_groups_together() -> None:
    parts = environments(LONG.as_latex())
    assert len(parts) == 3
    for part, rule in zip(parts, ("Half", "Youden", "F1"), strict=True):
        assert re.findall(r"\\multicolumn\{4\}\{l\}\{\\textit\{(\w+)\}\}", part) == [rule]
        assert len(re.findall(r"^finding \d+ & 0.500 & 0.500 & 0.100", part, re.MULTILINE)) == 15
        assert part.count(r" \\") <= 46
    assert ["(continued)" in part for part in parts] == [False, True, True]
    assert ["Thresholds" in part for part in parts] == [False, False, True]


def test_a_group_that_no_page_takes_is_broken() -> None:
    rows = [[f"finding {k}", {"value": 0.5, "ci": [0.4, 0.6]}] for k in range(60)]
    parts = environments(Table("", ["finding", "auroc"], rows).as_latex())
    assert [len(re.findall(r"^finding", part, re.MULTILINE)) for part in parts] == [22, 22, 16]


def test_wide_tables_shrink_to_the_line_and_others_stay() -> None:
    for part in environments(LONG.as_latex()):
        assert r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" in part


@pytest.mark.parametrize(
    ("plain", "printed"),
    [
        ("Cost $5 {x$", r"Cost \$5 \{x\$"), ("[a] b", "{[}a] b"), ("*b", "{*}b"), ("a---b-c", "a-{}-{}-b-c"),
        ("a\\_", r"a\textbackslash{}\_"), ("a\nb", "a?b"), ("é", "é"),
    ],
)  # fmt: skip
def test_names_are_printed_as_they_are(plain: str, printed: str) -> None:
    assert latex.tex(plain) == printed


@pytest.mark.parametrize(
    ("name", "proper"),
    [
        ("hard vote", "Hard vote"), ("paper_resnet", "ResNet50"), ("mobilenet-location", "MobileNet, location"),
        ("my_run", r"my\_run"), ("lr-0.01", "lr-0.01"), ("seed-0", "seed-0"), ("average", "Average"),
    ],
)  # fmt: skip
def test_methods_and_networks_have_the_names_of_papers(name: str, proper: str) -> None:
    assert latex.method(name) == proper


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_sets_them_within_the_margins(tmp_path: Path) -> None:
    columns = [f"a_run_with_a_long_name_{k}" for k in range(12)]
    areas = {name: np.random.default_rng(0).random(len(UGLY)) for name in columns}
    method_table(auroc_table(areas, UGLY), " ".join(UGLY), UGLY).write(tmp_path / "wide")
    (tmp_path / "long.tex").write_text(LONG.as_latex())
    inputs = r"\input{wide}\input{long}\clearpage\end{document}"
    (tmp_path / "all.tex").write_text(r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + inputs)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stdout[-2000:]
    assert "Overfull" not in said.stdout and (tmp_path / "all.pdf").is_file()
