"""What the tests of the page do with it: open a file, wait, read the rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

POINTS = {"half": {"Mass": 0.5, "Effusion": None}, "youden": {"Mass": 0.25, "Effusion": 0.5}}


def wait(page: Any, condition: str) -> None:
    script = "const done = arguments[0]; const look = () => (%s) ? done() : setTimeout(look, 20); look();"
    page.execute_async_script(script % condition)


def open_file(page: Any, path: Path) -> str:
    """Opens a file as a user does; returns the status line."""
    page.find_element("id", "file").send_keys(str(path))
    wait(page, f"$('status').textContent.startsWith({json.dumps(path.name)})")
    return str(page.find_element("id", "status").text)


def rows(page: Any) -> list[dict[str, str]]:
    return page.execute_script("return [...document.querySelectorAll('.row')].map((row) => ({...row.dataset}))")


def film(shape: tuple[int, int] = (45, 61), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = rng.integers(30, 226, (6, 8)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize(shape[::-1], Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + rng.integers(-9, 10, shape), 0, 255).astype(np.uint8)
