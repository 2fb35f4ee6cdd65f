"""Attention maps as pictures: the radiograph as the network sees it, with the map in colour over it."""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.errors import CxrError
from cxr.files.writing import replacing
from cxr.use.scoring import Floats, Scores, Views
from cxr.use.system import System

_SHARE = 0.4  # of the map in the picture
_LONGEST = 120  # characters of a file's name


def write_maps(system: System, scores: Scores, views: Sequence[Views], names: Sequence[str], folder: Path) -> None:
    """Writes the attention maps of N images as PNG.

    A member whose maps are of findings gets one picture per finding, another one the mean over its heads. Each
    member of an ensemble has a folder.

    Args:
        system: whose maps they are.
        scores: of the images.
        views: of the images.
        names: (N,) of the pictures; characters that a path could need are replaced.
        folder: made if it is missing.

    Raises:
        CxrError: a picture cannot be written.
    """
    ends = [f".{file_name(finding)}" for finding in system.findings]
    if len(set(ends)) < len(ends):  # such as of Chinese names
        ends = [f".{number + 1}{end}" for number, end in enumerate(ends)]
    for position, (member, maps) in enumerate(zip(system.members, scores.maps, strict=True)):
        if maps is None:
            continue
        below = folder / file_name(f"{position + 1}-{member.name}") if len(system.members) > 1 else folder
        for name, view, each in zip(names, views, maps, strict=True):
            shown = dict(zip(ends, each, strict=True)) if member.maps == "findings" else {"": each.mean(0)}
            for end, attention in shown.items():
                _write(below / f"{file_name(name)}{end}.png", overlay(view[position], attention))


def overlay(image: NDArray[np.uint8], attention: Floats) -> NDArray[np.uint8]:
    """A radiograph (S, S) uint8 and a map (h, w) to a picture (S, S, 3), in OpenCV's order of colours.

    The map is stretched from 0 to its largest value.
    """
    side = image.shape[::-1]
    larger = cv2.resize(attention.astype(np.float32), side, interpolation=cv2.INTER_CUBIC).clip(min=0)
    heat = cv2.applyColorMap((255 * larger / max(float(larger.max()), 1e-12)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    film = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(film, 1 - _SHARE, heat, _SHARE, 0))


def file_name(text: str) -> str:
    """A text as the name of a file, without folders."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".")[:_LONGEST] or "-"


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    encoded, content = cv2.imencode(".png", picture)
    if not encoded:
        raise CxrError(f"{path} cannot be written as PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())
