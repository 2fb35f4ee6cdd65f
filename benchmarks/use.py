"""Using a trained system beside its peers: `python benchmarks/use.py [DIR] [ROW ...]`.

DIR holds published PNGs (default `$CXR_SHARED/nih_native`). Both sides of a row are measured alternately in one run; a
row is one JSON line on standard output. Networks have random weights, and batch norm the statistics of these images.
docs/benchmarks.md says what each row measures.
"""

import sys
from pathlib import Path

sys.path.pop(0)  # this folder, whose numbers.py is not Python's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import cv2
import httpx
import numpy as np
import torch
from PIL import Image

from benchmarks import unusual
from benchmarks.made import configured, row, say
from cxr.cli import conf_dir
from cxr.export.networks import Calibrated, stages, to_onnx
from cxr.export.opened import Scorer, forward_with
from cxr.export.quantise import quantise
from cxr.findings import NIH14
from cxr.imaging.decode import gray, read_gray, resize
from cxr.training.build import build_network, build_task
from cxr.training.checkpoint import LoadedNetwork
from cxr.use.bundle import forward_of, load_bundle
from cxr.use.description import describe
from cxr.use.files import Inputs, score_files
from cxr.use.page.runtime import runtime
from cxr.use.page.write import write_page
from cxr.use.scoring import Forward, Model
from cxr.use.system import Member, Rule, System

SHARED = Path(os.environ.get("CXR_SHARED") or Path(__file__).resolve().parents[2] / "shared")
# Pixels; 64 for the others. At 96 px, two of PyTorch's own kernels differ by 9e-5 in Inception v3 with random weights.
SIZES = {"inception_v3": 299, "inception_resnet_v2": 96, "swin_tiny": 224}
CLIENTS = 4
CLIENT = httpx.Client(timeout=60)
FILES = 96  # that are scored in a round


@dataclass(frozen=True)
class Network:
    """A network by its option, with random weights, and with PyTorch."""

    loaded: LoadedNetwork
    member: Member
    forward: Forward

    def onnx(self, pooled: bool = True) -> bytes:
        network = Calibrated(Scorer(self.loaded, NIH14), self.member, None, (-1,) * len(NIH14), pooled)
        return to_onnx(network, self.member.name)

    def model(self, forward: Forward) -> Model:
        rule = Rule("mean", ((1.0,),) * len(NIH14))
        system = System(self.member.name, "0" * 64, NIH14, (-1,) * len(NIH14), (self.member,), rule)
        return Model(system, (forward,))


def views(paths: list[str], size: int) -> np.ndarray:
    return np.stack([resize(read_gray(path), size) for path in paths])[:, None]


def network_of(backbone: str, size: int, paths: list[str]) -> Network:
    config = configured(f"backbone={backbone}", f"image_size={size}", "attention=location", "backbone.pretrained=false")
    torch.manual_seed(0)
    network = build_network(config, len(NIH14))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    batch = {"image": torch.from_numpy(views(paths[:16], size)), "attributes": torch.zeros(16, 5)}
    with torch.no_grad():
        network.train()(batch)
    loaded = LoadedNetwork(network.eval(), NIH14, 0, "", config, build_task(config, NIH14), size=size)
    member = Member(backbone, network.preprocessing, maps="heads")
    return Network(loaded, member, forward_with(Scorer(loaded, NIH14), torch.device("cpu")))


def measure(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The best seconds of each side; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in seconds.items()}


