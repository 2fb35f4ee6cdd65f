"""Attention maps: outcomes, pixels, boxes and titles."""

import numpy as np
import pytest
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from cxr.figures import attention
from tests.figures.drawing import NAN, case


def outlines(figure: Figure) -> list[tuple[float, ...]]:
    """x, y, width and height of the lines around marked regions, of the first case."""
    (lines,) = (each for each in figure.axes[0].collections if isinstance(each, ContourSet))
    closed = [polygon for path in lines.get_paths() for polygon in path.to_polygons()]
    return sorted((*polygon.min(axis=0), *np.ptp(polygon, axis=0)) for polygon in closed)


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
    figure = attention.attention_maps(cases, "")
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel() and axes.get_label() != "<colorbar>"]
    assert rows == ["hit", "hit", "hit", "false alarm", "miss"]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "Pleural B: score .90, present → hit"
    assert [title.split("→ ")[1] for title in titles] == ["hit"] * 5 + ["false alarm", "miss"]


def test_the_plain_film_is_beside_the_overlay_and_boxes_are_in_its_pixels() -> None:
    image = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
    figure = attention.attention_maps([case(image=image, boxes=[(10, 20, 30, 5)])], "")
    axes = figure.axes[0]
    film, beneath, overlay = axes.images
    assert tuple(film.get_extent()) == (0, 96, 64, 0)
    left, right, *edges = beneath.get_extent()
    assert left > 96 and right - left == 96 and edges == [64, 0] and overlay.get_extent() == beneath.get_extent()
    for shown in (film, beneath):
        np.testing.assert_array_equal(shown.get_array(), image)
        assert shown.get_alpha() is None
    np.testing.assert_allclose(outlines(figure), [(left + 10, 20, 30, 5)], atol=1e-9)
    assert axes.get_xlim() == (0, right) and axes.get_ylim() == (64, 0)
    assert overlay.get_interpolation() == "bilinear"


def test_boxes_that_touch_are_one_outline_also_at_the_border() -> None:
    boxes = [(0.0, 0.0, 4.0, 64.0), (4.0, 10.0, 4.0, 20.0), (50.0, 60.0, 9.0, 90.0)]
    figure = attention.attention_maps([case(image=np.zeros((64, 64), np.uint8), boxes=boxes)], "")
    left = figure.axes[0].images[1].get_extent()[0]
    np.testing.assert_allclose(outlines(figure), [(left, 0, 8, 64), (left + 50, 60, 9, 4)], atol=1e-9)


def test_one_map_for_all_findings_is_said_to_be_one() -> None:
    figure = attention.attention_maps([case()], "a run, test")
    assert "one map for all findings" in figure.get_suptitle().replace("\n", " ")
    assert "marked regions" not in figure.get_suptitle()
    boxed = attention.attention_maps([case(boxes=[(1, 1, 2, 2)])], "")
    assert "marked regions of the named finding" in boxed.get_suptitle().replace("\n", " ")


def test_maps_of_findings_are_said_to_be_the_findings_own() -> None:
    title = attention.attention_maps([case()], "", per_finding=True).get_suptitle().replace("\n", " ")
    assert "(one map per finding)" in title and "all findings" not in title


def test_attention_is_brightest_at_the_centre_of_its_cell() -> None:
    peak = np.zeros((4, 6))
    peak[1, 4] = 0.02
    figure = attention.attention_maps([case(attention=peak)], "")
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
    figure = attention.attention_maps([case(attention=np.zeros((2, 2)))], "")
    np.testing.assert_array_equal(figure.axes[0].images[2].get_alpha(), np.zeros((2, 2)))
