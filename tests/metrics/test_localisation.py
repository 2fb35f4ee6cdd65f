"""Maps against boxes, by painting both pixel by pixel and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.metrics.interval import Resampling
from cxr.metrics.localisation import by_finding, localise

NAN = float("nan")
box = st.tuples(st.integers(-4, 24), st.integers(-4, 24), st.integers(0, 12), st.integers(0, 12))
boxes = st.lists(box, max_size=4)
maps = st.lists(st.integers(-2, 8), min_size=12, max_size=12).map(lambda cells: np.array(cells, float).reshape(3, 4))


def painted(drawn: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Boxes on an image of 24 x 24 pixels, of which a cell of a 3 x 4 map covers 8 x 6."""
    image = np.zeros((24, 24), bool)
    for x, y, w, h in drawn:
        image[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = True
    return image


@given(boxes, maps)
def test_overlap_and_energy_are_those_of_the_map_painted_in_pixels(drawn, cells: np.ndarray) -> None:
    found = localise([cells], [drawn], (24, 24), (0.3, 0.5, 1.0))
    truth, values = painted(drawn), np.kron(np.maximum(cells, 0), np.ones((8, 6)))
    if not truth.any() or not values.any():
        assert np.isnan([found.pointing[0], found.energy[0], *found.iou[0]]).all()
        return
    assert found.energy[0] == pytest.approx(values[truth].sum() / values.sum())
    for limit, iou in zip((0.3, 0.5, 1.0), found.iou[0], strict=True):
        hot = values / values.max() >= limit
        assert iou == pytest.approx((hot & truth).sum() / (hot | truth).sum())
    centres = [(r, c) for r in range(3) for c in range(4) if cells[r, c] == cells.max()]
    hits = [any(x <= 6 * c + 3 < x + w and y <= 8 * r + 4 < y + h for x, y, w, h in drawn) for r, c in centres]
    assert found.pointing[0] == pytest.approx(np.mean(hits))


@given(boxes, maps, st.floats(0.1, 10))
def test_scale_of_a_map_and_repeated_boxes_change_nothing(drawn, cells: np.ndarray, factor: float) -> None:
    plain = localise([cells], [drawn], (24, 24), (0.4,))
    for other in (localise([cells * 4], [drawn], (24, 24), (0.4,)), localise([cells], [drawn * 2], (24, 24), (0.4,))):
        for one, two in zip(vars(plain).values(), vars(other).values(), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-12)
    scaled = [tuple(factor * side for side in one) for one in drawn]
    larger = localise([cells], [scaled], (24 * factor, 24 * factor), (0.4,))
    np.testing.assert_allclose(larger.energy, plain.energy, atol=1e-9)


def test_a_box_contains_its_left_and_upper_edge_but_not_the_others() -> None:
    cells = [[[1.0]]] * 3  # one cell, whose centre is (5, 5)
    found = localise(cells, [[[5, 5, 2, 2]], [[3, 5, 2, 2]], [[5, 3, 2, 2]]], (10, 10))
    assert found.pointing.tolist() == [1, 0, 0]


def test_x_runs_to_the_right_and_rows_have_their_own_size() -> None:
    cells = np.array([[0.0, 1.0, 0.0]])
    found = localise([cells, cells], [[[10, 0, 10, 10]], [[10, 0, 10, 10]]], [[30, 10], [60, 10]], (0.5,))
    assert found.pointing.tolist() == [1, 0] and found.energy.tolist() == [1, 0]
    assert found.iou.tolist() == [[1], [0]]


def test_means_over_findings_leave_out_what_is_undefined() -> None:
    values, finding, owner = [1.0, 0.0, 0.5, NAN, *[1.0, 0.0, 1.0, 1.0] * 2], [0, 0, 1, 1, *[0] * 8], [*"aabcdefghijk"]
    found = by_finding(values, finding, 3, owner, Resampling(200))
    assert found.findings.value[:2].tolist() == [pytest.approx(7 / 10), 0.5] and np.isnan(found.findings.value[2])
    assert found.findings.low[0] < 7 / 10 < found.findings.high[0]
    assert found.macro.value == pytest.approx((7 / 10 + 0.5) / 2)


@pytest.mark.parametrize(
    ("cells", "drawn", "size", "limits", "message"),
    [
        (np.zeros((2, 3)), [[], []], (4, 4), (0.5,), "finite and"),
        (np.zeros((2, 3, 3)), [[]], (4, 4), (0.5,), "one array of boxes"),
        (np.full((1, 3, 3), NAN), [[]], (4, 4), (0.5,), "finite and"),
        (np.zeros((1, 3, 3)), [[]], (0, 4), (0.5,), "sizes must be positive"),
        (np.zeros((1, 3, 3)), [[]], (4, 4), (0.0,), "thresholds"),
        (np.zeros((1, 3, 3)), [[[0, 0, -1, 2]]], (4, 4), (0.5,), "negative side"),
    ],
)
def test_impossible_input_is_refused(cells, drawn, size, limits, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        localise(cells, drawn, size, limits)
