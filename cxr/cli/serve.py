"""The program `serve`: the page of a bundle, and an HTTP API of its scores."""

import os
import socket
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.cli.program import Program
from cxr.configuration.programs import Serve
from cxr.errors import CxrError
from cxr.files.reading import reason
from cxr.processes.cores import cores
from cxr.processes.stopping import Stopped
from cxr.use.page.write import ServedPage, served_page

if TYPE_CHECKING:
    from omegaconf import DictConfig

TOKEN = "CXR_TOKEN"
_SHORTEST = 16  # characters of a token
_SECONDS = 10  # for the requests in progress when the server stops


def job(config: "DictConfig") -> None:
    """Serves until a signal."""
    from cxr.cli.options import plain

    serve(plain(config, Serve))


def serve(chosen: dict[str, Any]) -> None:
    """Serves until a signal.

    Args:
        chosen: see `conf/serve.yaml`.

    Raises:
        CxrError: the address cannot be used, the token is missing or too short, or the bundle is refused.
    """
    host, token = chosen["host"], os.environ.get(TOKEN)
    if token is None and not _is_loopback(host):
        raise CxrError(
            f"host={host} can be reached from other machines; set the environment variable {TOKEN} to a secret that "
            "their requests send"
        )
    if token is not None and not (len(token) >= _SHORTEST and token.isascii() and token.isprintable()):
        raise CxrError(f"{TOKEN} must have {_SHORTEST} or more printable ASCII characters")
    try:
        import uvicorn

        from cxr.use.api import create_app
    except ImportError as error:
        raise CxrError(
            f"serve needs {error.name}; run make setup EXTRAS=serve, or pip install 'cxr-use[serve]'"
        ) from None
    from cxr.use.bundle import load_bundle

    model = load_bundle(chosen["bundle"], chosen["digest"], threads=cores())
    app = create_app(model, token, chosen["queue"], chosen["megabytes"], _page_of(Path(chosen["bundle"]), model.digest))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, chosen["port"]), family=family, backlog=2048)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers are up to 40 ms late
    except OSError as error:
        why = reason(error).partition(" (while")[0]
        raise CxrError(
            f"host={host} port={chosen['port']} cannot be used: {why}; choose another one, such as port=0, a free port"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listening.getsockname()[1]}: {model.system.name}, digest {model.digest}", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_SECONDS, ws="none")
    )
    with suppress(KeyboardInterrupt, Stopped):  # the signal that stopped it, raised again after the last answer
        server.run([listening])


def _page_of(bundle: Path, digest: str) -> ServedPage | None:
    """The page of a bundle; None, with a message, if ONNX Runtime Web is missing."""
    try:
        return served_page(bundle.expanduser(), digest)
    except CxrError as error:
        print(f"no page, only the API: {error}", file=sys.stderr)
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


PROGRAM = Program(
    about="Serves the page of a bundle and an HTTP API, without PyTorch. Images are neither stored nor logged.",
    examples=(
        ("bundle=runs/a/bundle", "on http://127.0.0.1:8000, for this machine alone"),
        ("bundle=runs/a/bundle host=0.0.0.0 port=80", "for other machines; with a secret in the variable CXR_TOKEN"),
    ),
    options=("bundle", "digest", "host", "port", "queue", "megabytes"),
    schema=Serve,
    job=job,
)
