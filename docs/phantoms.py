"""A contact sheet of phantoms, one row without and one for each finding: `python docs/phantoms.py out.jpg`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.files.writing import replacing
from cxr.findings import NIH14, NO_FINDING
from cxr.phantom.population import Visit, draw_population
from cxr.phantom.radiograph import render


def contact_sheet(columns: int = 5, seed: int = 0, size: int = 256) -> NDArray[np.uint8]:
    """Draws `columns` patients of a default population for each finding, those with the fewest findings first.

    Returns:
        `(15 * size, columns * size)` uint8, the name of the finding in the corner of each row.
    """
    visits = draw_population(1200, seed)
    rows = []
    for finding in (NO_FINDING, *NIH14):
        pictures = [render(visit, seed, size).picture for visit in _examples(visits, finding, columns)]
        row = np.hstack(pictures)
        place, font, scale = (size // 32, size - size // 32), cv2.FONT_HERSHEY_SIMPLEX, size / 480
        name = finding.replace("_", " ")
        (wide, tall), _ = cv2.getTextSize(name, font, scale, 1)
        cv2.rectangle(row, (0, place[1] - tall - 4), (place[0] + wide + 4, size), 0, cv2.FILLED)
        cv2.putText(row, name, place, font, scale, 255, 1, cv2.LINE_AA)
        rows.append(row)
    return np.vstack(rows)


def _examples(visits: list[Visit], finding: str, count: int) -> list[Visit]:
    shown = [visit for visit in visits if finding in (visit.shown or (NO_FINDING,))]
    first: dict[int, Visit] = {}
    for visit in sorted(shown, key=lambda visit: len(visit.shown)):
        first.setdefault(visit.patient, visit)
    return list(first.values())[:count]


if __name__ == "__main__":
    with replacing(Path(sys.argv[1])) as path:
        cv2.imwrite(str(path), contact_sheet(), [cv2.IMWRITE_JPEG_QUALITY, 85])
