"""What breaks a training from outside, as one sentence with a remedy."""

import errno

from cxr.errors import CxrError, first_line
from cxr.files.writing import unwritable
from cxr.run.directory import Run

_GO_ON = "the run resumes from its last checkpoint with resume=true"


def explained(error: RuntimeError | OSError | CxrError, run: Run) -> Exception:
    """The sentence for an error that a loader process, the memory, or the disk has made; else the error itself.

    PyTorch hands on what a loader process raises with that process's traceback, of which the sentence is the end.

    Args:
        error: as PyTorch or the system raised it.
        run: that was training.
    """
    text = str(error)
    if isinstance(error, CxrError):
        return CxrError(text.strip().rpartition("CxrError: ")[2] if text.startswith("Caught ") else text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return unwritable(error.filename or run.path, error)
    if "shared memory" in text or "bus error" in text.lower() or "/torch_" in text:
        return CxrError(
            "loader processes have too little shared memory; raise it (docker: --shm-size=8g) or pass data.workers=0; "
            + _GO_ON
        )
    if "DataLoader worker" in text and ("killed" in text or "exited unexpectedly" in text):
        return CxrError(
            f"a loader process was ended from outside (out of memory?): {first_line(error)}; pass fewer data.workers; "
            + _GO_ON
        )
    if "out of memory" in text.lower():
        return CxrError(
            "the device is out of memory; pass a smaller batch_size, with synthetic_batch_size=... the step stays the "
            f"same; {_GO_ON}"
        )
    return error
