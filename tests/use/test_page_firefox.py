"""The page in Firefox, from a file: the scores of Python. Firefox itself speaks WebDriver BiDi, without geckodriver."""

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.imaging.decode import read_gray
from cxr.use import load_bundle
from tests.imaging.films import encoded
from tests.imaging.films import film as dicom
from tests.use.made import FINDINGS
from tests.use.pages import film
from tests.use.test_page_dicom import jpeg

pytestmark = pytest.mark.browser
SECONDS = 60
Send = Callable[..., Any]
OPENED = """new Promise((done) => { const look = () =>
  document.getElementById("status").textContent.startsWith(%s) ? done(
    JSON.stringify([...document.querySelectorAll(".row")].map((row) => ({ ...row.dataset })))) : setTimeout(look, 20);
  look(); })"""

PIXELS = """decode(new File([Uint8Array.from(atob("%s"), (one) => one.charCodeAt(0))], "film")).then(
  ({ pixels, width, height }) => JSON.stringify([height, width, Array.from(pixels)]), (error) => error.key)"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Send]:
    """A function that sends a command of WebDriver BiDi (W3C) and returns its result."""
    websocket = pytest.importorskip("websocket", reason="selenium is not installed; make setup EXTRAS=browser")
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if not found:
        pytest.skip("Firefox is not installed; on Debian: apt-get install firefox-esr")
    profile = tmp_path_factory.mktemp("firefox")
    command = [found, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "WebDriver BiDi listening on" in line)
            socket = websocket.create_connection(f"{line.split()[-1]}/session", timeout=SECONDS, suppress_origin=True)
            numbers = itertools.count()

            def send(method: str, **parameters: Any) -> Any:
                number = next(numbers)
                socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
                answers = iter(lambda: json.loads(socket.recv()), None)
                answer = next(answer for answer in answers if answer.get("id") == number)
                assert answer["type"] == "success", answer
                return answer["result"]

            send("session.new", capabilities={})
            yield send
        finally:
            process.terminate()


def test_scores_are_those_of_python(firefox: Send, folder: Path, tmp_path: Path) -> None:
    tab = firefox("browsingContext.getTree")["contexts"][0]["context"]
    firefox("browsingContext.navigate", context=tab, url=(folder / "page.html").as_uri(), wait="complete")

    def run(code: str) -> Any:
        result = firefox("script.evaluate", expression=code, target={"context": tab}, awaitPromise=True)
        assert result["type"] == "success", result
        return result["result"].get("value"), result["result"].get("sharedId")

    Image.fromarray(film()).save(tmp_path / "film.png")
    (tmp_path / "film.dcm").write_bytes(encoded(dicom(film((90, 70)).astype("uint16") * 15, photometric="MONOCHROME1")))
    Image.fromarray(film((90, 80))).save(tmp_path / "film.jpg", quality=90)
    for path, most in ((tmp_path / "film.png", 1e-4), (tmp_path / "film.dcm", 1e-4), (tmp_path / "film.jpg", 1e-2)):
        element = {"sharedId": run("document.getElementById('file')")[1]}
        firefox("input.setFiles", context=tab, element=element, files=[str(path)])
        shown = json.loads(run(OPENED % json.dumps(f"{path.name}: 2 findings scored"))[0])
        expected = load_bundle(folder).score_image(read_gray(path)).score[0]
        assert {row["finding"] for row in shown} == set(FINDINGS)
        for row in shown:
            assert float(row["score"]) == pytest.approx(expected[FINDINGS.index(row["finding"])], abs=most)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(film((90, 80))).save(tmp_path / "turned.jpg", quality=90, exif=exif)
    (tmp_path / "parts.dcm").write_bytes(encoded(jpeg(film((90, 80)), fragments=3)))
    for name in ("turned.jpg", "parts.dcm"):
        expected = read_gray(tmp_path / name).astype(int)
        height, width, pixels = json.loads(run(PIXELS % base64.b64encode((tmp_path / name).read_bytes()).decode())[0])
        assert np.abs(np.array(pixels).reshape(height, width) - expected).max() <= (2 if name == "turned.jpg" else 257)
    cut = (tmp_path / "turned.jpg").read_bytes()[:-200]
    assert run(PIXELS % base64.b64encode(cut).decode())[0] == "truncated"
    assert run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")[0] == "refused"
