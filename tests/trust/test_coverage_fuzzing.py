"""Bytes that grow towards new branches of the readers (libFuzzer, through atheris), where hypothesis spoils files."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = """
import contextlib, sys, warnings
from pathlib import Path
import atheris
with atheris.instrument_imports(include=["cxr"]):
    from cxr.data.cache.manifest import read_manifest
    from cxr.data.sources.nih import read_boxes, read_nih
    from cxr.data.split import read_list
    from cxr.errors import CxrError
    from cxr.run.directory import Run
folder = Path(sys.argv.pop())
READERS = {
    "manifest.json": read_manifest, "Data_Entry_2017.csv": lambda folder: read_nih(str(folder)),
    "BBox_List_2017.csv": read_boxes, "list.txt": lambda folder: read_list(folder, "list.txt"),
    "config.yaml": lambda folder: Run(folder).config(), "metrics.json": lambda folder: Run(folder).metrics(),
}
name = sys.argv.pop()

def one(data):
    (folder / name).write_bytes(data)
    with contextlib.suppress(CxrError):
        READERS[name](folder)

atheris.Setup(sys.argv, one)
atheris.Fuzz()
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; pip install atheris")
@pytest.mark.parametrize(
    "name", ["manifest.json", "Data_Entry_2017.csv", "BBox_List_2017.csv", "list.txt", "config.yaml", "metrics.json"]
)
def test_no_bytes_make_a_reader_fail_but_with_a_sentence(tmp_path: Path, name: str) -> None:
    limits = ["-max_total_time=60", "-max_len=4096", "-timeout=10", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-c", HARNESS, *limits, name, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "DONE" in ended.stderr or "Done" in ended.stderr
