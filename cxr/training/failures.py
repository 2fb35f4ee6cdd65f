"""Errors of other processes, memory and disk as one sentence with a remedy."""

import errno

from cxr.errors import CxrError, first_line
from cxr.files.writing import unwritable
from cxr.run.directory import Run

_RESUMES = "the run resumes from its last checkpoint with resume=true"


def readable_error(error: RuntimeError | OSError | CxrError, run: Run) -> Exception:
    """A `CxrError` with a remedy for an error of another process, memory or disk; any other error is returned as is.

    PyTorch raises the error of a loader process with its traceback in the message; the last line is kept.
    """
    text = str(error)
    if isinstance(error, CxrError):
        return CxrError(text.strip().rpartition("CxrError: ")[2] if text.startswith("Caught ") else text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return unwritable(error.filename or run.path, error)
    if "shared memory" in text or "bus error" in text.lower() or "/torch_" in text:
        return CxrError(
            "loader processes have too little shared memory; raise it (docker: --shm-size=8g) or pass data.workers=0; "
            + _RESUMES
        )
    if "DataLoader worker" in text and ("killed" in text or "exited unexpectedly" in text):
        return CxrError(
            f"a loader process was killed (out of memory?): {first_line(error)}; pass fewer data.workers; " + _RESUMES
        )
    if "out of memory" in text.lower():
        return CxrError(
            "the device is out of memory; pass a smaller batch_size, and synthetic_batch_size=... to keep the images "
            f"per step; {_RESUMES}"
        )
    if "by peer" in text or "remote process exited" in text:  # of Gloo, of NCCL
        return CxrError(f"another process of the run has ended; the output of its host gives the reason; {_RESUMES}")
    return error
