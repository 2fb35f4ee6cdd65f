"""Decode once: every radiograph of a catalog as one memory-mapped uint8 array, next to the data.

`build` makes a cache, `manifest` says what is in it, `audit` which of its images training must not meet, `verify`
whether cache and files are still what they were, and `store` finds a catalog's cache or has it built.
"""

from cxr.data.cache.store import Cache, CacheSettings, open_or_build
from cxr.data.directory import default_directory
from cxr.imaging.decode import read_gray, resize

__all__ = ["Cache", "CacheSettings", "default_directory", "open_or_build", "read_gray", "resize"]
