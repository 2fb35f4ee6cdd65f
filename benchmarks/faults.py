"""What surviving faults costs: `python benchmarks/faults.py [ROW ...]`; docs/benchmarks.md explains the rows.

Both sides of a row take turns; a row is one JSON line on standard output, what lies behind it goes to standard error.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import csv
import os
import statistics
import subprocess
import tempfile
import time

from benchmarks.made import row, say

ROOT = Path(__file__).resolve().parents[1]
ROWS = ("ddp", "start", "save")
MOBILE = ("backbone=mobilenet_v2", "attention=none", "image_size=128", "optimizer=adam")
ROUNDS = {"ddp": 2, "start": 3, "save": 5}

# The same packages, the same network, one step; prints the clock when the step is done.
BARE = """
import importlib, sys, time
for name in sys.argv[1].split(","):
    importlib.import_module(name)
import timm, torch
network = timm.create_model("mobilenetv2_100", in_chans=1, num_classes=14).to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(network.parameters())
image = torch.randn(32, 1, 128, 128).contiguous(memory_format=torch.channels_last)
torch.nn.functional.binary_cross_entropy_with_logits(network(image), torch.zeros(32, 14)).backward()
optimizer.step()
print("step", time.time())
"""
# What a training has imported when it has taken its first step, of other people's packages.
LOADED = """
import sys
from cxr.training.run import train
import cxr.cli.train
own = {"cxr", "made"} | set(sys.stdlib_module_names)
names = {m.partition(".")[0] for m in sys.modules} - own
print(",".join(sorted(name for name in names if not name.startswith("_"))))
"""


def environment(threads: int) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1"}


def train(scratch: Path, name: str, threads: int, *options: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "train.py"), *MOBILE, f"data.root={scratch / 'phantom'}", f"name={name}",
        f"runs_dir={scratch / 'runs'}", *options,
    ]  # fmt: skip


def processes(scratch: Path) -> None:
    """Row `ddp`: the rate of the best epoch, without validation, of whole trainings."""
    sides = {
        "two": (1, ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "batch_size=32")),
        "one": (2, ("trainer=cpu", "batch_size=32")),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(ROUNDS["ddp"]):
        for side, (threads, options) in sides.items():
            name = f"{side}-{turn}"
            command = train(
                scratch, name, threads, *options, "synthetic_batch_size=64", "trainer.max_epochs=3",
                "checkpoint.every_seconds=null",
            )  # fmt: skip
            subprocess.run(command, env=environment(threads), check=True, stdout=sys.stderr)
            with (scratch / "runs" / name / "metrics.csv").open(newline="") as file:
                rates[side].append(max(float(line["images_per_second"]) for line in csv.DictReader(file)))
    say(f"ddp: {rates} images/s")
    two, one = max(rates["two"]), max(rates["one"])
    row("ddp", two, one, two / one, "images/s")


def first_step(scratch: Path, turn: int) -> float:
    """Seconds from the start of train.py to the first line of steps.csv."""
    name = f"start-{turn}"
    log, began = scratch / "runs" / name / "steps.csv", time.time()
    command = train(scratch, name, 2, "trainer=cpu", "trainer.log_every_n_steps=1", "trainer.max_epochs=1")
    with subprocess.Popen(command, env=environment(2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if log.exists() and log.read_text().count("\n") > 1:
                took = time.time() - began
                process.terminate()
                process.wait()
                return took
            time.sleep(0.02)
    raise SystemExit(f"error: train.py ended with {process.returncode} before its first step")


def start(scratch: Path) -> None:
    """Row `start`: the medians of several starts, one of each side in turn."""
    cached = train(scratch, "warm", 2, "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    subprocess.run(cached, env=environment(2), check=True, stdout=subprocess.DEVNULL)
    listed = [sys.executable, "-c", LOADED]
    packages = subprocess.run(listed, env=environment(2), check=True, capture_output=True, text=True).stdout.strip()
    ours, bare = [], []
    for turn in range(ROUNDS["start"]):
        began = time.time()
        reference = [sys.executable, "-c", BARE, packages]
        out = subprocess.run(reference, env=environment(2), check=True, capture_output=True, text=True).stdout
        bare.append(float(out.split()[-1]) - began)
        ours.append(first_step(scratch, turn))
    say(f"start: ours {[round(s, 2) for s in ours]}, bare {[round(s, 2) for s in bare]} s")
    mine, theirs = statistics.median(ours), statistics.median(bare)
    row("start", mine, theirs, mine / theirs, "s")


def save(scratch: Path) -> None:
    """Row `save`: VGG19 with its dense layers and Adam's moments, 1.7 GB, written, synced, summed; the fastest."""
    import timm
    import torch

    from cxr.training.saving import write_checkpoint

    network = timm.create_model("vgg19", num_classes=14)
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {"state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    ours, bare = [], []

    def plainly() -> None:
        with (scratch / "bare.ckpt").open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())

    sides = [(bare, plainly), (ours, lambda: write_checkpoint(content, scratch / "ours.ckpt"))]
    for _ in range(ROUNDS["save"]):
        for times, side in sides:
            began = time.perf_counter()
            side()
            times.append(time.perf_counter() - began)
            for file in scratch.glob("*.ckpt*"):
                file.unlink()
        sides.reverse()  # who goes first finds the system's file cache emptier
    say(f"save: ours {[round(s, 2) for s in ours]}, bare {[round(s, 2) for s in bare]} s")
    row("save", min(ours), min(bare), min(ours) / min(bare), "s")


def main(chosen: list[str]) -> None:
    unknown = sorted(set(chosen) - set(ROWS))
    if unknown:
        raise SystemExit(f"error: unknown row {', '.join(unknown)}; rows are {', '.join(ROWS)}")
    with tempfile.TemporaryDirectory(prefix="cxr-faults-") as place:
        for name, work in zip(ROWS, (processes, start, save), strict=True):
            if not chosen or name in chosen:
                work(Path(place))


if __name__ == "__main__":
    main(sys.argv[1:])
