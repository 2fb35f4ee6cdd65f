"""The command line: one module per program, what programs share, and the folder of the configuration."""

from pathlib import Path


def conf_dir() -> Path:
    """The folder of the configuration: `conf` in a checkout, `cxr/conf` in an installed package."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
