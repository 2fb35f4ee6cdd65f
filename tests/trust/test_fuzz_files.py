"""Spoilt manifests, predictions, checkpoints and configurations: a right answer or a sentence, nothing else."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image

from cxr.data.cache import CacheSettings, open_or_build
from cxr.data.cache.manifest import read_manifest
from cxr.data.catalog import Catalog
from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.run.predictions import Predictions, read_predictions
from cxr.training.checkpoint import load_network, read_checkpoint, resume_position
from tests.trust.conftest import CONFIG
from tests.trust.spoiling import FEW, bytes_of, edited, edits_of, fuzz, json_values, odd, tree_of


@FEW
def test_spoilt_manifest_is_that_of_the_catalog_or_refused(tmp_path: Path, examples: int) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for number, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(number % 2).integers(0, 256, (9, 9), np.uint8)).save(path)
    films = Catalog(pd.DataFrame({"image": [p.name for p in paths], "path": [str(p) for p in paths]}), (), "table")
    settings = CacheSettings(8, str(tmp_path / "cache"), "skip", 1)
    folder = open_or_build(films, tmp_path, settings)[0].folder
    good = (folder / "manifest.json").read_bytes()

    def check(content: bytes) -> None:
        (folder / "manifest.json").write_bytes(content)
        try:
            manifest = read_manifest(folder)
            assert len({entry.image for entry in manifest.images}) == len(manifest.images)
            assert all(bool(entry.pixels) != bool(entry.reason) for entry in manifest.images)
            cache, kept = open_or_build(films, tmp_path, settings)
        except CxrError:
            return
        assert cache.names == ("a.png", "b.png", "c.png") == tuple(entry.image for entry in manifest.images)
        assert set(kept.table["image"]) == {entry.image for entry in manifest.images if not entry.reason}

    trees = tree_of(json.loads(good)).map(lambda tree: json.dumps(tree).encode())
    fuzz(st.one_of(bytes_of(good), trees), check, examples)


def hold_predictions(read: Predictions) -> None:
    """What all predictions that were read are."""
    shape = (len(read.image), len(read.findings))
    assert read.score.shape == read.target.shape == shape and min(shape) > 0
    assert read.score.dtype == read.target.dtype == np.float32 and read.patient.shape == read.image.shape
    assert ((read.score >= 0) & (read.score <= 1)).all()
    assert (np.isnan(read.target) | (read.target == 0) | (read.target == 1)).all()
    assert len(set(read.image)) == len(read.image) and len(set(read.findings)) == len(read.findings)
    names = [*read.image, *read.patient, *read.findings]
    assert all(isinstance(name, str) and name and name.isprintable() for name in names)


COLUMNS = {
    "image": pa.array(["a", "b", "c"]),
    "patient": pa.array(["1", "1", "2"]),
    "score:Mass": pa.array([0.5, 0.25, 1.0], pa.float32()),
    "target:Mass": pa.array([1.0, 0.0, None], pa.float32()),
}
ARRAYS = [
    pa.array([0, 1, None]), pa.array([True, False, None]), pa.array([None] * 3), pa.array(["0", "1", "x"]),
    pa.array([b"a", b"\xff", b"c"]), pa.array([[1], [2], None]), pa.array([{"a": 1}] * 3), pa.array([1e300, -1.0, 0.5]),
    pa.array([0, 1, 2], pa.date32()), pa.array([0, 1, 2], pa.timestamp("ns")), pa.array([0, 1, 1], pa.uint64()),
    pa.array(["x", "y", "x"]).dictionary_encode(), pa.array(["a", "b", "c"]).dictionary_encode(),
    pa.array([2**63 - 1, 0, 1]), pa.array([0.1, 0.2, 0.3], pa.float16()), pa.array(["x", "y", "z"], pa.large_string()),
    pa.array([float("inf"), float("nan"), 0.0]), pa.array([None, "a", "b"]), pa.array([1, 2, 3]).dictionary_encode(),
]  # fmt: skip
TITLES = [
    "image",
    "patient",
    "score:Mass",
    "target:Mass",
    "score:",
    "target:",
    "score:=x",
    "index",
    "__index_level_0__",
]


def parquet(columns: list[tuple[str, pa.Array]], marks: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    table = pa.table([array for _, array in columns], [name for name, _ in columns])
    pq.write_table(table.replace_schema_metadata(marks), buffer)
    return buffer.getvalue()


@FEW
def test_spoilt_predictions_are_read_rightly_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "p.parquet"
    texts = st.lists(st.one_of(odd, st.none()), min_size=3, max_size=3).map(lambda v: pa.array(v, pa.string()))
    numbers = st.lists(st.floats(width=32), min_size=3, max_size=3).map(lambda v: pa.array(v, pa.float32()))
    column = st.tuples(
        st.one_of(st.sampled_from(TITLES), odd.map("score:{}".format)),
        st.one_of(st.sampled_from(ARRAYS), texts, numbers),
    )
    columns = st.lists(column, max_size=3).map(lambda new: [*({**COLUMNS, **dict(new)}).items()])
    doubled = st.lists(column, min_size=1, max_size=2).map(lambda new: [*COLUMNS.items(), *new])
    few = st.lists(st.sampled_from([*COLUMNS.items()]), min_size=1, max_size=5)
    marks = st.dictionaries(st.sampled_from(["pandas", "cxr.checkpoint_sha256", "ARROW:schema"]), odd, max_size=2)

    def writable(drawn: tuple[list[tuple[str, pa.Array]], dict[str, str]]) -> bytes:
        try:
            return parquet(*drawn)
        except (pa.ArrowException, UnicodeEncodeError):
            return b""

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(CxrError):
            hold_predictions(read_predictions(path))

    written = st.tuples(st.one_of(columns, doubled, few), marks).map(writable)
    fuzz(st.one_of(bytes_of(parquet([*COLUMNS.items()], {})), written), check, examples)


def test_good_predictions_are_read_before_they_are_spoilt(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(parquet([*COLUMNS.items()], {}))
    hold_predictions(read_predictions(tmp_path / "p.parquet"))


@pytest.mark.parametrize("examples", [50, pytest.param(10_000, marks=pytest.mark.slow)])
def test_spoilt_checkpoint_is_a_network_or_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], checkpoint: Callable[..., Path], examples: int
) -> None:
    path = tmp_path / "best.ckpt"
    rest = {"global_step": 3, "loops": {"fit_loop": {"epoch_progress": {"current": {"started": 1, "processed": 1}}}}}
    good = torch.load(checkpoint(**rest), weights_only=True)
    whole = path.read_bytes()
    spoilt = st.one_of(
        st.tuples(st.just("tree"), tree_of({**good, "state_dict": {}})),
        st.tuples(st.just("config"), tree_of(CONFIG)),
        st.tuples(st.just("bytes"), edits_of(len(whole) - 1)),
    )

    def check(drawn: tuple[str, Any]) -> None:
        kind, content = drawn
        if kind == "bytes":
            path.write_bytes(edited(whole[:-1], content))
        elif kind == "config":
            torch.save({**good, "cxr": good["cxr"] | {"config": yaml.safe_dump(content)}}, path)
        else:
            torch.save(_with_weights(content, weights), path)
        with contextlib.suppress(CxrError):
            resume_position(read_checkpoint(path))
        with contextlib.suppress(CxrError):
            loaded = load_network(path)
            assert len(loaded.findings) == 2 and loaded.epoch >= 0 and len(loaded.sha256) == 64

    fuzz(spoilt, check, examples)


def _with_weights(tree: Any, weights: dict[str, torch.Tensor]) -> Any:
    empty = isinstance(tree, dict) and tree.get("state_dict") == {}
    return {**tree, "state_dict": dict(weights)} if empty else tree


@FEW
def test_spoilt_run_is_plain_values_or_refused(tmp_path: Path, examples: int) -> None:
    config = yaml.safe_dump(CONFIG | {"data": {"root": "data", "exclude": ["Hernia"]}, "lr": 5e-4}).encode()
    metrics = {"val": {"macro_auroc": 0.75, "auroc": {"Mass": None}}, "max_epochs": 3, "best_epoch": 0}

    def check(content: tuple[bytes, bytes]) -> None:
        (tmp_path / "config.yaml").write_bytes(content[0])
        (tmp_path / "metrics.json").write_bytes(content[1])
        with contextlib.suppress(CxrError):
            assert "${" not in json.dumps(Run(tmp_path).config(), default=pytest.fail)
        with contextlib.suppress(CxrError):
            read = Run(tmp_path).metrics()
            assert type(read.get("max_epochs", 0)) is int
            assert all(isinstance(read.get(split, {}), dict) for split in ("val", "test"))

    configs = st.one_of(bytes_of(config), tree_of(CONFIG).map(lambda tree: yaml.safe_dump(tree).encode()),
                        json_values.map(lambda value: json.dumps(value).encode()))  # fmt: skip
    results = st.one_of(bytes_of(json.dumps(metrics).encode()), tree_of(metrics).map(lambda t: json.dumps(t).encode()))
    fuzz(st.tuples(configs, results), check, examples)
