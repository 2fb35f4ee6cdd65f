"""The page that `serve` shows scores as the file does, and requests nothing but its own networks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.use.pages import film, open_file, rows

pytestmark = pytest.mark.browser
TOKEN = "a_secret_of_this_test"


@contextmanager
def served(folder: Path, token: str = "") -> Iterator[str]:
    """The address of a server of a bundle."""
    environment = {**os.environ, **({"CXR_TOKEN": token} if token else {})}
    command = [sys.executable, "-m", "cxr", "serve", f"bundle={folder}", "port=0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(": ")[0]
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(film()).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def test_scores_are_those_of_the_file_and_the_image_stays(browser: Any, folder: Path, picture: Path) -> None:
    browser.get((folder / "page.html").as_uri())
    open_file(browser, picture)
    expected = rows(browser)
    with served(folder) as address:
        browser.get_log("performance")
        browser.get(f"{address}/")
        assert "only the networks come from the server" in browser.find_element("id", "drop").text
        assert "2 findings scored" in open_file(browser, picture)
        assert rows(browser) == expected
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        sent = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
        outside = "fetch('http://127.0.0.1:9/').then(() => arguments[0](1), () => arguments[0](0))"
        assert browser.execute_async_script(outside) == 0
        assert browser.find_element("id", "api").get_attribute("href") == f"{address}/docs"
    asked = [each for each in sent if each["url"].startswith("http") and not each["url"].endswith("favicon.ico")]
    paths = {"/", *(f"/page/{name}" for name in ("runtime", "runtime-script", "network-0", "network-1"))}
    assert {each["url"] for each in asked} == {address + path for path in paths}
    assert all(each["method"] == "GET" for each in asked)


def test_a_browser_sends_the_token_as_a_password(browser: Any, folder: Path, picture: Path) -> None:
    with served(folder, TOKEN) as address:
        browser.get(address.replace("://", f"://user:{TOKEN}@"))
        assert "2 findings scored" in open_file(browser, picture)
