"""The page is accessible: axe-core finds no violation, and the keyboard alone opens, reads and adjusts a film."""

from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from cxr.errors import CxrError
from cxr.use.page.runtime import fetch
from tests.use.pages import film, open_file, rows

pytestmark = pytest.mark.browser
# Code points of keys in the WebDriver standard.
TAB, ENTER, SPACE, ARROW_LEFT, ARROW_UP, ARROW_RIGHT = "\ue004", "\ue007", "\ue00d", "\ue012", "\ue013", "\ue014"
AXE = ("axe-core@4.14.1", {"axe.min.js": "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"})
LOOK = """
const done = arguments[0];
axe.run({ resultTypes: ["violations"] }).then(({ violations }) =>
  done(violations.map(({ id, impact, nodes }) => [id, impact, nodes.map(({ html }) => html)])));
"""


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return (fetch(*AXE) / "axe.min.js").read_text()
    except CxrError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 820, 400])
def test_axe_finds_nothing(page: Any, axe: str, tmp_path: Path, theme: str, width: int) -> None:
    page.set_window_size(width, 1000)
    try:
        page.execute_script(axe)  # by the driver, which the policy of the page does not bind
        page.execute_script("document.documentElement.style.colorScheme = arguments[0]", theme)
        Image.fromarray(film()).save(tmp_path / "film.png")
        cv2.imwrite(str(tmp_path / "long.png"), film((40, 200)))
        (tmp_path / "text.png").write_text("text")
        assert page.execute_async_script(LOOK) == [], "before a film is open"
        for name in ("film.png", "long.png", "text.png"):
            open_file(page, tmp_path / name)
            assert page.execute_async_script(LOOK) == [], name
        page.find_element("css selector", "#card summary").click()
        assert page.execute_async_script(LOOK) == [], "with the card"
    finally:
        page.set_window_size(1400, 1000)


def test_the_keyboard_alone_is_enough(page: Any, tmp_path: Path) -> None:
    def press(*keys: str) -> None:
        for key in keys:
            page.switch_to.active_element.send_keys(key)

    def to(name: str) -> None:
        for _ in range(40):
            if page.switch_to.active_element.get_attribute("id") == name:
                return
            press(TAB)
        raise AssertionError(f"the keyboard does not reach {name}")

    page.execute_script("window.asked = 0; $('file').onclick = (event) => { event.preventDefault(); asked++; }")
    to("open")
    press(ENTER)
    assert page.execute_script("$('file').onclick = null; return asked") == 1, "asks for a file"
    Image.fromarray(film()).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    to("canvas")
    press("+", "i", ARROW_LEFT)
    assert page.execute_script("return [viewer.zoom > 1, viewer.inverted, viewer.x > 0]") == [True, True, True]
    to("opacity")
    press(ARROW_RIGHT)
    assert page.execute_script("return viewer.opacity") == 0.01
    to("point")
    press(ARROW_UP)
    assert page.execute_script("return $('point').value") == "half"
    chosen = rows(page)[1]["finding"]
    page.execute_script("$('point').focus()")
    while page.switch_to.active_element.get_attribute("data-finding") != chosen:
        press(TAB)
    press(SPACE)
    assert chosen in page.find_element("css selector", "#detail h3").text
