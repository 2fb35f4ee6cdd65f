"""What the detectors of unusual images find: `python benchmarks/detectors.py BUNDLE`.

BUNDLE is that of a run on `train_list.txt` and `val_list.txt` of the folder `nih_mini`. Images: those of its
`test_list.txt`, unchanged and changed, drawn ones, and photographs of scikit-learn, scikit-image and Matplotlib.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collections.abc import Callable

import cv2
import numpy as np

from benchmarks.unusual import RNG, SHARED, Film, found, noise, photographs
from cxr.imaging.decode import read_gray
from cxr.use.bundle import load_bundle
from cxr.use.unusual import VALUES


def clipped(image: np.ndarray) -> Film:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def tilted(film: Film, degrees: float, edge: int = cv2.BORDER_CONSTANT) -> Film:
    height, width = film.shape
    turn = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1)
    return cv2.warpAffine(film, turn, (width, height), borderMode=edge)


def detail(film: Film, share: float) -> Film:
    side = int(share * len(film))
    top, left = RNG.integers(0, len(film) - side, 2)
    return np.ascontiguousarray(film[top : top + side, left : left + side])


def on_light_box(film: Film) -> Film:
    """A photograph of a film on a light box: perspective, bright surround, uneven light."""
    side = len(film)
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    moved = corners * 0.74 + 0.12 * side + RNG.uniform(-0.05, 0.05, (4, 2)).astype(np.float32) * side
    seen = cv2.warpPerspective(film, cv2.getPerspectiveTransform(corners, moved), (side, side), borderValue=225)
    rows, columns = np.mgrid[:side, :side] / side
    light = 0.75 + 0.35 * np.exp(-((columns - RNG.random()) ** 2 + (rows - RNG.random()) ** 2) / 0.3)
    return clipped(cv2.GaussianBlur(seen * light, (0, 0), 1.2) + RNG.normal(0, 3, film.shape))


def screenshot(film: Film) -> Film:
    screen = np.full((540, 900), 45, np.uint8)
    screen[50:530, 280:760] = cv2.resize(film, (480, 480))
    for line in range(9):
        cv2.putText(screen, f"Tool {line}", (12, 80 + 48 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 210)
    return screen


def document() -> Film:
    page, line = np.full((512, 512), 245, np.uint8), 30
    while line < 490:
        words = " ".join(RNG.choice(["no", "acute", "findings", "lungs", "clear", "heart", "normal"], 5))
        cv2.putText(page, words, (40, line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 40)
        line += int(RNG.integers(14, 34))
    return page


def tiles(film: Film) -> Film:
    side = len(film) // 4
    parts = RNG.permutation(
        film[: 4 * side, : 4 * side].reshape(4, side, 4, side).swapaxes(1, 2).reshape(16, side, side)
    )
    return np.ascontiguousarray(parts.reshape(4, 4, side, side).swapaxes(1, 2).reshape(4 * side, -1))


CHANGED: dict[str, Callable[[Film], Film]] = {
    "unchanged": lambda film: film,
    "rotated by 90 degrees": lambda film: np.rot90(film).copy(),
    "rotated by 180 degrees": lambda film: np.rot90(film, 2).copy(),
    "rotated by 270 degrees": lambda film: np.rot90(film, 3).copy(),
    "upside down, mirrored": lambda film: film[::-1].copy(),
    "inverted": lambda film: 255 - film,
    "mirrored": lambda film: film[:, ::-1].copy(),
    "tilted by 15 degrees": lambda film: tilted(film, 15),
    "tilted by 15 degrees, reflected edges": lambda film: tilted(film, 15, cv2.BORDER_REFLECT),
    "tilted by 45 degrees": lambda film: tilted(film, 45),
    "detail, 70% of each side": lambda film: detail(film, 0.7),
    "detail, 50% of each side": lambda film: detail(film, 0.5),
    "detail, 25% of each side": lambda film: detail(film, 0.25),
    "wide border": lambda film: cv2.copyMakeBorder(film, *[len(film) // 4] * 4, cv2.BORDER_CONSTANT, value=0),
    "right half black": lambda film: film * (np.arange(film.shape[1]) < film.shape[1] // 2).astype(np.uint8),
    "tiles in another order": tiles,
    "two films side by side": lambda film: np.hstack([film, film[:, ::-1]]),
    "photograph of a film": on_light_box,
    "screenshot of a viewer": screenshot,
    "blur, 2 pixels of 256": lambda film: cv2.GaussianBlur(film, (0, 0), 2 * len(film) / 256),
    "blur, 8 pixels of 256": lambda film: cv2.GaussianBlur(film, (0, 0), 8 * len(film) / 256),
    "noise, 12 gray levels": lambda film: clipped(film + RNG.normal(0, 12, film.shape)),
    "noise, 25 gray levels": lambda film: clipped(film + RNG.normal(0, 25, film.shape)),
    "JPEG of quality 5": lambda film: cv2.imdecode(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 5])[1], 0),
    "12 bits in a 16-bit file": lambda film: film.astype(np.uint16) * 16,
    "contrast reduced to 20%": lambda film: clipped(128 + 0.2 * (film - 128.0)),
    "contrast times 3": lambda film: clipped(128 + 3 * (film - 128.0)),
    "gamma 0.4": lambda film: clipped(255 * (film / 255) ** 0.4),
    "gamma 2.5": lambda film: clipped(255 * (film / 255) ** 2.5),
}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    model = load_bundle(sys.argv[1])
    names = (SHARED / "nih_mini" / "test_list.txt").read_text().split()
    films = [read_gray(SHARED / "nih_mini" / "images" / name) for name in names]
    sets = {
        name: [change(film) for film in (films if name == "unchanged" else films[::4])]
        for name, change in CHANGED.items()
    }
    sets |= {"noise": noise(), "photographs": photographs(), "text": [document() for _ in range(50)]}
    print(f"| images | number | {' | '.join(VALUES)} | any warning |\n| --- |{' ---: |' * (len(VALUES) + 2)}")
    for name, images in sets.items():
        shares = " | ".join(f"{share:.1%}" for share in found(model, images).mean(axis=0))
        print(f"| {name} | {len(images)} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
