"""The ensemble landscape: drawn values equal those of the table."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from cxr.figures import landscape
from tests.figures.drawing import MODELS, NAN, grid_of_mixtures, points


def test_two_members_give_a_line_over_the_first_weight() -> None:
    table = pd.DataFrame({"a": [1, 0, 0.25], "b": [0, 1, 0.75], "value": [0.7, 0.6, 0.8]})
    figure = landscape.ensemble_landscape(table, ["a", "b"], "validation macro AUROC")
    line, star = figure.axes[0].get_lines()
    assert points(line).tolist() == [[0, 0.6], [0.25, 0.8], [1, 0.7]]
    assert points(star).tolist() == [[0.25, 0.8]]
    assert "0.8000 at a 0.25, b 0.75" in figure.get_suptitle()


def test_three_members_give_a_triangle_with_each_in_its_corner() -> None:
    table = pd.DataFrame(np.eye(3), columns=["a", "b", "c"]).assign(value=[0.5, 0.6, 0.7])
    axes = landscape.ensemble_landscape(table, ["a", "b", "c"], "AUROC").axes[0]
    corners = [(0, 0), (1, 0), (0.5, 0.75**0.5)]
    (cells,) = (drawn for drawn in axes.collections if isinstance(drawn, PolyCollection))
    centres = [np.asarray(path.vertices, np.float64)[:6].mean(axis=0) for path in cells.get_paths()]
    np.testing.assert_allclose(np.array(centres), np.array(corners), atol=1e-12)
    np.testing.assert_array_equal(cells.get_array(), [0.5, 0.6, 0.7])
    assert {text.get_text(): text.xy for text in axes.texts} == {  # type: ignore[attr-defined]
        f"all {name}": pytest.approx(corner) for name, corner in zip("abc", corners, strict=True)
    }
    np.testing.assert_allclose(points(axes.get_lines()[-1]), np.array([corners[2]]))


def test_more_members_give_the_best_value_at_each_weight() -> None:
    table = grid_of_mixtures(4)
    axes = landscape.ensemble_landscape(table, MODELS[:4], "AUROC").axes[0]
    best = table.sort_values("value").iloc[-1]
    for line, star, member in zip(axes.get_lines()[:4], axes.get_lines()[4:], MODELS, strict=False):
        expected = [[w, max(table["value"][table[member] == w])] for w in (0, 0.25, 0.5, 0.75, 1)]
        np.testing.assert_allclose(points(line), expected)
        np.testing.assert_allclose(points(star), [[best[member], best["value"]]])


def test_landscape_leaves_out_mixtures_without_a_value() -> None:
    table = pd.DataFrame({"a": [1, 0.5, 0], "b": [0, 0.5, 1], "value": [0.7, NAN, 0.6]}, index=[7, 7, 7])
    line, star = landscape.ensemble_landscape(table, ["a", "b"], "AUROC").axes[0].get_lines()
    assert points(line).tolist() == [[0, 0.6], [1, 0.7]]
    assert points(star).tolist() == [[1, 0.7]]
    with pytest.raises(ValueError, match="needs a mixture with a value"):
        landscape.ensemble_landscape(table.assign(value=NAN), ["a", "b"], "AUROC")
