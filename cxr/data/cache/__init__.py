"""The cache: the radiographs of a catalog, decoded once into a memory-mapped uint8 array next to the data.

`store` finds or builds the cache of a catalog, `build` decodes the images, `manifest` describes the content, `audit`
finds images to exclude, and `verify` compares cache and files with the checksums in the manifest.
"""

from cxr.data.cache.store import Cache, CacheSettings, open_or_build
from cxr.data.directory import default_directory
from cxr.imaging.decode import read_gray, resize

__all__ = ["Cache", "CacheSettings", "default_directory", "open_or_build", "read_gray", "resize"]
