"""The page of a bundle, which scores radiographs in a browser: one HTML file without server or network, or served.

Its parts lie in this folder and are joined here. ONNX Runtime Web comes from `cxr.use.page.runtime`.
"""

import base64
import gzip
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cxr.files.reading import read_text
from cxr.files.writing import write_text
from cxr.use.page.runtime import Runtime, runtime
from cxr.use.system import is_numbers

PARTS = ("strings", "decode", "dicom", "levels", "resize", "unusual", "model", "viewer", "card", "app")
CARD = "MODEL_CARD.md"
_HERE = Path(__file__).parent
_SHOWN = ("name", "findings", "parents", "members", "rule", "calibration", "operating_points")


@dataclass(frozen=True)
class ServedPage:
    """The page for a server.

    Attributes:
        html: the document, at `/`.
        parts: what it loads from `/page/<name>`: bytes, or a file of the bundle.
    """

    html: str
    parts: Mapping[str, bytes | Path]


def write_page(path: Path, about: Mapping[str, Any], digest: str, runtime: Runtime) -> None:
    """Writes the page of a bundle as one file.

    Args:
        path: the HTML file.
        about: content of the bundle's `bundle.json`; the networks and the model card lie beside `path`.
        digest: of the bundle.
        runtime: ONNX Runtime Web.

    Raises:
        OSError: a file cannot be read or written.
    """
    parts = _parts(path.parent, about, runtime)
    data = [_embedded(name, part.read_bytes() if isinstance(part, Path) else part) for name, part in parts.items()]
    write_text(path, _page(path.parent, about, digest, runtime, data, served=False))


def served_page(folder: Path, digest: str) -> ServedPage:
    """The page of a bundle for a server.

    Args:
        folder: the bundle, which was loaded and checked.
        digest: of the bundle.

    Raises:
        CxrError: there is no ONNX Runtime Web, or the model card is not text.
        OSError: a file cannot be read.
    """
    about, web = json.loads((folder / "bundle.json").read_bytes()), runtime()
    parts = _parts(folder, about, web)
    data = [f'<script type="text/plain" id="{name}" data-source="page/{name}"></script>' for name in parts]
    return ServedPage(_page(folder, about, digest, web, data, served=True), parts)


def _parts(folder: Path, about: Mapping[str, Any], runtime: Runtime) -> dict[str, bytes | Path]:
    networks = {f"network-{number}": folder / member["file"] for number, member in enumerate(about["members"])}
    return {"runtime-script": runtime.module, "runtime": runtime.wasm, **networks}


def _page(folder: Path, about: Mapping[str, Any], digest: str, runtime: Runtime, data: list[str], served: bool) -> str:
    system = {key: about[key] for key in _SHOWN} | {"digest": digest, "auroc": _auroc(about), "served": served}
    system["detectors"] = about.get("detectors")  # earlier bundles have none
    program = "\n".join(_part(f"{name}.js") for name in PARTS)
    style, script = _part("page.css"), runtime.script.decode()
    policy = {
        "default-src": "'none'",
        "script-src": f"{_digest(script)} {_digest(program)} blob: 'wasm-unsafe-eval'",
        "style-src": _digest(style),
        "img-src": "blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    } | ({"connect-src": "'self'"} if served else {})
    values = {
        "policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": html.escape(str(about["name"])),
        "style": style,
        "system": _json(system),
        "card": _json(read_text(folder / CARD) if CARD in about["files"] else ""),  # no other file was checked
        "data": "\n".join(data),
        "runtime": script,
        "program": program,
    }
    pieces = _part("page.html").split("@")  # text and names alternate
    return "".join(values[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _auroc(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The AUROC of each finding on test, or else on validation, where it is a number."""
    for split in ("test", "val"):
        metrics = about.get(split)
        values = metrics.get("auroc") if isinstance(metrics, Mapping) else None
        if isinstance(values, Mapping) and values:
            plain = {
                name: value.get("value") if isinstance(value, Mapping) else value for name, value in values.items()
            }
            return {"split": split, "values": {name: value for name, value in plain.items() if is_numbers([value], 1)}}
    return None


def _part(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of an inline script or style (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that cannot end the element around it."""
    return json.dumps(value).replace("<", "\\u003c")


def _embedded(name: str, content: bytes) -> str:
    packed = base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
    return f'<script type="text/plain" id="{name}" data-length="{len(content)}">{packed}</script>'
