"""Gets ONNX Runtime Web from the npm registry, once per user; `make page-assets` runs this module."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

from cxr.errors import CxrError, first_line
from cxr.files.writing import replacing

PACKAGE = "onnxruntime-web@1.30.0"
_FILES = {  # of the package, with their SHA-256
    "dist/ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "dist/ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "dist/ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
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
    return Runtime(*_cached(PACKAGE, _FILES))


def fetch(package: str = PACKAGE, files: Mapping[str, str] = _FILES) -> Path:
    """Downloads files of a package into the user's cache folder unless they are there, and returns the folder.

    Args:
        package: name and version on npm.
        files: their paths in the package, with their SHA-256.

    Raises:
        CxrError: npm is not installed or fails, or a file has another checksum.
    """
    folder = _folder(package)
    if all((folder / Path(name).name).exists() for name in files):
        _cached(package, files)
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise CxrError(f"npm is not installed, so that {package} cannot be downloaded; install npm for page=true")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--silent", package]
        try:
            done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=_SECONDS)
            if done.returncode:
                raise CxrError(f"npm cannot download {package}: {first_line(Exception(done.stderr or done.stdout))}")
            (archive,) = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as packed:
                members = {name: packed.extractfile(f"package/{name}") for name in files}
                contents = {name: member.read() for name, member in members.items() if member is not None}
        except (subprocess.TimeoutExpired, tarfile.TarError, KeyError, ValueError) as error:
            raise CxrError(f"npm cannot download {package}: {first_line(error)}") from error
    for name in files:
        _check(package, name, contents.get(name, b""), files[name])
    for name, content in contents.items():
        with replacing(folder / Path(name).name) as file:
            file.write_bytes(content)
    return folder


def _cached(package: str, files: Mapping[str, str]) -> list[bytes]:
    found = []
    for name, checksum in files.items():
        try:
            found.append((_folder(package) / Path(name).name).read_bytes())
        except FileNotFoundError:
            raise CxrError(
                f"the page needs {package} in {_folder(package)}; run make page-assets, or python -m "
                "cxr.use.page.runtime beside cxr-use; both use npm"
            ) from None
        _check(package, name, found[-1], checksum)
    return found


def _folder(package: str) -> Path:
    return user_cache_path("cxr", appauthor=False) / package.replace("@", "-")


def _check(package: str, name: str, content: bytes, checksum: str) -> None:
    if sha256(content).hexdigest() != checksum:
        file = _folder(package) / Path(name).name
        raise CxrError(f"{file} is not that of {package}; remove it and run make page-assets")


if __name__ == "__main__":
    try:
        print(f"ONNX Runtime Web is in {fetch()}")
    except CxrError as error:
        sys.exit(f"error: {error}")
