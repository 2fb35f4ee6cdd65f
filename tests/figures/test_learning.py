"""Learning curves: known values are drawn, epochs count from 1, the best one is marked."""

import numpy as np
import pandas as pd
import pytest

from cxr.errors import CxrError
from cxr.figures import learning
from tests.figures.drawing import NAN, points, random_log, texts

LOG = pd.DataFrame(
    {
        "epoch": [0, 1, 2, 3],
        "train/loss": [0.7, 0.6, 0.4, 0.25],
        "val/loss": [0.7, NAN, 0.5, NAN],
        "val/macro_auroc": [0.6, 0.8, 0.75, NAN],
        "lr": [0.1, 0.1, 0.01, 0.001],
        "val/accuracy": [NAN] * 4,
    }
)


def test_learning_curves_draw_known_values_and_mark_the_best_epoch() -> None:
    figure = learning.learning_curves(LOG.iloc[::-1], "", 1)
    loss, auroc, lr = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "macro AUROC", "learning rate"]
    lines = {str(line.get_label()): points(line).tolist() for line in loss.get_lines()}
    assert lines["training"] == [[1, 0.7], [2, 0.6], [3, 0.4], [4, 0.25]]
    assert lines["validation"] == [[1, 0.7], [3, 0.5]]
    for axes in (loss, auroc, lr):
        assert points(axes.get_lines()[-1])[:, 0].tolist() == [2, 2]
    assert "best epoch 2 (validation macro AUROC 0.8000)" in texts(figure)
    assert lr.get_yscale() == "log"


def test_learning_curves_mark_the_epoch_of_the_checkpoint_though_another_has_a_higher_value() -> None:
    figure = learning.learning_curves(LOG, "a", 2)
    assert points(figure.axes[1].get_lines()[-1])[:, 0].tolist() == [3, 3]
    assert "best epoch 3 (validation macro AUROC 0.7500)" in texts(figure)


def test_learning_curves_shade_and_state_the_gap_where_both_are_known() -> None:
    loss, auroc, _ = learning.learning_curves(LOG, "", 1).axes
    assert loss.get_title("right") == "training − validation at epoch 3: −0.1000"
    (shade,) = loss.collections
    corners = {tuple(corner) for corner in np.round(np.asarray(shade.get_paths()[0].vertices, np.float64), 6).tolist()}
    assert corners == {(1, 0.7), (3, 0.4), (3, 0.5)}
    assert not auroc.collections
    assert auroc.get_title("right") == ""


def test_learning_curves_of_one_epoch_show_markers() -> None:
    figure = learning.learning_curves(random_log(1), "", 0)
    curves = [line for axes in figure.axes for line in axes.get_lines() if len(points(line)) == 1]
    assert [line.get_marker() for line in curves] == ["o"] * 7
    assert list(figure.axes[-1].get_xticks()) == [1]


def test_learning_curves_refuse_a_log_without_values() -> None:
    with pytest.raises(CxrError, match="val/loss"):
        learning.learning_curves(pd.DataFrame({"epoch": [0], "val/loss": [NAN]}), "", 0)
