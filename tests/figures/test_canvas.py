"""What all figures share: names are drawn literally, nothing overlaps, and a failing picture is only a warning."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cxr.errors import CxrError
from cxr.figures import attention, canvas, curves, intervals, labels, landscape, learning
from cxr.findings import NIH14
from tests.figures.drawing import (
    GROUPS,
    LABELS,
    MANY,
    MODELS,
    NAN,
    auroc_table,
    case,
    evaluated,
    grid_of_mixtures,
    random_labels,
    random_log,
    texts,
)

TARGET = random_labels(MANY).to_numpy()
RARE = np.where(np.arange(40) % 7, TARGET * 0.8, 0.02)
DRAWN: dict[str, Callable[[], Figure]] = {
    "prevalence of 40": lambda: labels.prevalence(random_labels(MANY), MANY),
    "prevalence of 1": lambda: labels.prevalence(LABELS, ["A"]),
    "co-occurrence of 14": lambda: labels.cooccurrence(random_labels(list(NIH14)), NIH14, "all"),
    "co-occurrence of 1": lambda: labels.cooccurrence(LABELS, ["Pleural_B"], "one"),
    "ROC of 21": lambda: curves.roc_curves(TARGET[:, -21:], 1 - TARGET[:, -21:], MANY[-21:], "run " * 40),
    "ROC of 1": lambda: curves.roc_curves(TARGET[:, :1], TARGET[:, 1:2], MANY[:1], "a"),
    "precision of 14": lambda: curves.precision_recall_curves(TARGET[:, :14], RARE[:, :14], NIH14, "a"),
    "reliability of 14": lambda: curves.reliability(TARGET[:, :14], RARE[:, :14], NIH14, "a", np.arange(80)),
    "reliability of 1": lambda: curves.reliability(TARGET[:, :1], RARE[:, :1], MANY[-1:], "run " * 40, np.arange(80)),
    "intervals of 40": lambda: intervals.forest(evaluated(MANY), MANY, "run " * 40),
    "subgroups": lambda: intervals.subgroup_points(GROUPS, "a"),
    "learning of 30": lambda: learning.learning_curves(random_log(30), "run " * 40, 3),
    "learning of 1": lambda: learning.learning_curves(random_log(1), "a", 0),
    "comparison of 40": lambda: intervals.comparison(auroc_table(MANY), "a"),
    "comparison of 1": lambda: intervals.comparison(auroc_table(["A"]).iloc[:, :1], "a"),
    "ensemble of 2": lambda: landscape.ensemble_landscape(grid_of_mixtures(2), MODELS[:2], "AUROC"),
    "ensemble of 3": lambda: landscape.ensemble_landscape(grid_of_mixtures(3), MODELS[:3], "AUROC"),
    "ensemble of 5": lambda: landscape.ensemble_landscape(grid_of_mixtures(5), MODELS, "AUROC"),
    "attention": lambda: attention.attention_maps([case(s, t) for s in (0.1, 0.9) for t in (0, 1, NAN)], "a"),
}
UGLY = ["Cost $5 {x$", r"$\frac$", r"a\$b$", "_under_ 50 % & #1 ~^", "x" * 90]
SCORE = np.random.default_rng(0).random((80, len(UGLY)))
NAMED: dict[str, Callable[[], Figure]] = {
    "prevalence": lambda: labels.prevalence(random_labels(UGLY), UGLY),
    "cooccurrence": lambda: labels.cooccurrence(random_labels(UGLY), UGLY, UGLY[0]),
    "roc": lambda: curves.roc_curves(random_labels(UGLY).to_numpy(), SCORE, UGLY, UGLY[0]),
    "precision": lambda: curves.precision_recall_curves(random_labels(UGLY).to_numpy(), SCORE, UGLY, UGLY[0]),
    "reliability": lambda: curves.reliability(random_labels(UGLY).to_numpy(), SCORE, UGLY, UGLY[0], np.arange(80)),
    "intervals": lambda: intervals.forest(evaluated(UGLY), UGLY, UGLY[0]),
    "subgroups": lambda: intervals.subgroup_points(GROUPS, UGLY[0]),
    "comparison": lambda: intervals.comparison(auroc_table(UGLY).set_axis(UGLY, axis=1), UGLY[0]),
    "learning": lambda: learning.learning_curves(random_log(3), UGLY[0], 0),
    "attention": lambda: attention.attention_maps([case(finding=UGLY[0], image_name=UGLY[1])], UGLY[2]),
    "landscape": lambda: landscape.ensemble_landscape(
        grid_of_mixtures(2).set_axis([*UGLY[:2], "value"], axis=1), UGLY[:2], "AUROC"
    ),
}


@pytest.mark.parametrize("before", [None, b"the picture of yesterday"])
def test_a_drawing_that_fails_is_a_warning_and_leaves_the_former_picture(
    tmp_path: Path, before: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(figure: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half of a picture")
        raise ValueError("the renderer broke\nsecond line")

    monkeypatch.setattr(Figure, "savefig", half)
    path = tmp_path / "roc.png"
    if before is not None:
        path.write_bytes(before)
    canvas.draw(path, intervals.comparison, auroc_table(["A"]), "a")
    assert capsys.readouterr().out == f"WARNING: the figure {path} cannot be drawn: the renderer broke\n"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises(CxrError, match=r"cannot write .*roc\.png"):
        canvas.draw(tmp_path / "figures" / "roc.png", intervals.comparison, auroc_table(["A"]), "a")


@pytest.mark.parametrize("name", NAMED)
def test_a_figure_with_any_names_is_written_and_the_same_again(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "figures" / "a.png", tmp_path / "b.png"
    for path in (first, second):
        canvas.draw(path, NAMED[name])
    assert capsys.readouterr().out == "" and first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.format == "PNG" and np.ptp(np.asarray(picture.convert("L"))) > 100


def test_a_legend_leaves_no_name_out() -> None:
    names = ["_hidden", "$x$", "c"]
    table = pd.DataFrame(np.full((2, 3), 0.7), index=["A", "macro average"], columns=names)
    (legend,) = intervals.comparison(table, "").legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{name} (0.700)" for name in names]
    mixtures = grid_of_mixtures(4).set_axis([*names, "d", "value"], axis=1)
    (legend,) = landscape.ensemble_landscape(mixtures, [*names, "d"], "AUROC").legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "d"]


def test_names_of_groups_are_unchanged() -> None:
    (axes,) = intervals.subgroup_points(GROUPS, "").axes
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert names == ["sex: F", f"sex: {'M ' * 30}".strip(), "sex: $x_{", "sex: _"]


def test_a_dollar_is_drawn_as_the_sign_that_it_is() -> None:
    """Beside a font that has the same glyphs but no formula: the text's path is that of the characters in turn."""
    from matplotlib.textpath import TextPath

    figure = canvas.blank(6, 2)
    text = figure.text(0.1, 0.5, "Cost $5 {x$")
    tick = figure.add_subplot()
    tick.set_xticks([0.5], ["$a_b$"])
    figure.canvas.draw()
    expected = TextPath((0, 0), r"Cost \$5 {x\$", size=10).get_extents().width * canvas.DPI / 72
    assert text.get_window_extent().width == pytest.approx(expected, rel=0.05)
    widths = [label.get_window_extent().width for label in tick.get_xticklabels()]
    plain = TextPath((0, 0), r"\$a_b\$", size=10).get_extents().width * canvas.DPI / 72
    assert widths[0] == pytest.approx(plain, rel=0.08)


