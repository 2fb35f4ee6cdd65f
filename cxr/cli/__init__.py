"""The command line: a file a program, what all programs share, and where the configuration lies."""

from pathlib import Path


def conf_dir() -> Path:
    """Where the configuration lies: in a checkout `conf`, in an installed package `cxr/conf`."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
