"""One of the processes that `launch` starts: `python -m cxr.training.worker FOLDER`.

It imports little, so that signals are heard while PyTorch and Lightning are imported.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from cxr.configuration.plugins import from_user
from cxr.errors import CxrError, first_line
from cxr.processes.ranks import Rank, given_rank
from cxr.processes.stopping import REQUEUE, Stopped, requests

REFUSED = "refused"  # a file: rank 0 has failed before the others had work


def main(folder: Path) -> int:
    """Trains this rank of the run that the parent has described in a folder; returns the exit code.

    The reason of a failure is written to the file `<rank>`, not printed: when one rank fails, all others do, and the
    parent prints the first reason. Rank 0 writes its result to the file `value`.
    """
    requests.patient = True
    requests.listen()
    rank = given_rank("ddp")
    assert rank is not None
    reason = folder / str(rank.number)

    def explain(rank: Rank, error: Exception) -> Exception:
        known, text = isinstance(error, CxrError), str(error)
        if not known:
            text = f"{type(error).__name__}: {first_line(error)}; HYDRA_FULL_ERROR=1 shows the traceback"
        reason.write_text(text, encoding="utf-8")
        if not known and os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        return error

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent has it ignored until here
        from cxr.training.run import train_as

        value = train_as(rank, lambda: _begin(rank, folder), explain)
        if rank.number == 0:
            (folder / "value").write_text(str(value), encoding="utf-8")
    except KeyboardInterrupt:  # the parent prints it
        return 130
    except Stopped as stopped:
        if rank.number == 0:
            print(stopped, file=sys.stderr, flush=True)
        return REQUEUE
    except Exception as error:
        if not reason.exists():
            explain(rank, error)
        return 1
    return 0


def _begin(rank: Rank, folder: Path) -> float:
    """Trains a new run of the user's, or resumes one, in rank 0."""
    from cxr.training.exchange import send, trusting
    from cxr.training.run import resume, train

    with trusting(folder) as run:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        try:
            return (train if from_user() else resume)(config, run)
        except CxrError:
            if send(rank, None):
                (folder / REFUSED).touch()
            raise


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
