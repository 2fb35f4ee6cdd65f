"""Loads a bundle, the folder that `python -m cxr export` writes, with ONNX Runtime alone.

A bundle may come from anybody: every file is checked against the checksums in `bundle.json`, and its networks may use
known operators only.
"""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError, first_line
from cxr.files.reading import expanded, open_regular
from cxr.processes.cores import cores
from cxr.use.description import read_system
from cxr.use.graph import check_graph
from cxr.use.scoring import Floats, Forward, Model, Outputs
from cxr.use.system import Member

BUNDLE = "bundle.json"
_MOST_TEXT = 1 << 25  # bytes of bundle.json and of the files beside the networks
_MOST_BYTES = 1 << 31  # of a network, the most that ONNX allows
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")


def load_bundle(path: str | Path, digest: str | None = None, threads: int | None = None) -> Model:
    """Loads a bundle.

    Args:
        path: the folder.
        digest: SHA-256 of its `bundle.json`, which export prints. It proves that the bundle is the one that was
            exported (integrity), if you got the digest from whoever exported it.
        threads: that compute one call of a network, and sleep between calls. By default one per core; they wait
            actively for the next call, which is fastest for a caller that does nothing else.

    Raises:
        CxrError: ONNX Runtime is not installed; a file is missing, too long or has another checksum; `digest` differs;
            or a network is not of the kind that export writes.
    """
    folder = expanded(path)
    text = _read(folder / BUNDLE, _MOST_TEXT)
    found = sha256(text).hexdigest()
    if digest is not None and digest.strip().lower() != found:
        raise CxrError(f"{folder} has the digest {found}, not {digest}; it is not the bundle that you expect")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        raise CxrError(f"{folder / BUNDLE} is not JSON; export the run again") from None
    system = read_system(about, str(folder / BUNDLE))
    files = about.get("files")
    if not isinstance(files, Mapping) or len(files) > 100:
        raise CxrError(f"{folder / BUNDLE} names no files; export the run again")
    for name, checksum in files.items():
        _checked(folder, name, checksum, _MOST_TEXT)
    forwards, features = list[Forward](), system.detectors.features if system.detectors else 0
    for member, described in zip(system.members, about["members"], strict=True):
        file, checksum = described.get("file"), described.get("sha256")
        content = _checked(folder, file, checksum, _MOST_BYTES)
        needed = features if not forwards else 0  # of the first network
        forwards.append(forward_of(content, member, len(system.findings), str(folder / str(file)), needed, threads))
    return Model(system, tuple(forwards), found)


def forward_of(
    content: bytes, member: Member, findings: int, origin: str, features: int = 0, threads: int | None = None
) -> Forward:
    """A member of a bundle from the bytes of its ONNX file, and its features if `features` is their number F.

    `threads` as for `load_bundle`.

    Raises:
        CxrError: it is not of the kind that export writes, or ONNX Runtime is not installed.
    """
    check_graph(content, origin)
    session = open_session(content, origin, threads)
    inputs = {given.name: given.type for given in session.get_inputs()}
    outputs = [made.name for made in session.get_outputs()]
    expected = {"image": "tensor(uint8)"} | ({"attributes": "tensor(float)"} if member.attributes else {})
    wanted = ["score", *["maps"] * bool(member.maps), *["features"] * bool(features)]
    if inputs != expected or not set(wanted) <= set(outputs):
        raise CxrError(f"{origin} has the inputs {inputs} and the outputs {outputs}; export the run again")

    def forward(image: NDArray[np.uint8], attributes: Floats) -> Outputs:
        fed = {"image": image} | ({"attributes": attributes} if member.attributes else {})
        try:
            outputs = dict(zip(wanted, session.run(wanted, fed), strict=True))
        except Exception as error:  # ONNX Runtime has classes of its own for each kind
            raise CxrError(f"{origin} cannot be computed: {first_line(error)}") from error
        score, maps, pooled = (
            outputs["score"],
            outputs.get("maps"),
            outputs.get("features", np.zeros((len(image), 0), np.float32)),
        )
        fits = score.dtype == np.float32 and score.shape == (len(image), findings)
        if not fits or not ((score >= 0) & (score <= 1)).all():
            raise CxrError(f"{origin} returned no probabilities ({len(image)}, {findings}); export the run again")
        one_each = member.maps == "findings"
        if maps is not None and not (
            maps.dtype == np.float32
            and maps.ndim == 4
            and len(maps) == len(image)
            and maps.size
            and (not one_each or maps.shape[1] == findings)
        ):
            raise CxrError(f"{origin} returned maps of the shape {maps.shape}; export the run again")
        if pooled.dtype != np.float32 or pooled.shape != (len(image), features):
            raise CxrError(f"{origin} returned features of the shape {pooled.shape}; export the run again")
        return score, maps, pooled

    return forward


def open_session(content: bytes, origin: str, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU; `threads` as for `load_bundle`.

    Raises:
        CxrError: ONNX Runtime is not installed, or refuses the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise CxrError(
            "a bundle needs ONNX Runtime; run make setup EXTRAS=export, or pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; the log would have control characters of the bundle
    options.intra_op_num_threads = threads or cores()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads is None)))
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CxrError(f"{origin} is refused by ONNX Runtime: {first_line(error)}") from error


def _checked(folder: Path, name: Any, checksum: Any, most: int) -> bytes:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CxrError(f"{folder / BUNDLE} names the file {name!r}; files of a bundle lie in its folder")
    content = _read(folder / name, most)
    if sha256(content).hexdigest() != checksum:
        raise CxrError(f"{folder / name} has another checksum than {BUNDLE} says; get the bundle again")
    return content


def _read(path: Path, most: int) -> bytes:
    if path.parent.is_file():
        raise CxrError(f"{path.parent} is a file; give the folder of the bundle")
    try:
        with open_regular(path, most) as file:
            return file.read()
    except FileNotFoundError:
        raise CxrError(f"{path} is missing; is {path.parent} a bundle that export wrote?") from None
