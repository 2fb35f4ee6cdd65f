"""Long-tailed phantoms: one finding per image, as often as promised in each list, as the single-label task needs."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from cxr.data.sources.phantom import read_phantom
from cxr.errors import CxrError
from cxr.phantom import LONG_TAIL, Visit, draw_long_tail, write_phantoms


def counts(visits: list[Visit], test: bool, balanced: bool) -> list[int]:
    found = Counter("|".join(v.written) or "No Finding" for v in visits if (v.test, v.balanced) == (test, balanced))
    assert set(found) == set(LONG_TAIL)
    return [found[name] for name in LONG_TAIL]


def test_counts_fall_by_one_factor_in_training_and_are_equal_in_balanced_parts() -> None:
    visits = draw_long_tail(15_000)
    assert len({visit.patient for visit in visits}) == len(visits) and all(v.shown == v.written for v in visits)
    train = counts(visits, False, False)
    assert train[0] / train[-1] == pytest.approx(100, rel=0.02) and sum(train) == pytest.approx(9_000, rel=0.01)
    assert all(a / b == pytest.approx(100 ** (1 / 14), rel=0.05) for a, b in pairwise(train))
    assert counts(visits, False, True) == [100] * 15 and counts(visits, True, True) == [200] * 15
    assert sum(counts(visits, True, False)) == pytest.approx(1_500, rel=0.01)
    assert draw_long_tail(15_000) == visits != draw_long_tail(15_000, seed=1)


def test_written_lists_and_catalog_have_one_finding_per_image(tmp_path: Path) -> None:
    root = tmp_path / "made"
    write_phantoms(root, images=60, size=64, processes=1, long_tail=True)
    catalog = read_phantom(str(root), images=60, size=64, long_tail=True)
    assert catalog.findings == LONG_TAIL and (catalog.table[list(LONG_TAIL)].sum(axis=1) == 1).all()
    table = pd.read_csv(root / "Data_Entry_2017.csv", index_col="Image Index")["Finding Labels"]
    read = catalog.table.set_index("image")[list(LONG_TAIL)].idxmax(axis=1)
    assert (read == table).all()
    lists = {path.stem: set(path.read_text().split()) for path in root.glob("*_list.txt")}
    assert lists["val_list"] < lists["train_val_list"] and lists["balanced_test_list"] < lists["test_list"]
    assert not lists["train_val_list"] & lists["test_list"]
    assert table[sorted(lists["balanced_test_list"])].value_counts().nunique() == 1
    with pytest.raises(CxrError, match=r"long_tail=True, not long_tail=False.*another data\.root"):
        write_phantoms(root, images=60, size=64)
    with pytest.raises(CxrError, match="leave out label_noise and layout"):
        write_phantoms(tmp_path / "never", images=60, label_noise=0.1, long_tail=True)
