"""Predictions of some findings; a run on another data set is tested in tests/end_to_end/test_external.py."""

import numpy as np
import pandas as pd
import pytest

from cxr.data.catalog import Catalog
from cxr.run.predictions import Predictions
from cxr.training.external import in_words_of, only


def test_only_keeps_the_columns_of_the_findings_in_their_order() -> None:
    names = np.array(["a.png", "b.png"], object)
    score = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    target = np.array([[0, 1, np.nan], [1, 0, 1]], np.float32)
    found = only(Predictions(names, names, ("A", "B", "C"), score, target), ("C", "A"))
    assert found.findings == ("C", "A")
    assert found.score.tolist() == [pytest.approx([0.3, 0.1]), pytest.approx([0.6, 0.4])]
    assert np.isnan(found.target[0, 0]) and found.target[1].tolist() == [1, 1]


def test_findings_get_the_names_of_the_run_where_they_are_written_differently() -> None:
    films = pd.DataFrame({"Pleural Effusion": [1.0], "soft:Pleural Effusion": [0.5], "mass": [0.0], "Edema": [1.0]})
    found = in_words_of(("Effusion", "Mass", "Edema"), Catalog(films, ("Pleural Effusion", "mass", "Edema"), "t.csv"))
    assert found.findings == ("Effusion", "Mass", "Edema")
    assert list(found.table) == ["Effusion", "soft:Effusion", "Mass", "Edema"]
    both = Catalog(films.rename(columns={"mass": "Effusion"}), ("Pleural Effusion", "Effusion"), "t.csv")
    assert in_words_of(("Effusion",), both).findings == both.findings
