"""How many processor cores there are."""

import os


def cores() -> int:
    """The cores that this process may use; where the system does not say (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
