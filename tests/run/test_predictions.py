"""The predictions file: what is written is read back to the bit, and what is no predictions file is refused."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr.errors import CxrError
from cxr.run.predictions import Predictions, read_predictions

NAN = float("nan")


def some_predictions(images: int = 5) -> Predictions:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, (images, 2)).astype(np.float32)
    target[1, 0] = NAN
    return Predictions(
        np.array([f"{i:08d}_000.png" for i in range(images)], object),
        np.array([f"0{i // 2}" for i in range(images)], object),
        ("Mass", "Pleural_Thickening"),
        rng.random((images, 2), np.float32),
        target,
        "abc",
    )


def frame(**columns: object) -> pd.DataFrame:
    usual = {"image": ["a.png", "b.png"], "patient": ["1", "2"], "score:Mass": [0.25, 0.5], "target:Mass": [1.0, 0.0]}
    return pd.DataFrame(usual | columns)


def written(tmp_path: Path, table: pd.DataFrame) -> Path:
    table.to_parquet(tmp_path / "p.parquet", index=False)
    return tmp_path / "p.parquet"


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    ours = some_predictions()
    ours.score[:3, 0] = [0.0, 1.0, np.nextafter(np.float32(0.5), np.float32(1))]
    ours.write(tmp_path / "val.parquet")
    theirs = read_predictions(tmp_path / "val.parquet")
    assert theirs.score.dtype == theirs.target.dtype == np.float32
    assert theirs.score.tobytes() == ours.score.tobytes()
    np.testing.assert_array_equal(theirs.target, ours.target)
    assert list(theirs.image) == list(ours.image) and list(theirs.patient) == list(ours.patient)
    assert theirs.findings == ours.findings and theirs.checkpoint_sha256 == "abc" and len(theirs) == 5


def test_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    some_predictions().write(tmp_path / "val.parquet")
    schema = pq.read_schema(tmp_path / "val.parquet")
    assert {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)} == {
        "image": "string",
        "patient": "string",
        "score:Mass": "float",
        "target:Mass": "float",
        "score:Pleural_Thickening": "float",
        "target:Pleural_Thickening": "float",
    }


def test_ordered_takes_rows_by_name() -> None:
    ours = some_predictions()
    names = list(ours.image[[3, 0, 4, 1, 2]])
    other = ours.ordered(names)
    assert list(other.image) == names
    for row, name in enumerate(names):
        old = list(ours.image).index(name)
        assert other.patient[row] == ours.patient[old]
        np.testing.assert_array_equal(other.score[row], ours.score[old])
        np.testing.assert_array_equal(other.target[row], ours.target[old])
    assert (other.findings, other.checkpoint_sha256) == (ours.findings, "abc")


def test_file_of_another_program_is_read(tmp_path: Path) -> None:
    table = frame(**{"patient": [7, 8], "target:Mass": [1, 0]})  # integers, float64, no checkpoint, other order
    path = written(tmp_path, table[["target:Mass", "score:Mass", "patient", "image"]])
    theirs = read_predictions(path)
    assert theirs.findings == ("Mass",) and theirs.checkpoint_sha256 == ""
    assert list(theirs.patient) == ["7", "8"] and theirs.target.tolist() == [[1.0], [0.0]]


def test_unknown_target_is_nan(tmp_path: Path) -> None:
    theirs = read_predictions(written(tmp_path, frame(**{"target:Mass": [None, 1.0]})))
    assert np.isnan(theirs.target[0, 0]) and theirs.target[1, 0] == 1


def test_repeated_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"row 2 repeats the image a\.png"):
        read_predictions(written(tmp_path, frame(image=["a.png", "a.png"])))


@pytest.mark.parametrize("scores", [[0.5, 1.0001], [-0.001, 0.5], [NAN, 0.5], [3.0, -2.0], [float("inf"), 0.5]])
def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path, scores: list[float]) -> None:
    with pytest.raises(CxrError, match="not probabilities"):
        read_predictions(written(tmp_path, frame(**{"score:Mass": scores})))


def test_scores_that_are_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=re.escape("p.parquet")):
        read_predictions(written(tmp_path, frame(**{"score:Mass": ["high", "low"]})))


@pytest.mark.parametrize("targets", [[0.5, 1.0], [2.0, 0.0], [-1.0, 1.0]])
def test_targets_that_are_no_labels_are_refused(tmp_path: Path, targets: list[float]) -> None:
    with pytest.raises(CxrError, match=re.escape("p.parquet")):
        read_predictions(written(tmp_path, frame(**{"target:Mass": targets})))


@pytest.mark.parametrize("column", ["image", "patient", "score:Mass", "target:Mass"])
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    expected = "score:<finding>" if column == "score:Mass" else column
    with pytest.raises(CxrError, match=re.escape(f"lacks {expected}")):
        read_predictions(written(tmp_path, frame().drop(columns=column)))


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CxrError, match="it is missing") as caught:
        read_predictions(tmp_path / "test.parquet")
    assert str(tmp_path / "test.parquet") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"image,patient\n", b"PAR1" + bytes(40)])
def test_file_that_is_not_parquet_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(CxrError, match="cannot be read as predictions"):
        read_predictions(tmp_path / "p.parquet")


def test_cut_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    some_predictions().write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CxrError, match="cannot be read as predictions"):
        read_predictions(path)


def equal_rows(path: Path, rows: int, columns: dict[str, object]) -> Path:
    """A file of a few bytes a column that has so many equal rows."""
    first = np.zeros(rows, np.int32)
    table = {name: pa.DictionaryArray.from_arrays(first, pa.array([value])) for name, value in columns.items()}
    numbers = {
        name: column.cast(column.type.value_type) for name, column in table.items() if name[:6] in ("score:", "target")
    }
    pq.write_table(pa.table(table | numbers), path / "p.parquet")
    return path / "p.parquet"


def test_more_scores_than_memory_should_hold_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {f"{kind}:F{k}": 0.5 for k in range(60) for kind in ("score", "target")}
    path = equal_rows(tmp_path, 500_000, {"image": "a.png", "patient": "1"} | scores)
    assert path.stat().st_size < 2_000_000
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("columns were read"))
    with pytest.raises(CxrError, match="has 500000 rows of 60 findings, at most"):
        read_predictions(path)


def test_columns_that_are_not_needed_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = pq.ParquetFile.read, []

    def read(self: pq.ParquetFile, columns: list[str], **options: object) -> pa.Table:
        asked.extend(columns)
        return whole(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    read_predictions(written(tmp_path, frame(age=[1.0, 2.0], notes=["x", "y"], **{"target:Nobody": [5, 5]})))
    assert sorted(asked) == ["age", "image", "patient", "score:Mass", "target:Mass"]


def test_one_long_name_on_many_rows_is_refused_before_it_is_written_out(tmp_path: Path) -> None:
    columns = {"image": "a" * 100_000, "patient": "1", "score:Mass": 0.5, "target:Mass": 1.0}
    path = equal_rows(tmp_path, 100_000, columns)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(CxrError, match=r"column 'image' has more than \d+ bytes of text"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("column", "values", "place"),
    [
        ("score:Mass", [0.5, 1.5], r"row 2 \(b.png\), column 'score:Mass': 1.5"),
        ("target:Mass", [0.5, 1.0], r"row 1 \(a.png\), column 'target:Mass': 0.5"),
        ("image", ["a.png", "a.png"], "row 2 repeats the image a.png"),
        ("patient", ["1", ""], "rows without patient, such as row 2"),
        ("patient", ["1", "a\nb"], r"patient 'a\\nb' \(row 2\)"),
    ],
)
def test_wrong_cell_is_given_with_row_and_column(tmp_path: Path, column: str, values: list[object], place: str) -> None:
    with pytest.raises(CxrError, match=rf"p\.parquet.*{place}"):
        read_predictions(written(tmp_path, frame(**{column: values})))


def test_findings_with_dots_are_distinguished(tmp_path: Path) -> None:
    scores = {"score:A": [0.1, 0.2], "target:A": [0, 1], "score:A.B": [0.3, 0.4], "target:A.B": [1, 0]}
    theirs = read_predictions(written(tmp_path, frame(**scores)))
    np.testing.assert_allclose(
        theirs.score[:, [theirs.findings.index(f) for f in ("A", "A.B")]], [[0.1, 0.3], [0.2, 0.4]]
    )
