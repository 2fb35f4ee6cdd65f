"""Error messages of PyTorch and the system, and the message that the user gets in their place."""

import errno
from pathlib import Path

import pytest

from cxr.errors import CxrError
from cxr.run.directory import Run
from cxr.training.failures import readable_error

RUN = Run(Path("runs/a"))
RESUMES = "the run resumes from its last checkpoint with resume=true"
MEMORY = (
    "loader processes have too little shared memory; raise it (docker: --shm-size=8g) or pass data.workers=0; "
    + RESUMES
)
TOO_BIG = (
    "the device is out of memory; pass a smaller batch_size, and synthetic_batch_size=... to keep the images per step; "
    + RESUMES
)
GONE = "another process of the run has ended; the output of its host gives the reason"
WORKER = "DataLoader worker (pid 7) is killed by signal: Killed. "
EXITED = "DataLoader worker (pid(s) 7, 8) exited unexpectedly"
CAUGHT = (
    'Caught CxrError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "x", line 1\n'
    "cxr.errors.CxrError: images.npy has changed while it was read\n"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), MEMORY),
        (RuntimeError("unable to open shared memory object </torch_9> in read-write mode"), MEMORY),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), MEMORY),
        (RuntimeError(WORKER), f"{WORKER[:-2]}; pass fewer data.workers; {RESUMES}"),
        (RuntimeError(EXITED), f"{EXITED}; pass fewer data.workers; {RESUMES}"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), TOO_BIG),
        (RuntimeError("DefaultCPUAllocator: OUT OF MEMORY"), TOO_BIG),
        (RuntimeError("[gloo/pair.cc:545] Read error [10.0.0.2]:9: Connection reset by peer"), f"{GONE}; {RESUMES}"),
        (OSError(errno.ENOSPC, "No space left", "runs/a/x"), "cannot write runs/a/x: the disk is full; free some"),
        (OSError(errno.EDQUOT, "Quota", "runs/a/x"), "cannot write runs/a/x: the disk quota is used up"),
        (OSError(errno.ENOSPC, "No space left"), "cannot write runs/a: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a/y"), "cannot write runs/a/y: "),
        (OSError(errno.EROFS, "Read-only file system", "runs/a/y"), "cannot write runs/a/y: "),
        (CxrError(CAUGHT), "images.npy has changed while it was read"),
        (CxrError("batch_size=0 must be positive"), "batch_size=0 must be positive"),
    ],
)  # fmt: skip
def test_what_breaks_a_training_is_one_sentence_with_a_remedy(error: RuntimeError | OSError, said: str) -> None:
    told = readable_error(error, RUN)
    assert isinstance(told, CxrError) and said in str(told) and "\n" not in str(told)
    if said in (MEMORY, TOO_BIG):
        assert str(told) == said
    if str(error).startswith("DataLoader worker") and "Bus" not in str(error):
        assert str(told).startswith("a loader process was killed (out of memory?): ")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(errno.EIO, "Input/output error", "x"),
     RuntimeError("DataLoader worker (pid 7) is slow")],
)  # fmt: skip
def test_any_other_error_stays_what_it_is(error: RuntimeError | OSError) -> None:
    assert readable_error(error, RUN) is error
