"""Gets ONNX Runtime Web from the npm registry, once per user; `make page-assets` runs this module."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

from cxr.errors import CxrError, first_line
from cxr.files.writing import replacing

PACKAGE = "onnxruntime-web@1.30.0"
_FILES = {  # of the package's folder dist, with their SHA-256
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_SECONDS = 300


@dataclass(frozen=True)
class Runtime:
    """The files of ONNX Runtime Web: the script, the module that starts the WebAssembly, and the WebAssembly."""

    script: bytes
    module: bytes
    wasm: bytes


def runtime() -> Runtime:
    """The files from the user's cache folder.

    Raises:
        CxrError: they are missing there, or have other checksums.
    """
    try:
        contents = {name: (_folder() / name).read_bytes() for name in _FILES}
    except FileNotFoundError:
        raise CxrError(f"the page needs {PACKAGE} in {_folder()}; run make page-assets, which uses npm") from None
    _check(contents)
    return Runtime(*contents.values())


def fetch() -> Path:
    """Downloads the files into the user's cache folder unless they are there, and returns the folder.

    Raises:
        CxrError: npm is not installed or fails, or a file has another checksum.
    """
    if all((_folder() / name).exists() for name in _FILES):
        runtime()
        return _folder()
    npm = shutil.which("npm")
    if npm is None:
        raise CxrError(f"npm is not installed, so that {PACKAGE} cannot be downloaded; install npm for page=true")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--silent", PACKAGE]
        try:
            done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=_SECONDS)
            if done.returncode:
                raise CxrError(f"npm cannot download {PACKAGE}: {first_line(Exception(done.stderr or done.stdout))}")
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as package:
                members = {name: package.extractfile(f"package/dist/{name}") for name in _FILES}
                contents = {name: member.read() for name, member in members.items() if member is not None}
        except (subprocess.TimeoutExpired, tarfile.TarError, KeyError, ValueError) as error:
            raise CxrError(f"npm cannot download {PACKAGE}: {first_line(error)}") from error
    _check(contents)
    for name, content in contents.items():
        with replacing(_folder() / name) as file:
            file.write_bytes(content)
    return _folder()


def _folder() -> Path:
    return user_cache_path("cxr", appauthor=False) / PACKAGE.replace("@", "-")


def _check(contents: dict[str, bytes]) -> None:
    for name, checksum in _FILES.items():
        if name not in contents or sha256(contents[name]).hexdigest() != checksum:
            raise CxrError(f"{_folder() / name} is not that of {PACKAGE}; remove it and run make page-assets")


if __name__ == "__main__":
    try:
        print(f"ONNX Runtime Web is in {fetch()}")
    except CxrError as error:
        sys.exit(f"error: {error}")
