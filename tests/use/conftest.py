"""Fixtures of the tests of the page: Chromium, and the page of a bundle."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxr.errors import CxrError
from cxr.use.page.runtime import Runtime, runtime
from cxr.use.page.write import write_page
from tests.use.made import bundle
from tests.use.pages import POINTS


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed; make setup EXTRAS=browser")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.set_script_timeout(120)
    yield window
    window.quit()


@pytest.fixture(scope="session")
def web() -> Runtime:
    try:
        return runtime()
    except CxrError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, web: Runtime) -> Path:
    """A bundle of two members, with its page."""
    folder = tmp_path_factory.mktemp("page") / "bundle"
    digest = bundle(folder, operating_points=POINTS)
    table = "| a | b |\n| --- | ---: |\n| 1 | 2\\_3 |"
    card = f"---\nlicense: other\n---\n# made\n\nA **bold** word.\n\n{table}\n\n- one\n- `two`\n"
    (folder / "MODEL_CARD.md").write_text(card)
    write_page(folder / "page.html", json.loads((folder / "bundle.json").read_text()), digest, web)
    (folder / "MODEL_CARD.md").write_text("a card")
    return folder


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    browser.get((folder / "page.html").as_uri())
    return browser
