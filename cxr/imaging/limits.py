"""What an image file may be: how large, and the exception for one that cannot be used."""

MOST_PIXELS = 128_000_000  # the largest radiographs have 30 million; a decompression bomb has more
MOST_BYTES = 1 << 30


class BadImage(Exception):
    """A file cannot be used; the message is the reason."""


def check_size(width: int, height: int) -> None:
    """Raises BadImage for a size in pixels that no radiograph has."""
    if width < 1 or height < 1:
        raise BadImage(f"damaged: it has {width}x{height} pixels")
    if width * height > MOST_PIXELS:
        raise BadImage(f"too large: {width}x{height} pixels; the maximum is {MOST_PIXELS:,} pixels")


class UnknownFormat(BadImage):
    """The file is not an image of a format that is read."""
