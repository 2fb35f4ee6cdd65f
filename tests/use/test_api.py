"""The HTTP API scores as the bundle does, refuses what it cannot use in one sentence, and answers while it works."""

import asyncio
import base64
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cxr.cli.entry import run
from cxr.imaging.decode import gray
from cxr.imaging.limits import BadImage
from cxr.use.api import create_app
from cxr.use.page.runtime import Runtime
from cxr.use.page.write import served_page
from cxr.use.scoring import Model
from tests.use.made import FINDINGS, bundle, model

FILM = np.random.default_rng(0).integers(40, 200, (32, 32), np.uint8)
PNG = cv2.imencode(".png", FILM)[1].tobytes()
TOKEN = "a secret of this test"


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(model(), megabytes=1)) as client:
        yield client


def test_an_image_gets_the_scores_of_the_model(client: TestClient) -> None:
    known = model()
    found = client.post("/v1/predict", files={"file": ("x", PNG)}).json()
    expected = known.score_image(FILM)
    assert list(found["score"].values()) == pytest.approx(expected.score[0])
    assert expected.calibrated is not None
    assert found["calibrated"] == pytest.approx(dict(zip(FINDINGS, expected.calibrated[0].tolist(), strict=True)))
    assert found["calls"]["half"]["Effusion"] is None and found["calls"]["youden"]["Mass"] in (0, 1)
    assert [member["name"] for member in found["members"]] == ["a", "b"]
    older = client.post("/v1/predict", files={"file": PNG}, data={"age": "50", "sex": "F", "view": ""}).json()
    assert older["members"][1]["score"]["Mass"] == pytest.approx(found["members"][1]["score"]["Mass"] + 0.5, abs=1e-6)
    assert client.get("/v1/model").json()["findings"] == list(FINDINGS)


def test_attributes_reach_the_networks_and_remarks_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def forward(image: np.ndarray, attributes: np.ndarray) -> Any:
        seen.append(attributes[0].tolist())
        return known.forwards[0](image, attributes)

    known = model()
    monkeypatch.setattr("cxr.use.api.gray_with_remarks", lambda content: (FILM[:8], ("a lateral view",)))
    with TestClient(create_app(Model(known.system, (forward, known.forwards[1])))) as client:
        for age, sex, view in (("40", "M", "AP"), ("7", "f", "pa")):
            sent = client.post("/v1/predict", files={"file": PNG}, data={"age": age, "sex": sex, "view": view})
            assert sent.json()["warnings"] == ["a lateral view", "has the aspect ratio 4.0"]
    assert seen == [pytest.approx([0.4, 1, 0, 0, 1]), pytest.approx([0.07, 0, 1, 1, 0])]


def test_a_bad_file_of_a_batch_leaves_the_others_alone(client: TestClient) -> None:
    files = [("file", (name, content)) for name, content in (("a", PNG), ("b", b"text"), ("c", PNG[:-9]), ("d", PNG))]
    images = client.post("/v1/predict/batch", files=files).json()["images"]
    assert [image["status"] for image in images] == ["ok", "refused", "refused", "ok"]
    assert images[0] == images[3] and "not an image" in images[1]["reason"] and "truncated" in images[2]["reason"]
    counted = client.get("/metrics").text
    assert 'cxr_images_total{status="ok"} 2.0' in counted and 'cxr_images_total{status="refused"} 2.0' in counted
    assert 'cxr_requests_total{path="/v1/predict/batch",status="200"} 1.0' in counted


HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=x"}
BLANK = cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"files": {"file": b"text"}}, 415, "the file is not an image of a known format"),
        ({"content": PNG, "headers": {"content-type": "image/png"}}, 415, "must be a form"),
        ({"files": {"file": PNG[:-9]}}, 422, "the image cannot be used: truncated"),
        ({"files": {"file": BLANK}}, 422, "blank"),
        ({"files": {"film": PNG}}, 422, "must be 'file'"),
        ({"files": [("file", PNG), ("file", PNG)]}, 422, "has 2 files; expected 1"),
        ({"files": {"file": PNG}, "data": {"age": "old"}}, 422, "age='old' must be a number of years"),
        ({"files": {"file": PNG}, "data": {"age": "nan"}}, 422, "age='nan'"),
        ({"files": {"file": PNG}, "data": {"view": "lateral"}}, 422, "view='lateral' must be PA or AP"),
        ({"files": {"file": PNG}, "data": {"weight": "3"}}, 422, "'weight' is unknown"),
        ({"files": {"file": PNG}, "data": {"age": ["3", "4"]}}, 422, "the field 'age' twice"),
        ({"files": {"file": b"\0" * 1_100_000}}, 413, "larger than 1 MB"),
        ({"content": iter([b"\0" * 300_000] * 2), "headers": {"content-type": "multipart/form-data; boundary=x"}},
         422, "the form cannot be read"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 422, "the form cannot be read"),
        ({"content": HEAD + PNG, "headers": FORM}, 422, "cut off before its last boundary"),
        ({"content": HEAD + PNG + b"\r\n" + HEAD + PNG, "headers": FORM}, 422, "cut off before its last boundary"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_sentence(
    client: TestClient, sent: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post("/v1/predict", **sent)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert said in answer.json()["error"]


def test_a_body_without_a_length_is_bounded(client: TestClient) -> None:
    answer = client.post("/v1/predict", content=iter([HEAD, *[b"\0" * 300_000] * 4]), headers=FORM)
    assert answer.status_code == 413


@pytest.mark.parametrize(("status", "goes"), [(400, True), (408, False)])
def test_a_client_that_goes_away_or_waits_is_no_error_of_the_server(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, status: int, goes: bool
) -> None:
    monkeypatch.setattr("cxr.use.posted._SECONDS", 5 if goes else 0.05)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    sent, answered = [{"type": "http.request", "body": head, "more_body": True}, {"type": "http.disconnect"}], []

    async def receive() -> Any:
        await asyncio.sleep(0 if goes or len(sent) == 2 else 20)
        return sent.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "client": None, "server": None,
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert answered[0]["status"] == status
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("bodies", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_odd_bodies_are_never_an_error_of_the_server(client: TestClient, bodies: int) -> None:
    rng = np.random.default_rng(1)
    form = client.build_request("POST", "/v1/predict", files={"file": ("a", PNG)}, data={"age": "40"})
    whole, kind = form.read(), form.headers["content-type"]
    formats = [cv2.imencode(suffix, FILM)[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".tiff", ".webp", ".pgm")]
    seen = set()
    for number in range(bodies):
        body, header = bytearray(whole), kind
        if number % 3 == 0:
            body = bytearray(whole.replace(PNG, formats[number % len(formats)]))
        for _ in range(int(rng.integers(1, 6))):
            body[int(rng.integers(len(body)))] = int(rng.integers(256))
        if number % 5 == 0:
            body = body[: int(rng.integers(len(body)))]
        if number % 7 == 0:
            header = "".join(chr(c) for c in rng.permutation([ord(c) for c in kind]))
        path = ("/v1/predict", "/v1/predict/batch")[number % 2]
        answer = client.post(path, content=bytes(body), headers={"content-type": header})
        seen.add(answer.status_code)
        assert answer.status_code in (200, 400, 413, 415, 422), (number, answer.text)
    assert {200, 415, 422} <= seen


def test_a_token_is_needed_for_all_but_health_and_documentation() -> None:
    with TestClient(create_app(model(), token=TOKEN)) as client:
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        wrong = base64.b64encode(f"{TOKEN}:x".encode()).decode()
        for given in (
            None,
            "",
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Basic {TOKEN}",
            f"Basic {wrong}",
            "Basic é",
            "Bearer é",
        ):
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            assert client.get("/v1/model", headers=headers).status_code == 401
            assert client.post("/v1/predict", files={"file": PNG}, headers=headers).status_code == 401
            for path in ("/metrics", "/", "/page/network-0"):
                assert client.get(path, headers=headers).status_code == 401
        for host in ("x/docs?", "x/docs#", "x/healthz;"):  # some versions of Starlette begin the URL with it
            assert client.get("/v1/model", headers={"host": host}).status_code == 401
        for scheme in ("Bearer", "bearer"):  # RFC 9110, section 11.1: in any case
            assert client.get("/v1/model", headers={"authorization": f"{scheme} {TOKEN}"}).status_code == 200
        assert client.get("/x", auth=("", TOKEN)).json()["error"] == "Not Found; GET /docs lists what there is"
        assert client.get("/", auth=("anybody", TOKEN)).status_code == 200  # as browsers send it
        assert "Basic" in client.get("/").headers["www-authenticate"]


def test_documentation_needs_no_network(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert re.findall(r"(?:src|href)=\"([^\"]*)", page.text) == ["openapi.json", "."]
    described = client.get("/openapi.json").json()["paths"]
    listed = set(re.findall(r"<code>(?:GET|POST) (/[\w/]+)</code>", page.text))
    assert listed - {"/"} == set(described) == {f"/{name}" for name in
        ("v1/predict", "v1/predict/batch", "v1/model", "healthz", "readyz", "metrics")}  # fmt: skip
    for path in ("/redoc", "/page/network-0"):
        assert client.get(path).status_code == 404 and list(client.get(path).json()) == ["error"]
    assert client.get("/").text == page.text, "without a page"


def test_the_page_loads_its_networks_from_the_server(tmp_path: Path) -> None:
    digest = bundle(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxr.use.page.write.runtime", lambda: Runtime(b"var ort = {};", b"export default 1;", b"\0asm"))
        page = served_page(tmp_path, digest)
    with TestClient(create_app(model(), page=page)) as client:
        text = client.get("/").text
        sources = re.findall(r'id="([\w-]+)" data-source="page/([\w-]+)"', text)
        assert dict(sources) == {name: name for name in ("runtime-script", "runtime", "network-0", "network-1")}
        for name in ("0", "1"):
            assert client.get(f"/page/network-{name}").content == (tmp_path / f"{name}.onnx").read_bytes()
        assert client.get("/page/runtime").content == b"\0asm"
        assert "connect-src 'self'" in text and digest in text
        for name in ("bundle.json", "../bundle.json", "%2e%2e%2fbundle.json", "network-2"):
            assert client.get(f"/page/{name}").status_code == 404
        assert client.get("/").headers["content-security-policy"] == "frame-ancestors 'none'"
        assert 'path="/page/{name}"' in client.get("/metrics").text


def blocked(release: threading.Event) -> Model:
    """A model whose networks wait."""
    known = model()

    def forward(image: np.ndarray, attributes: np.ndarray) -> Any:
        release.wait(20)
        return known.forwards[0](image, attributes)

    return Model(known.system, (forward, known.forwards[1]))


def test_health_answers_while_32_requests_wait_and_a_full_queue_refuses() -> None:
    release = threading.Event()
    app = create_app(blocked(release), queue=32)
    longest, refused, answers = asyncio.run(_load(app, release))
    assert longest < 0.05
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers] == [200] * 32


async def _load(app: FastAPI, release: threading.Event) -> tuple[float, httpx.Response, list[httpx.Response]]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        try:
            waiting = [asyncio.create_task(client.post("/v1/predict", files={"file": PNG})) for _ in range(32)]
            while (await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
            seconds = []
            for _ in range(20):
                began = time.process_time()
                assert (await client.get("/healthz")).status_code == 200
                seconds.append(time.process_time() - began)
            refused = await client.post("/v1/predict", files={"file": PNG})
        finally:
            release.set()
        answers = await asyncio.gather(*waiting)
        assert (await client.get("/readyz")).status_code == 200
    return max(seconds), refused, list(answers)


def test_nothing_of_an_image_is_logged_or_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    written = []
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda self: written.append(self))
    caplog.set_level(logging.DEBUG)
    shades = np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8)
    shades[:750] //= 2
    noise = cv2.imencode(".png", shades)[1].tobytes()
    assert 1_200_000 < len(noise) < 3_000_000, "more than Starlette keeps in memory by default"
    with TestClient(create_app(model(), megabytes=3)) as client:
        for content, status in ((noise, 200), (b"text", 415)):
            sent = client.post("/v1/predict", files={"file": ("Doe^Jane.png", content)})
            assert sent.status_code == status
            assert (sent.headers["cache-control"], sent.headers["x-content-type-options"]) == ("no-store", "nosniff")
    ours = [line for line in caplog.messages if "HTTP Request" not in line]  # of the client
    assert not [line for line in ours if "Doe" in line]
    assert written == [] and list(tmp_path.iterdir()) == []


def test_headers_and_damaged_forms_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    tags = b"\x08\x00\x05\x00CS\x08\x00Doe^Jane\x10\x00\x10\x00PN\x02\x00x "  # character set, name of the patient
    syntax = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
    with pytest.raises(BadImage):
        gray(bytes(128) + b"DICM")  # imports the module that ignores warnings
    content = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(syntax).to_bytes(4, "little") + syntax + tags
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(BadImage):
            gray(content)
        assert [each for each in warned if "Doe" in str(each.message)]
        warned.clear()
        caplog.clear()
        with TestClient(create_app(model())) as client:
            assert client.post("/v1/predict", files={"file": content}).status_code == 422
            form = {"content-type": "multipart/form-data; boundary=b"}
            assert client.post("/v1/predict", content=b"Doe", headers=form).status_code == 422
    assert not [each for each in warned if "Doe" in str(each.message)]
    assert not [record for record in caplog.records if record.name.startswith(("pydicom", "python_multipart"))]


def test_the_program_serves_without_pytorch_and_stops_with_code_0(tmp_path: Path) -> None:
    bundle(tmp_path / "bundle")
    code = (
        "import sys; sys.argv = ['cxr', 'serve', 'bundle=bundle', 'port=0']\nfrom cxr.cli.entry import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'torch', 'timm', 'lightning'} & set(sys.modules)))"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "CXR_TOKEN": TOKEN, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split(": ")[0]
        answer = httpx.post(
            f"{address}/v1/predict", files={"file": PNG}, headers={"authorization": f"Bearer {TOKEN}"}, timeout=60
        )
        refused = httpx.get(f"{address}/v1/model")
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    assert answer.status_code == 200 and refused.status_code == 401
    assert (process.returncode, rest) == (0, "[]\n")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (["host=0.0.0.0"], None, "host=0.0.0.0 can be reached from other machines; set the environment variable"),
        (["host=0.0.0.0"], "short", "CXR_TOKEN must have 16 or more"),
        (["bundle=absent"], None, "bundle.json is missing"),
        (["host=192.0.2.1"], TOKEN, "host=192.0.2.1 port=8000 cannot be used"),
    ],
)
def test_a_server_that_cannot_be_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], token: str | None, said: str,
) -> None:  # fmt: skip
    bundle(tmp_path / "bundle")
    monkeypatch.delenv("CXR_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("CXR_TOKEN", token)
    monkeypatch.setattr(sys, "argv", ["cxr"])
    monkeypatch.chdir(tmp_path)
    assert run("serve", ["bundle=bundle", *words]) == 1
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(tmp_path / "bundle")
    monkeypatch.setattr(sys, "argv", ["cxr"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("serve", [f"bundle={tmp_path}/bundle", f"port={port}"]) == 1
    assert f"host=127.0.0.1 port={port} cannot be used: address already in use; choose" in capsys.readouterr().err
