"""Attention maps, contact sheets and landscapes: what is drawn is what an independent computation says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle

from cxr.figures import maps
from tests.figures.drawing import MODELS, NAN, case, grid_of_mixtures, points


@pytest.mark.parametrize(
    ("score", "target", "outcome"),
    [
        (0.5, 1, "hit"),
        (0.49, 1, "miss"),
        (0.5, 0, "false alarm"),
        (0.49, 0, "correct rejection"),
        (0.9, NAN, "not known"),
    ],
)
def test_outcome_follows_the_operating_point(score: float, target: float, outcome: str) -> None:
    assert case(score, target).outcome == outcome
    assert case(score / 5, target, threshold=0.1).outcome == outcome


def test_attention_rows_put_hits_first_and_are_labelled() -> None:
    cases = [case(0.1, 1), case(0.8, 0), *[case(0.9 + i / 100, 1) for i in range(5)]]
    figure = maps._attention_maps_figure(cases, "")
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel() and axes.get_label() != "<colorbar>"]
    assert rows == ["hit", "hit", "hit", "false alarm", "miss"]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "Pleural B: score .90, present → hit"
    assert [title.split("→ ")[1] for title in titles] == ["hit"] * 5 + ["false alarm", "miss"]


def test_the_plain_film_stands_beside_the_overlay_and_boxes_lie_in_its_pixels() -> None:
    image = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
    figure = maps._attention_maps_figure([case(image=image, boxes=[(10, 20, 30, 5)])], "")
    axes = figure.axes[0]
    film, beneath, attention = axes.images
    assert tuple(film.get_extent()) == (0, 96, 64, 0)
    left, right, *edges = beneath.get_extent()
    assert left > 96 and right - left == 96 and edges == [64, 0] and attention.get_extent() == beneath.get_extent()
    for shown in (film, beneath):
        np.testing.assert_array_equal(shown.get_array(), image)
        assert shown.get_alpha() is None
    (box,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert box.get_bbox().bounds == (left + 10, 20, 30, 5)
    assert axes.get_xlim() == (0, right) and axes.get_ylim() == (64, 0)
    assert attention.get_interpolation() == "bilinear"


def test_one_map_for_all_findings_is_said_to_be_one() -> None:
    figure = maps._attention_maps_figure([case()], "a run, test")
    assert "one map for all findings" in figure.get_suptitle().replace("\n", " ")
    assert "marked regions" not in figure.get_suptitle()
    boxed = maps._attention_maps_figure([case(boxes=[(1, 1, 2, 2)])], "")
    assert "marked regions of the named finding" in boxed.get_suptitle().replace("\n", " ")


def test_maps_of_findings_are_said_to_be_the_findings_own() -> None:
    title = maps._attention_maps_figure([case()], "", own=True).get_suptitle().replace("\n", " ")
    assert "attention, for the named finding" in title and "all findings" not in title


def test_attention_is_brightest_at_the_centre_of_its_cell() -> None:
    attention = np.zeros((4, 6))
    attention[1, 4] = 0.02
    figure = maps._attention_maps_figure([case(attention=attention)], "")
    figure.canvas.draw()
    axes = figure.axes[0]
    pixels = np.asarray(figure.canvas.buffer_rgba()).astype(float)[..., 1]  # type: ignore[attr-defined]
    frame = axes.get_window_extent()
    height = pixels.shape[0]
    inside = pixels[
        round(height - frame.y1) + 4 : round(height - frame.y0) - 4, round(frame.x0) + 4 : round(frame.x1) - 4
    ]
    rows, columns = np.indices(inside.shape)
    inside[columns + 4 < frame.width / 2] = 0  # the plain film
    inside[inside > 250] = 0  # the page between the two
    centre = np.array([(inside * (columns + 4)).sum(), (inside * (rows + 4)).sum()]) / inside.sum()
    left, right, *_ = np.array(axes.images[1].get_extent()) / axes.get_xlim()[1]
    expected = [left + 4.5 / 6 * (right - left), 1.5 / 4]
    np.testing.assert_allclose(centre / [frame.width, frame.height], expected, atol=0.01)


def test_attention_of_zero_everywhere_is_drawn_clear() -> None:
    figure = maps._attention_maps_figure([case(attention=np.zeros((2, 2)))], "")
    np.testing.assert_array_equal(figure.axes[0].images[2].get_alpha(), np.zeros((2, 2)))


def test_two_members_give_a_line_over_the_first_weight() -> None:
    table = pd.DataFrame({"a": [1, 0, 0.25], "b": [0, 1, 0.75], "value": [0.7, 0.6, 0.8]})
    figure = maps._ensemble_landscape_figure(table, ["a", "b"], "validation macro AUROC")
    line, star = figure.axes[0].get_lines()
    assert points(line).tolist() == [[0, 0.6], [0.25, 0.8], [1, 0.7]]
    assert points(star).tolist() == [[0.25, 0.8]]
    assert "0.8000 at a 0.25, b 0.75" in figure.get_suptitle()


def test_three_members_give_a_triangle_with_each_in_its_corner() -> None:
    table = pd.DataFrame(np.eye(3), columns=["a", "b", "c"]).assign(value=[0.5, 0.6, 0.7])
    axes = maps._ensemble_landscape_figure(table, ["a", "b", "c"], "AUROC").axes[0]
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
    axes = maps._ensemble_landscape_figure(table, MODELS[:4], "AUROC").axes[0]
    best = table.sort_values("value").iloc[-1]
    for line, star, member in zip(axes.get_lines()[:4], axes.get_lines()[4:], MODELS, strict=False):
        expected = [[w, max(table["value"][table[member] == w])] for w in (0, 0.25, 0.5, 0.75, 1)]
        np.testing.assert_allclose(points(line), expected)
        np.testing.assert_allclose(points(star), [[best[member], best["value"]]])


def test_landscape_leaves_out_mixtures_without_a_value() -> None:
    table = pd.DataFrame({"a": [1, 0.5, 0], "b": [0, 0.5, 1], "value": [0.7, NAN, 0.6]}, index=[7, 7, 7])
    line, star = maps._ensemble_landscape_figure(table, ["a", "b"], "AUROC").axes[0].get_lines()
    assert points(line).tolist() == [[0, 0.6], [1, 0.7]]
    assert points(star).tolist() == [[1, 0.7]]
    with pytest.raises(ValueError, match="no mixture"):
        maps._ensemble_landscape_figure(table.assign(value=NAN), ["a", "b"], "AUROC")


def test_contact_sheet_keeps_order_pixels_and_captions() -> None:
    images = [np.full((5 + i, 7), 40 * i, np.uint8) for i in range(5)]
    figure = maps._contact_sheet_figure(images, [f"image {i}\nline" for i in range(5)], 3, "sheet")
    assert len(figure.axes) == 6
    for i, axes in enumerate(figure.axes[:5]):
        np.testing.assert_array_equal(axes.images[0].get_array(), images[i])
        assert axes.images[0].get_clim() == (0, 255)
        assert axes.get_title() == f"image {i}\nline"
    assert not figure.axes[5].images
    with pytest.raises(ValueError, match="1 images and 0 captions"):
        maps._contact_sheet_figure(images[:1], [], 3, "")
