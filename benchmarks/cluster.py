"""What several processes cost: `python benchmarks/cluster.py [ROW ...]`; docs/benchmarks.md explains the rows.

`two_hosts` needs root and iproute2, `parallel_sweep` and `tune_overhead` the extras `joblib` and `tune`.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import csv
import os
import signal
import statistics
import subprocess
import tempfile
import time

from benchmarks.faults import LOADED, environment
from benchmarks.made import row, say
from cxr.phantom import write_phantoms
from tests.cluster.hosts import connected_hosts, torchrun

ROOT = Path(__file__).resolve().parents[1]
STARTS = 3  # of each side
ROWS = ("two_hosts", "agent_start", "rank_end", "parallel_sweep", "tune_overhead")
SMALL = ("backbone=resnet10", "image_size=32", "batch_size=16", "trainer.accelerator=cpu", "data.workers=0",
         "data.images=90", "data.phantom_size=64", "trainer.log_every_n_steps=1")  # fmt: skip

# The same packages and a network of two processes; prints its process and waits after the first step.
BARE = """
import importlib, os, signal, sys, time
for name in sys.argv[1].split(","):
    importlib.import_module(name)
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
network = DistributedDataParallel(torch.nn.Linear(8, 8))
network(torch.ones(2, 8)).sum().backward()
if dist.get_rank() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    open(sys.argv[2], "w").write(str(os.getpid()))
while True:
    time.sleep(0.1)
"""


def train(data: Path, scratch: Path, *options: str) -> list[str]:
    own = [sys.executable, str(ROOT / "train.py"), *SMALL, f"data.root={data}", f"runs_dir={scratch / 'runs'}"]
    return [*own, *options]


def bare_torchrun(scratch: Path, imports: str) -> list[str]:
    (scratch / "bare.py").write_text(BARE)
    agent = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    return [sys.executable, *agent, str(scratch / "bare.py"), imports, str(scratch / "pid")]


def seconds_until(process: "subprocess.Popen[bytes]", path: Path, lines: int = 0) -> float:
    began = time.monotonic()
    while not path.exists() or path.read_text().count("\n") < lines:
        assert process.poll() is None and time.monotonic() - began < 300, f"{path} does not appear"
        time.sleep(0.02)
    return time.monotonic() - began


def ranks_of(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def agent_start_and_rank_end(data: Path, scratch: Path) -> None:
    """`trainer=ddp` and torchrun in turns; then one rank is killed, while torchrun's other rank ignores SIGTERM."""
    loaded = subprocess.run([sys.executable, "-c", LOADED], env=environment(1), capture_output=True, text=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment(1)}
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for turn in range(STARTS):
        options = ("trainer=ddp", "trainer.max_epochs=500", f"name=ddp-{turn}")
        ours = subprocess.Popen(train(data, scratch, *options), **quiet)
        times["ours"].append(seconds_until(ours, scratch / "runs" / f"ddp-{turn}" / "steps.csv", lines=2))
        end = seconds_to_end(ours, turn)
        (scratch / "pid").unlink(missing_ok=True)
        bare = subprocess.Popen(bare_torchrun(scratch, loaded.stdout.strip()), **quiet)
        times["reference"].append(seconds_until(bare, scratch / "pid"))
        time.sleep(1)
        reference_end = seconds_to_end(bare, turn)
    say(f"agent_start: {times} s")
    start, reference = (statistics.median(found) for found in times.values())
    row("agent_start", start, reference, start / reference, "s")
    row("rank_end", end, reference_end, end / reference_end, "s")


def seconds_to_end(process: "subprocess.Popen[bytes]", turn: int) -> float:
    """Seconds from the kill of the second rank until its parent ends; in turns before the last, all are killed."""
    ranks, began = ranks_of(process.pid), time.monotonic()
    for killed in [*ranks, process.pid] if turn < STARTS - 1 else ranks[-1:]:
        os.kill(killed, signal.SIGKILL)
    process.wait()
    return time.monotonic() - began


