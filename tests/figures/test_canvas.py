"""What all pictures share: names are drawn as written, and a picture that fails costs nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cxr.errors import CxrError
from cxr.figures import canvas, figures, intervals, learning, maps
from tests.figures.drawing import GROUPS, auroc_table, case, grid_of_mixtures, judged, random_labels, random_log, texts


@pytest.mark.parametrize("before", [None, b"the picture of yesterday"])
def test_a_drawing_that_fails_is_said_in_a_sentence_and_leaves_what_was_there(
    tmp_path: Path, before: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(figure: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half of a picture")
        raise ValueError("the renderer broke\nsecond line")

    monkeypatch.setattr(Figure, "savefig", half)
    path = tmp_path / "roc.png"
    if before is not None:
        path.write_bytes(before)
    figures.comparison(auroc_table(["A"]), path=path)
    assert capsys.readouterr().out == f"WARNING: the picture {path} cannot be drawn: the renderer broke\n"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises(CxrError, match=r"cannot write .*roc\.png"):
        figures.comparison(auroc_table(["A"]), tmp_path / "figures" / "roc.png")


UGLY = ["Cost $5 {x$", r"$\frac$", r"a\$b$", "_under_ 50 % & #1 ~^", "x" * 90]


def test_names_are_drawn_as_they_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, score = random_labels(UGLY).to_numpy(), np.random.default_rng(0).random((80, len(UGLY)))
    table = pd.DataFrame(np.full((2, len(UGLY)), 0.7), index=["$x_{$", "B"], columns=UGLY)
    mixtures = grid_of_mixtures(2).set_axis([*UGLY[:2], "value"], axis=1)
    pictures: dict[str, Callable[[Path], None]] = {
        "prevalence": lambda path: figures.prevalence(random_labels(UGLY), UGLY, path),
        "cooccurrence": lambda path: figures.cooccurrence(random_labels(UGLY), UGLY, path, UGLY[0]),
        "roc": lambda path: figures.roc_curves(target, score, UGLY, path, UGLY[0]),
        "precision": lambda path: intervals.precision_recall_curves(target, score, UGLY, path, UGLY[0]),
        "reliability": lambda path: intervals.reliability(target, score, UGLY, path, UGLY[0]),
        "intervals": lambda path: intervals.forest(judged(UGLY), UGLY, path, UGLY[0]),
        "subgroups": lambda path: intervals.subgroup_points(GROUPS, path, UGLY[0]),
        "comparison": lambda path: figures.comparison(table, path, UGLY[0]),
        "learning": lambda path: learning.learning_curves(random_log(3).assign(lr=[1e-1, 1e-3, 1e-5]), path, UGLY[1]),
        "attention": lambda path: maps.attention_maps([case(finding=UGLY[0], image_name=UGLY[1])], path, UGLY[2]),
        "landscape": lambda path: maps.ensemble_landscape(mixtures, UGLY[:2], path),
    }  # fmt: skip
    for name, draw in pictures.items():
        draw(tmp_path / f"{name}.png")
    assert capsys.readouterr().out == ""
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(pictures)


def test_a_legend_leaves_no_name_out() -> None:
    names = ["_hidden", "$x$", "c"]
    table = pd.DataFrame(np.full((2, 3), 0.7), index=["A", "macro average"], columns=names)
    (legend,) = figures._comparison_figure(table, "").legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{name} (0.700)" for name in names]
    mixtures = grid_of_mixtures(4).set_axis([*names, "d", "value"], axis=1)
    (legend,) = maps._ensemble_landscape_figure(mixtures, [*names, "d"], "AUROC").legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "d"]


def test_the_names_of_groups_stand_as_they_are() -> None:
    (axes,) = intervals._subgroup_figure(GROUPS, "").axes
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()][::-1]
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
    figure = learning._learning_curves_figure(random_log(3).assign(lr=[1e-1, 1e-3, 1e-5]), "")
    figure.canvas.draw()
    assert not [text for text in texts(figure) if "$" in text or "mathdefault" in text]
    ticks = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert {"0.1", "0.001", "1e-05"} <= set(ticks)
