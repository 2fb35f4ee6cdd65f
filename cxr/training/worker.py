"""One process of a run with several: `python -m cxr.training.worker RUN`, started by `launch`."""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

from cxr.errors import CxrError
from cxr.isolation import die_with_parent
from cxr.runs import Run
from cxr.stopping import REQUEUE, Stopped, requests
from cxr.training.launch import rank_of_this_process
from cxr.training.prepare import prepare, resolve_devices
from cxr.training.run import Rank, work


def main(path: str) -> int:
    """Does this rank's share of the run at `path`; returns the exit code."""
    die_with_parent()
    run = Run(Path(path))
    number, count = rank_of_this_process()
    requests.patient = True
    requests.listen()
    try:
        config = run.config()
        with redirect_stdout(io.StringIO()):  # the parent has said it
            prepared = prepare(config)
        work(config, run, prepared, resolve_devices(config["trainer"]), Rank(number, count))
    except CxrError as error:
        print(f"error: process {number}: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:  # the parent says so
        return 130
    except Stopped as stopped:
        if number == 0:
            print(stopped, file=sys.stderr, flush=True)
        return REQUEUE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
