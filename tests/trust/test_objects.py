"""Files with objects in them: nothing is unpickled, and the user is told in one sentence."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from cxr.data.cache.store import open_array
from cxr.errors import CxrError
from cxr.model.backbone import read_state
from cxr.run.predictions import read_predictions
from cxr.training.checkpoint import load_network, read_checkpoint, resume_position
from tests.trust.conftest import Bomb

Writer = Callable[[Path, Bomb], None]


def zipped(path: Path, bomb: Bomb) -> None:
    torch.save({"cxr": bomb, "state_dict": {}, "epoch": 0}, path)


def old(path: Path, bomb: Bomb) -> None:
    torch.save({"cxr": bomb, "state_dict": {}, "epoch": 0}, path, _use_new_zipfile_serialization=False)


def bare(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb))


def by_hand(path: Path, bomb: Bomb) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", pickle.dumps(bomb, protocol=2))
        archive.writestr("best/version", "3\n")


PICKLES = [zipped, old, bare, by_hand]


@pytest.mark.parametrize("write", PICKLES)
def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path: Path, bomb: Bomb, canary: Path, write: Writer) -> None:
    write(tmp_path / "best.ckpt", bomb)
    if write in (zipped, old):
        torch.load(tmp_path / "best.ckpt", weights_only=False)
    elif write is bare:
        pickle.loads((tmp_path / "best.ckpt").read_bytes())
    else:
        pickle.loads(zipfile.ZipFile(tmp_path / "best.ckpt").read("best/data.pkl"))
    assert canary.exists()


@pytest.mark.parametrize("write", PICKLES)
@pytest.mark.parametrize("read", [read_checkpoint, load_network, lambda path: read_state(str(path))])
def test_pickled_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, bomb: Bomb, canary: Path, write: Writer, read: Callable[[Path], object]
) -> None:
    write(tmp_path / "best.ckpt", bomb)
    with pytest.raises(CxrError, match=r"best\.ckpt is not a (readable checkpoint|weights file)"):
        read(tmp_path / "best.ckpt")
    assert not canary.exists()


def test_pickled_code_in_an_array_is_not_run(tmp_path: Path, bomb: Bomb, canary: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([bomb, bomb], object), allow_pickle=True)
    with pytest.raises(CxrError, match="remove its folder and build the cache again"):
        open_array(tmp_path / "images.npy", (2,))
    (tmp_path / "images.npy").write_bytes(pickle.dumps(bomb))
    with pytest.raises(CxrError, match="remove its folder and build the cache again"):
        open_array(tmp_path / "images.npy", (2,))
    assert not canary.exists()


def test_python_in_the_header_of_an_array_is_not_evaluated(tmp_path: Path, canary: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': __import__('os').system('touch {canary}')}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    (tmp_path / "images.npy").write_bytes(content)
    with pytest.raises(CxrError, match="cannot be read"):
        open_array(tmp_path / "images.npy", (16,))
    assert not canary.exists()


@pytest.mark.parametrize("write", PICKLES)
def test_pickled_weights_are_refused_without_advice_to_unpickle_them(
    tmp_path: Path, bomb: Bomb, canary: Path, write: Writer
) -> None:
    write(tmp_path / "w.pth", bomb)
    with pytest.raises(
        CxrError, match=r"contains Python objects, which are never unpickled; pass a \.safetensors file"
    ) as told:
        read_state(str(tmp_path / "w.pth"))
    assert not any(word in str(told.value) for word in ("weights_only", "PyTorch", "trusted")) and not canary.exists()


def test_metadata_of_safetensors_are_not_looked_at(tmp_path: Path, bomb: Bomb, canary: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"stem": torch.ones(2)}, path, {"format": "pt", "pickle": pickle.dumps(bomb, protocol=0).decode()})
    assert list(read_state(str(path))) == ["stem"]
    assert not canary.exists()


@pytest.mark.parametrize("length", [0, 2, 1 << 40, (1 << 64) - 1])
def test_safetensors_that_lie_about_their_header_are_refused(tmp_path: Path, length: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", length) + header + bytes(4))
    with pytest.raises(CxrError, match="is not a weights file"):
        read_state(str(tmp_path / "w.safetensors"))


def test_pandas_metadata_of_predictions_decide_nothing(tmp_path: Path) -> None:
    table = pa.table({"image": ["a", "b"], "patient": ["1", "2"], "score:Mass": [0.5, 0.25], "target:Mass": [1.0, 0.0]})
    claims = {
        "index_columns": ["image"],
        "column_indexes": [],
        "columns": [
            {"name": "image", "field_name": "image", "pandas_type": "object", "numpy_type": "object", "metadata": None},
            {"name": "score:Mass", "field_name": "score:Mass", "pandas_type": "categorical", "numpy_type": "int8",
             "metadata": {"num_categories": 1, "ordered": False}},
        ],
    }  # fmt: skip
    for text in (json.dumps(claims), "{", "[]"):
        pq.write_table(table.replace_schema_metadata({"pandas": text}), tmp_path / "p.parquet")
        read = read_predictions(tmp_path / "p.parquet")
        assert list(read.image) == ["a", "b"] and read.score[:, 0].tolist() == [0.5, 0.25]


def test_pickled_types_in_the_schema_of_predictions_are_not_loaded(tmp_path: Path, bomb: Bomb, canary: Path) -> None:
    marks = {
        "ARROW:extension:name": "arrow.py_extension_type",  # CVE-2023-47248
        "ARROW:extension:metadata": pickle.dumps(bomb),
    }
    names = pa.field("image", pa.string(), metadata=marks)
    numbers = [pa.field(name, pa.float32()) for name in ("score:Mass", "target:Mass")]
    schema = pa.schema([names, pa.field("patient", pa.string()), *numbers])
    pq.write_table(pa.table([["a"], ["1"], [0.5], [1.0]], schema=schema), tmp_path / "p.parquet")
    assert list(read_predictions(tmp_path / "p.parquet").image) == ["a"]
    assert not canary.exists()


def test_predictions_that_claim_more_rows_than_any_split_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 1000
    columns = {"image": ["a"] * many, "patient": ["1"] * many, "score:Mass": [0.5] * many, "target:Mass": [1.0] * many}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    monkeypatch.setattr("cxr.run.predictions.MOST_IMAGES", many - 1)
    with pytest.raises(CxrError, match="has 1000 rows"):
        read_predictions(tmp_path / "p.parquet")


def test_a_good_checkpoint_is_rebuilt(checkpoint: Callable[..., Path]) -> None:
    loaded = load_network(checkpoint())
    assert (loaded.findings, loaded.epoch, loaded.config["image_size"]) == (("Mass", "Nodule"), 3, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"cxr": {"config": 5}}, {"cxr": {"findings": "Mass"}}, {"cxr": {"findings": []}}, {"cxr": {"findings": [1]}},
        {"cxr": {"findings": ["../../x", "Nodule"]}}, {"cxr": {"findings": ["=cmd|' /C calc'!A0", "Nodule"]}},
        {"cxr": {"split_fingerprint": None}}, {"cxr": {"labels_sha256": 7}}, {"epoch": "3"}, {"epoch": -1},
        {"state_dict": []}, {"state_dict": {"network.a": 1}}, {"state_dict": {3: torch.ones(1)}}, {"state_dict": {}},
        {"state_dict": {"network.a": torch.ones(2).to_sparse()}},
        {"state_dict": {"network.a": torch.empty(2, device="meta")}},
        {"state_dict": {"network.a": torch.zeros(1).expand(1 << 40)}},
        {"config": "just words"}, {"config": "- 1"}, {"config": ""}, {"config": "a: 1"}, {"config": "image_size: x"},
    ],
    ids=lambda changes: repr(changes)[:50],
)  # fmt: skip
def test_checkpoint_of_other_values_is_refused(checkpoint: Callable[..., Path], changes: dict[str, object]) -> None:
    path = checkpoint(**changes)
    with pytest.raises(CxrError, match=r"best\.ckpt"):
        load_network(path)


@pytest.mark.parametrize("content", [{}, {"loops": 1}, {"loops": {"fit_loop": {"epoch_progress": {"current": {}}}}}])
def test_checkpoint_without_a_position_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(CxrError, match="has no epoch to resume from"):
        resume_position(content)


def test_a_cut_archive_is_refused_without_its_objects(tmp_path: Path, bomb: Bomb, canary: Path) -> None:
    buffer = io.BytesIO()
    torch.save(bomb, buffer)
    for share in (0.2, 0.5, 0.9):
        content = buffer.getvalue()
        (tmp_path / "best.ckpt").write_bytes(content[: int(share * len(content))])
        with pytest.raises(CxrError, match="truncated, damaged"):
            read_checkpoint(tmp_path / "best.ckpt")
    assert not canary.exists()
