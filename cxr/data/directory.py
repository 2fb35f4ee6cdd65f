"""Where caches of a data set lie unless `cache.dir` says otherwise."""

import hashlib
import os
import stat
from pathlib import Path

from platformdirs import user_cache_path


def default_directory(root: Path) -> Path:
    """Next to the data, or in the user's cache folder where the data are read-only (by mode bits, for root too)."""
    writable = os.access(root, os.W_OK) and root.stat().st_mode & stat.S_IWUSR
    if writable:
        return root / "cxr-cache"
    root = root.resolve()
    return user_cache_path("cxr", appauthor=False) / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