def test_no_tick_shows_the_markup_of_a_formula() -> None:
    figure = learning.learning_curves(random_log(3).assign(lr=[1e-1, 1e-3, 1e-5]), "", 0)
    figure.canvas.draw()
    assert not [text for text in texts(figure) if "$" in text or "mathdefault" in text]
    ticks = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert {"0.1", "0.001", "1e-05"} <= set(ticks)


@pytest.mark.parametrize("name", DRAWN)
def test_tick_labels_titles_and_legend_do_not_overlap(name: str) -> None:
    figure = DRAWN[name]()
    figure.canvas.draw()
    page = figure.bbox
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        drawn = [box.padded(-0.5) for box in labels if page.contains(box.x0, box.y0)]
        assert not any(one.overlaps(other) for one, other in combinations(drawn, 2))
    frames = [axes.get_window_extent() for axes in figure.axes]
    apart = [*figure.texts, *figure.legends]
    apart += [label for label in (figure._suptitle, figure._supxlabel) if label is not None and label not in apart]  # type: ignore[attr-defined]
    boxes = [artist.get_window_extent() for artist in apart]
    for box in boxes:
        assert page.x0 - 1 <= box.x0
        assert box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0
        assert box.y1 <= page.y1 + 1
        assert not any(box.overlaps(frame) for frame in frames)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_figures_change_no_global_state(tmp_path: Path) -> None:
    from matplotlib import pyplot, rcParams

    before = dict(rcParams)
    canvas.draw(tmp_path / "a.png", labels.prevalence, LABELS, ["A"])
    assert pyplot.get_fignums() == [] and dict(rcParams) == before
