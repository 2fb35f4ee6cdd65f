"""Predictions of some findings; a run on another data set is tested in tests/end_to_end/test_external.py."""

import numpy as np
import pytest

from cxr.run.predictions import Predictions
from cxr.training.external import only


def test_only_keeps_the_columns_of_the_findings_in_their_order() -> None:
    names = np.array(["a.png", "b.png"], object)
    score = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    target = np.array([[0, 1, np.nan], [1, 0, 1]], np.float32)
    found = only(Predictions(names, names, ("A", "B", "C"), score, target), ("C", "A"))
    assert found.findings == ("C", "A")
    assert found.score.tolist() == [pytest.approx([0.3, 0.1]), pytest.approx([0.6, 0.4])]
    assert np.isnan(found.target[0, 0]) and found.target[1].tolist() == [1, 1]
