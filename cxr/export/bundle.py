"""Writes a bundle: the networks of a run as ONNX files, and everything that is needed to use them."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cxr.errors import CxrError
from cxr.export.card import model_card
from cxr.export.detectors import fit_detectors
from cxr.export.networks import Calibrated, to_onnx
from cxr.export.opened import Opened, open_run
from cxr.export.quantise import IMAGES as RANGES
from cxr.export.quantise import quantise
from cxr.export.verify import IMAGES, LIMIT, RunImages, check_int8, differences, verify
from cxr.files.writing import replacing, staged, unwritable, write_text
from cxr.run.ancestry import UNKNOWN
from cxr.run.directory import versions
from cxr.use.bundle import BUNDLE, forward_of, load_bundle
from cxr.use.description import describe
from cxr.use.maps import file_name
from cxr.use.page.runtime import runtime
from cxr.use.page.write import CARD, write_page

VERIFY, PAGE = "verify.json", "page.html"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PROVENANCE = ("split_fingerprint", "labels_sha256", "split", UNKNOWN)


def export_bundle(options: Mapping[str, Any]) -> str:
    """Exports a run or an ensemble, see `conf/export.yaml`; the folder appears after it was verified.

    Returns:
        The digest of the bundle, SHA-256 of its `bundle.json`.

    Raises:
        CxrError: the run cannot be opened or exported, its images cannot be read, the bundle exists, it does not
            compute what the run computes, or there is no ONNX Runtime Web for a page.
    """
    web = runtime() if options["page"] else None
    opened = open_run(options["run"])
    target = Path(options["out"] or opened.run.path / "bundle").expanduser()
    if os.path.lexists(target):
        raise CxrError(f"{target} exists; remove it, or choose another folder with out=DIR")
    images, int8 = RunImages(opened, options), bool(options["int8"])
    sample = images.sample(images.names("val", "train")[:IMAGES])
    ranges = images.sample(images.names("train")[:RANGES]) if int8 else None
    try:
        with staged(target) as folder:
            about = describe(opened.system) | _results(opened)
            for number, described in enumerate(about["members"]):
                described["file"] = f"{number + 1}-{file_name(described['name'])}.onnx"
                network = _network(opened, number)
                content = to_onnx(network, str(opened.members[number].path))
                if ranges is not None:
                    shown = np.stack([views[number] for views in ranges.views])[:, None]
                    content = quantise(content, shown, ranges.attributes, str(opened.members[number].path))
                if number == 0:
                    origin, count = described["file"], len(opened.system.findings)
                    forward = forward_of(content, network.member, count, origin, sum(network.stages.values()))
                    detectors = fit_detectors(images, forward, list(network.stages.values()))
                    about["detectors"] = None if detectors is None else detectors.as_plain()
                with replacing(folder / described["file"]) as temporary:
                    temporary.write_bytes(content)
                described["sha256"] = sha256(content).hexdigest()
                print(f"{described['name']}: {len(content) / 1e6:.1f} MB", flush=True)
            _write(folder, about)
            bundle = load_bundle(folder)
            verified = verify(bundle, opened, sample, folder, None if int8 else LIMIT)
            if int8:
                verified["validation_macro_auroc"] = check_int8(bundle, opened, images)
            write_text(folder / VERIFY, json.dumps(verified, indent=1) + "\n")
            write_text(folder / CARD, model_card(opened, about, verified))
            about["files"] = {name: sha256((folder / name).read_bytes()).hexdigest() for name in (CARD, VERIFY)}
            _write(folder, about)
            digest = load_bundle(folder).digest
            if web is not None:
                write_page(folder / PAGE, about, digest, web)
            os.rename(folder, target)
    except OSError as error:
        raise unwritable(target, error) from error
    print(f"{target}: its networks {differences(verified)}; digest {digest}")
    if web is not None:
        page = (target / PAGE).read_bytes()
        print(
            f"{target / PAGE}: {len(page) / 1e6:.1f} MB, SHA-256 {sha256(page).hexdigest()}; open it in a browser, it "
            "needs no server and no network"
        )
    return digest


def _network(opened: Opened, number: int) -> Calibrated:
    """One member: that of a single run also computes calibrated scores, and the first one features for detectors."""
    system, member = opened.system, opened.system.members[number]
    scaling = system.scaling if len(system.members) == 1 else None
    return Calibrated(opened.scorers[number], member, scaling, system.parents, pooled=number == 0)


def _results(opened: Opened) -> dict[str, Any]:
    """Where the system comes from and how good it is; without paths of this machine."""
    metrics = opened.run.metrics()
    members = zip(opened.system.members, opened.loaded, strict=True)
    return {
        "files": {},
        "val": metrics.get("val"),
        "test": metrics.get("test"),
        "provenance": {
            **{key: metrics[key] for key in _PROVENANCE if key in metrics},
            "checkpoints": [{"name": member.name, "sha256": loaded.sha256} for member, loaded in members],
        },
        "versions": versions() | {name: version(name) for name in _PACKAGES},
    }


def _write(folder: Path, about: Mapping[str, Any]) -> None:
    write_text(folder / BUNDLE, json.dumps(about, indent=1) + "\n")