def images_per_second(run: Path) -> float:
    """The median of the epochs after the first."""
    with (run / "metrics.csv").open(newline="") as file:
        return statistics.median(float(line["images_per_second"]) for line in list(csv.DictReader(file))[1:])


def two_hosts(scratch: Path) -> None:
    """Two hosts, which are network namespaces, with one process each, in turns with one host with two processes."""
    data = scratch / "more-data"
    write_phantoms(data, images=400, size=64, processes=2)
    options = ("trainer=ddp", "trainer.max_epochs=4", "callbacks=[]", "image_size=64", "data.images=400")
    rates: dict[str, list[float]] = {"two": [], "one": []}
    with connected_hosts() as hosts:
        for turn in range(3):
            command = train(data, scratch, *options, f"name=two-{turn}")[1:]
            both = torchrun(hosts, command, environment(1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if any(process.wait() for process in both):
                raise SystemExit("error: torchrun failed on a host; tests/cluster/test_hosts.py shows its output")
            one = train(data, scratch, *options, f"name=one-{turn}")
            subprocess.run(one, env=environment(1), check=True, stdout=subprocess.DEVNULL)
            for name, found in rates.items():
                found.append(images_per_second(scratch / "runs" / f"{name}-{turn}"))
    say(f"two_hosts: {rates} images/s")
    ours, reference = statistics.median(rates["two"]), statistics.median(rates["one"])
    row("two_hosts", ours, reference, ours / reference, "images/s")


def parallel_sweep(data: Path, scratch: Path) -> None:
    """Eight jobs, two at a time with one thread each, against one at a time with two threads."""
    times = []
    for name, threads, more in (
        ("parallel", 1, ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")),
        ("series", 2, ()),
    ):
        command = train(data, scratch, "-m", "trainer=cpu", "trainer.max_epochs=2", "seed=0,1,2,3,4,5,6,7", *more)
        began = time.monotonic()
        subprocess.run([*command, f"sweep={name}"], env=environment(threads), check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - began)
    say(f"parallel_sweep: {times} s")
    row("parallel_sweep", times[0], times[1], times[1] / times[0], "s")


def tune_overhead(data: Path, scratch: Path) -> None:
    """Seconds that Optuna, its storage and reading the metrics add to a trial."""
    options = train(data, scratch, "trainer=cpu", "trainer.max_epochs=2")[2:]
    tune = [sys.executable, "-m", "cxr", "tune", *options, "study=study", "trials=3"]
    began = time.monotonic()
    subprocess.run(tune, env=environment(1), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    ours = (time.monotonic() - began) / 3
    began = time.monotonic()
    for number in range(3):
        words = [*options, f"name=alone-{number}", "score_test=false"]
        alone = [sys.executable, "-m", "cxr", "train", *words]
        subprocess.run(alone, env=environment(1), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    reference = (time.monotonic() - began) / 3
    row("tune_overhead", ours - reference, reference, (ours - reference) / reference, "s")


def main(chosen: list[str]) -> None:
    unknown = sorted(set(chosen) - set(ROWS))
    if unknown:
        raise SystemExit(f"error: unknown row {', '.join(unknown)}; rows are {', '.join(ROWS)}")
    chosen = chosen or list(ROWS)
    with tempfile.TemporaryDirectory(prefix="cxr-cluster-") as place:
        data, scratch = Path(place) / "data", Path(place)
        write_phantoms(data, images=90, size=64, processes=1)
        if "two_hosts" in chosen:
            two_hosts(scratch)
        if {"agent_start", "rank_end"} & set(chosen):
            agent_start_and_rank_end(data, scratch)
        if "parallel_sweep" in chosen:
            parallel_sweep(data, scratch)
        if "tune_overhead" in chosen:
            tune_overhead(data, scratch)


if __name__ == "__main__":
    main(sys.argv[1:])
