"""What turns a decoded radiograph into a network's input. It is stored in checkpoints and read from there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cxr.configuration.kinds import checked_option
from cxr.configuration.schema import Above0, Pixels
from cxr.errors import CxrError
from cxr.imaging.decode import resize
from cxr.imaging.warp import show

_Image = TypeVar("_Image")


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded radiograph (H, W) uint8 to a network's input (1, size, size) float32.

    1. Resize the whole image to a square of `cached` pixels, by area where it shrinks. The aspect ratio is not kept.
    2. With `crop`, cut out the middle `size` pixels (in training anywhere); otherwise resize to `size`.
    3. Normalise: gray values in [0, 1], minus `mean`, divided by `std`.

    A cache has the images after step 1, a batch those after step 2, and the network does step 3 on its device.

    Attributes:
        size: side of the network's input in pixels.
        cached: side of the cache's images in pixels.
        crop: see step 2.
        mean: of the gray channel, where white is 1.
        std: of the gray channel.

    Raises:
        CxrError: a side is not a positive number of pixels, a crop is larger than the cached image, or `std` is
            not above 0.
    """

    size: int
    cached: int
    crop: bool = False
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        for name, kind in (("size", Pixels), ("cached", Pixels), ("mean", float), ("std", Above0)):
            checked_option(f"preprocessing: {name}", getattr(self, name), kind)
        if self.crop and self.cached < self.size:
            raise CxrError(
                f"crop=true cuts {self.size} px out of a cache of {self.cached} px; "
                "raise cache.size or lower image_size"
            )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 to (1, size, size) float32, as validation and test images are shown to the network."""
        return self.normalise(self.view(resize(pixels, self.cached)).astype(np.float32))[None]

    def view(self, image: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """A cached image (cached, cached) uint8 to what the network sees of it, (size, size) uint8, filled `into`."""
        shown = np.empty((self.size, self.size), np.uint8) if into is None else into
        scale, shift = self.pixels()
        back = 1 / scale
        offset = -shift if self.crop else (back - 1) / 2
        show(image, np.array([[back, 0, offset], [0, back, offset], [0, 0, 1]]), shown)
        return shown

    def normalise(self, image: _Image) -> _Image:
        """Gray values as float32, an array or a tensor, to the network's: mean 0, deviation 1 over pretraining data."""
        values: Any = image
        return (values / 255 - self.mean) / self.std

    def pixels(self) -> tuple[float, float]:
        """(scale, shift) from a coordinate in pixels of the cache's image to one in pixels of the network's input."""
        return (1.0, -((self.cached - self.size) // 2)) if self.crop else (self.size / self.cached, 0.0)


def read_preprocessing(about: Any, origin: str) -> Preprocessing:
    """Reads the preprocessing from a checkpoint.

    Args:
        about: the entry of the checkpoint.
        origin: what errors call the checkpoint.

    Raises:
        CxrError: it is not a mapping with these values.
    """
    names = ("size", "cached", "crop", "mean", "std")
    if not isinstance(about, Mapping) or not all(name in about for name in names) or type(about["crop"]) is not bool:
        raise CxrError(f"{origin} does not state the preprocessing of its network; it lacks one of {', '.join(names)}")
    try:
        return Preprocessing(**{name: about[name] for name in names})
    except CxrError as error:
        raise CxrError(f"{origin}: {error}") from None