def predict(paths: list[str]) -> None:
    """Open, resize and score one image at a time is what TorchXRayVision's script does."""
    network = network_of("densenet121", 224, paths)
    listed = (paths * (FILES // len(paths) + 1))[:FILES]
    mean, std = network.member.preprocessing.mean, network.member.preprocessing.std

    def reference() -> None:
        for path in listed:
            pixels = np.asarray(Image.open(path).convert("L"), np.float32) / 255
            small = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_AREA)
            image = torch.from_numpy((small - mean) / std)[None, None]
            with torch.no_grad():
                features = network.loaded.network.backbone(image)
                vector, _ = network.loaded.network.attention(features)
                torch.sigmoid(network.loaded.network.head(vector))

    def table(model: Model, batch_size: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            score_files(model, Inputs(listed, listed), Path(folder) / "scores.parquet", batch_size)

    run = network.model(network.forward)
    bundle = network.model(forward_of(network.onnx(), network.member, len(NIH14), "densenet121", threads=1))
    threads = torch.get_num_threads()

    def own() -> None:
        torch.set_num_threads(1)  # as `predict` does
        table(run, 8)
        torch.set_num_threads(threads)

    found = measure({"reference": reference, "bundle": partial(table, bundle, 1), "run": own}, 2)
    rates = {name: FILES / seconds for name, seconds in found.items()}
    row("predict", rates["bundle"], rates["reference"], rates["bundle"] / rates["reference"], "images/s")
    row("predict_run", rates["run"], rates["reference"], rates["run"] / rates["reference"], "images/s")


def onnx(paths: list[str]) -> None:
    """The threads of either library wait actively for a while after a call, so that each side rests before its turn."""
    network = network_of("mobilenet", 224, paths)
    forward = forward_of(network.onnx(pooled=False), network.member, len(NIH14), "mobilenet")
    image, unknown = views(paths[:1], 224), np.zeros((1, 5), np.float32)
    sides = {"onnx": partial(forward, image, unknown), "eager": partial(network.forward, image, unknown)}
    found = dict.fromkeys(sides, np.inf)
    for name in (*sides,) * 10:
        time.sleep(0.3)
        found[name] = min(found[name], 1000 * measure({name: sides[name]}, 30)[name])
    row("onnx", found["onnx"], found["eager"], found["eager"] / found["onnx"], "ms")


def int8_size(paths: list[str]) -> None:
    network = network_of("mobilenet", 224, paths)
    whole = network.onnx()
    small = quantise(whole, views(paths[:32], 224), np.zeros((32, 5), np.float32), "mobilenet")
    row("int8_size", len(small), len(whole), len(whole) / len(small), "bytes")


def parity(paths: list[str]) -> None:
    worst = 0.0
    for backbone in sorted(path.stem for path in (conf_dir() / "backbone").glob("*.yaml")):
        if backbone in ("blank", "timm"):  # sees nothing; any model
            continue
        size = SIZES.get(backbone, 64)
        network = network_of(backbone, size, paths)
        forward = forward_of(network.onnx(), network.member, len(NIH14), backbone)
        image, unknown = views(paths[:16], size), np.zeros((16, 5), np.float32)
        difference = float(np.abs(forward(image, unknown)[0] - network.forward(image, unknown)[0]).max())
        say(f"{backbone}: {difference:.1e}")
        worst = max(worst, difference)
    row("parity", worst, 1e-5, 1e-5 / worst, "probability")


def write_bundle(folder: Path, network: Network, content: bytes) -> Path:
    folder.mkdir()
    about = describe(network.model(network.forward).system) | {"files": {}}
    about["members"][0] |= {"file": "1.onnx", "sha256": sha256(content).hexdigest()}
    (folder / "1.onnx").write_bytes(content)
    (folder / "bundle.json").write_text(json.dumps(about))
    return folder


def serve(paths: list[str]) -> None:
    """The reference of serve_p50 calls the model in as many threads, on the same bytes."""
    network = network_of("mobilenet", 224, paths)
    shades = resize(read_gray(paths[0]), 1024) + np.random.default_rng(0).normal(0, 12, (1024, 1024))
    film = cv2.imencode(".png", np.clip(shades, 0, 255).astype(np.uint8))[1].tobytes()  # noise fills a megabyte
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle", network, network.onnx())
        command = [sys.executable, "-m", "cxr", "serve", f"bundle={bundle}", "port=0"]
        starts = []
        for last in (False, False, True):
            began = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                address = process.stdout.readline().split(": ")[0]
                httpx.get(f"{address}/readyz", timeout=60).raise_for_status()
                starts.append(time.perf_counter() - began)
                if last:
                    send = partial(post, address, film)
                    load(send)
                    over_http = load(send)
                process.send_signal(signal.SIGTERM)
        cores = len(os.sched_getaffinity(0))
        model, pool = load_bundle(bundle, threads=cores), ThreadPoolExecutor(cores)

        def direct() -> None:
            pool.submit(lambda: model.score_image(gray(film))).result()

        load(direct)
        alone = load(direct)
    row("serve_start", min(starts), 2.0, 2.0 / min(starts), "s")
    say(f"p50 of {len(film) / 1e6:.1f} MB with {CLIENTS} clients: {over_http:.0f} ms over HTTP, {alone:.0f} ms without")
    beyond = max(over_http - alone, 0.1)
    row("serve_p50", beyond, 30.0, 30.0 / beyond, "ms beyond decoding and network")


def post(address: str, film: bytes) -> None:
    CLIENT.post(f"{address}/v1/predict", files={"file": film}).raise_for_status()


def load(work: Callable[[], object]) -> float:
    """The median milliseconds of 100 calls by a number of clients at once."""

    def timed(_: int) -> float:
        began = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - began)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return float(np.median(list(clients.map(timed, range(100)))))


def page_of(folder: str, paths: list[str]) -> Path:
    """The page of MobileNet, 224 px, in float32."""
    network = network_of("mobilenet", 224, paths)
    bundle = write_bundle(Path(folder) / "bundle", network, network.onnx())
    write_page(bundle / "page.html", json.loads((bundle / "bundle.json").read_text()), "", runtime())
    return bundle / "page.html"


def page_size(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        size = page_of(folder, paths).stat().st_size / 1e6
    row("page_size", size, 25, 25 / size, "MB")


def page_first(paths: list[str]) -> None:
    """From opening the file to the first result, with a film of 1024 px that is given at once."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as folder:
        page, seconds = page_of(folder, paths).as_uri(), []
        for _ in range(3):
            browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
            try:
                began = time.perf_counter()
                browser.get(page)
                browser.find_element("id", "file").send_keys(paths[0])
                while not browser.find_elements("css selector", ".row"):
                    time.sleep(0.02)
                seconds.append(time.perf_counter() - began)
            finally:
                browser.quit()
    row("page_first", min(seconds), 5, 5 / min(seconds), "s")


def ood(paths: list[str]) -> None:
    network = network_of("mobilenet", 128, paths)
    lengths = list(stages(network.loaded.network.backbone, 128).values())
    forward = forward_of(network.onnx(), network.member, len(NIH14), "mobilenet", sum(lengths))
    unusual.ood(network.model(forward), lengths)


ROWS = {each.__name__: each for each in (predict, onnx, int8_size, parity, page_size, page_first, serve, ood)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="a folder and names of rows")
    words = parser.parse_args().words
    folder = next((Path(word) for word in words if word not in ROWS), SHARED / "nih_native")
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    if len(paths) < 32:
        raise SystemExit(f"error: {folder} has {len(paths)} PNG files; give a folder of 32 or more radiographs")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for name in [word for word in words if word in ROWS] or ROWS:
        ROWS[name](paths)


if __name__ == "__main__":
    main()
