"""LaTeX tables that fit a page, with booktabs, three decimals, intervals below their values and names as in papers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

_LINES = 44  # of one table; longer tables continue in another
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # shrinks tables wider than the line
_SIGNS = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}",
}  # fmt: skip
_WORDS = {
    "auroc": "AUROC", "brier": "Brier score", "ece": "ECE", "mcc": "MCC",
    "ppv": "PPV", "npv": "NPV", "f1": "F1", "iou": "IoU", "sd": "SD", "delong": "(DeLong)", "holm": "(Holm)",
}  # fmt: skip
_METHODS = {
    "average": "Average", "geometric": "Geometric mean", "rank average": "Rank average", "max vote": "Maximum vote",
    "hard vote": "Hard vote", "weighted": "Weighted ensemble", "greedy": "Greedy ensemble", "stacking": "Stacking",
    "weighted (robust)": "Weighted ensemble, robust", "greedy (robust)": "Greedy ensemble, robust",
}  # fmt: skip
_NETWORKS = {
    "densenet121": "DenseNet121", "efficientnet_lite0": "EfficientNet-Lite0", "mobilenet": "MobileNet",
    "inception_resnet_v2": "InceptionResNetV2", "mobilenet_v2": "MobileNetV2", "regnet": "RegNetX",
    "resnet10": "ResNet10", "resnet18": "ResNet18", "resnet50": "ResNet50", "vgg19": "VGG19",
    "paper_inception_resnet": "InceptionResNetV2", "paper_mobilenet": "MobileNet", "paper_resnet": "ResNet50",
    "paper_vgg": "VGG19",
}  # fmt: skip
_LOSSES = {"bce": "BCE", "mae": "MAE"}


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: LaTeX.
        below: small print under the cells; nothing if empty.
        group: heading of this row and its neighbours with the same group.
        ruled: whether a rule is above.
    """

    cells: Sequence[str]
    below: Sequence[str] = ()
    group: str = ""
    ruled: bool = False


def tables(caption: str, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """One `table` environment, or several if the rows do not fit a page.

    Args:
        caption: plain text.
        columns: headings, LaTeX; the first is that of the row names.
        rows: as many cells each.
        notes: sentences in small print below the last one, plain text.
    """
    parts = list(_pages(rows))
    texts = [r"% \usepackage{booktabs,graphicx}"]
    for number, part in enumerate(parts):
        title = tex(caption) + (" (continued)" if number else "")
        texts += [
            r"\begin{table}[htbp]",
            r"\centering\small\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{4pt}",
            rf"\caption{{{title}}}",
            _FIT,
        ]
        texts += [rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", " & ".join(columns) + r" \\"]
        texts += [r"\midrule", *_lines(part, len(columns)), r"\bottomrule", r"\end{tabular}}"]
        if notes and number == len(parts) - 1:
            texts += [r"\par\smallskip", rf"{{\footnotesize {' '.join(map(tex, notes))}\par}}"]
        texts += [r"\end{table}"]
    return "\n".join(texts) + "\n"


def _pages(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each table; a group stays together if it fits a page."""
    page: list[Row] = []
    used = 0
    for _, group in groupby(rows, lambda row: row.group):
        members = list(group)
        if page and used + sum(map(_height, members)) > _LINES:
            yield page
            page, used = [], 0
        for row in members:
            if page and used + _height(row) > _LINES:
                yield page
                page, used = [], 0
            page.append(row)
            used += _height(row)
    if page or not rows:
        yield page


def _height(row: Row) -> int:
    return 2 if any(row.below) else 1


def _lines(rows: Sequence[Row], columns: int) -> Iterator[str]:
    group = ""
    for number, row in enumerate(rows):
        if row.group != group:
            group = row.group
            if number:
                yield r"\addlinespace"
            yield rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{group}}}}} \\"
        if row.ruled and number:
            yield r"\midrule"
        yield " & ".join(row.cells) + (r" \\[-2pt]" if any(row.below) else r" \\")
        if any(row.below):
            yield " & ".join(rf"{{\scriptsize {text}}}" if text else "" for text in row.below) + r" \\[1pt]"


def tex(text: object) -> str:
    """Plain text as LaTeX, also safe at the start of a row, where `[` and `*` would be commands."""
    signs = (_SIGNS.get(sign, sign) if sign.isprintable() else "?" for sign in str(text))
    return re.sub("-(?=-)", "-{}", "".join(signs))


def number(value: float, p: bool = False) -> str:
    """Three decimals with a minus sign, `--` for NaN, and `<0.001` for a `p` value that would round to 0."""
    if np.isnan(value):
        return "--"
    return "$<$0.001" if p and value < 0.0005 else f"{value:.3f}".replace("-", "$-$")


def bold(text: str) -> str:
    """LaTeX in bold."""
    return rf"\textbf{{{text}}}"


def heading(name: str) -> str:
    """A column or operating point as papers name it: `macro_auroc` becomes `Macro AUROC`."""
    if name in ("p", "p_holm"):
        return "$p$" + " (Holm)" * (name == "p_holm")
    words = name.replace("average_precision", "AP").split("_")
    text = " ".join(_WORDS.get(word, word) for word in words)
    return tex(text[:1].upper() + text[1:])


def method(name: str) -> str:
    """A model or method as papers name it: `weighted` becomes `Weighted ensemble`, `paper_vgg` becomes `VGG19`."""
    first, *others = name.split("-")
    if first in _NETWORKS:
        return tex(", ".join([_NETWORKS[first], *(_LOSSES.get(part, part) for part in others)]))
    return tex(_METHODS.get(name, name))
