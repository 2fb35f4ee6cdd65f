"""The parts of the page that need no browser: what it embeds, what it allows, and where its runtime comes from."""

import base64
import gzip
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

import cxr.use.page.runtime as page_runtime
from cxr.errors import CxrError
from cxr.use import load_bundle
from cxr.use.page.runtime import Runtime, fetch, runtime
from cxr.use.page.write import served_page, write_page
from tests.use.made import bundle

FOLDER = Path(page_runtime.__file__).parent
RUNTIME = Runtime(b"var ort = {};", b"export default 1;", b"\0asm")


class Elements(HTMLParser):
    """Elements of a page: (name, attributes, text)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((name, dict(attributes), []))

    def handle_endtag(self, name: str) -> None:
        self.found.append(("", {}, []))  # the text that follows is of no element

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def texts(self, name: str) -> dict[str, str]:
        """Texts of elements by their id; those without one are numbered."""
        chosen = [(about, "".join(text)) for kind, about, text in self.found if kind == name]
        return {about.get("id") or str(place): text for place, (about, text) in enumerate(chosen)}


def written(folder: Path, **changes: object) -> tuple[str, Elements]:
    digest = bundle(folder, **changes)
    about = json.loads((folder / "bundle.json").read_text())
    write_page(folder / "page.html", about, digest, RUNTIME)
    page = (folder / "page.html").read_text()
    return page, Elements(page)


def test_the_page_embeds_networks_system_and_card(tmp_path: Path) -> None:
    page, elements = written(
        tmp_path / "bundle", test={"auroc": {"Mass": {"value": 0.7, "ci": [0.6, 0.8]}, "Effusion": 0.9}}
    )
    scripts = elements.texts("script")
    for name, content in (("runtime", RUNTIME.wasm), ("runtime-script", RUNTIME.module),
                          ("network-0", (tmp_path / "bundle/0.onnx").read_bytes()),
                          ("network-1", (tmp_path / "bundle/1.onnx").read_bytes())):  # fmt: skip
        assert gzip.decompress(base64.b64decode(scripts[name])) == content
        assert f'id="{name}" data-length="{len(content)}"' in page
    system = json.loads(scripts["system"])
    assert system["auroc"] == {"split": "test", "values": {"Mass": 0.7, "Effusion": 0.9}}
    assert json.loads(scripts["card-text"]) == "a card"
    assert system["digest"] == sha256((tmp_path / "bundle/bundle.json").read_bytes()).hexdigest()


def test_the_policy_allows_these_scripts_and_this_style_only(tmp_path: Path) -> None:
    _, elements = written(tmp_path)
    (policy,) = [str(about["content"]) for name, about, _ in elements.found
                 if about.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    rules = {name: sources.split() for name, _, sources in (rule.strip().partition(" ") for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"] and "connect-src" not in rules

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode() + "'"

    code = ["".join(text) for name, about, text in elements.found if name == "script" and about.get("type") is None]
    assert rules["script-src"] == [*map(digest, code), "blob:", "'wasm-unsafe-eval'"] and len(code) == 2
    assert rules["style-src"] == [digest(*elements.texts("style").values())]


def test_a_bundle_cannot_put_elements_into_the_page(tmp_path: Path) -> None:
    name = "</script></title><img src=x>"
    page, elements = written(tmp_path, name=name)
    assert json.loads(elements.texts("script")["system"])["name"] == name
    assert "<img" not in page and elements.texts("title") == {"0": name}


def test_every_text_is_in_the_table_and_every_entry_is_used() -> None:
    table = (FOLDER / "strings.js").read_text()
    keys = set(re.findall(r"^  (\w+):", table, re.MULTILINE))
    code = "".join(path.read_text() for path in FOLDER.glob("*.js") if path.name != "strings.js")
    markup = (FOLDER / "page.html").read_text()
    marked = set(re.findall(r'data-text="(\w+)"', markup))
    assert marked <= keys
    assert set(re.findall(r'(?<![\w.])(?:text|Refused)\("(\w+)"', code)) <= keys
    assert {key for key in keys - marked if not re.search(rf'"{key}"', code)} == set()
    visible = re.sub(r"<(noscript|script|style|title)\b.*?</\1>|<[^>]*>|@\w+@", "", markup, flags=re.DOTALL)
    assert visible.split() == []


def test_without_npm_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CxrError, match=r"npm is not installed, so that onnxruntime-web@1\.30\.0 cannot be downloaded"):
        fetch()
    with pytest.raises(CxrError, match="run make page-assets"):
        runtime()


def test_a_file_of_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "cxr" / "onnxruntime-web-1.30.0"
    folder.mkdir(parents=True)
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).write_text("another")
    for load in (fetch, runtime):
        with pytest.raises(CxrError, match=r"ort.wasm.min.js is not that of onnxruntime-web@1.30.0; remove it"):
            load()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_page_of_a_bundle_from_anybody_shows_checked_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr("cxr.use.page.write.runtime", lambda: RUNTIME)
    (tmp_path / "secret").write_text("of this machine")
    auroc = {"Mass": {}, "Effusion": float("nan"), "x": 0.5}
    bundle(tmp_path / "bundle", files={}, test=[1], val={"auroc": auroc})
    card, about = tmp_path / "bundle" / "MODEL_CARD.md", tmp_path / "bundle" / "bundle.json"
    about.write_bytes(about.read_text().encode(encoding))
    card.unlink()
    card.symlink_to(tmp_path / "secret")
    page = served_page(tmp_path / "bundle", load_bundle(tmp_path / "bundle").digest)
    assert "of this machine" not in page.html and '"auroc": {"split": "val", "values": {"x": 0.5}}' in page.html
    card.unlink()
    card.write_bytes(b"\xff")
    bundle(tmp_path / "other", files={"MODEL_CARD.md": sha256(b"\xff").hexdigest()})
    card.rename(tmp_path / "other" / "MODEL_CARD.md")
    with pytest.raises(CxrError, match=r"MODEL_CARD.md cannot be read as text"):
        served_page(tmp_path / "other", load_bundle(tmp_path / "other").digest)
