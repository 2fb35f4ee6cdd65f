"""The HTTP API of a model: scores radiographs that are sent to it, and neither stores nor logs them."""

import asyncio
import base64
import hmac
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException

from cxr.errors import CxrError
from cxr.imaging.decode import gray_with_remarks
from cxr.imaging.limits import BadImage, UnknownFormat
from cxr.processes.cores import cores
from cxr.use.description import describe
from cxr.use.page.write import ServedPage
from cxr.use.posted import MOST_FILES, Refused, read_form
from cxr.use.scoring import Floats, Model, Scores
from cxr.use.system import System

_OPEN = ("/docs", "/openapi.json", "/healthz", "/readyz")  # without a token
_ATTRIBUTES = {"age": {"type": "number"}, "sex": {"enum": ["M", "F"]}, "view": {"enum": ["PA", "AP"]}}
_NICE = 10  # priority of the threads that compute, the lowest is 19
_FILE = {"type": "string", "format": "binary"}


def create_app(
    model: Model, token: str | None = None, queue: int = 64, megabytes: int = 64, page: ServedPage | None = None
) -> FastAPI:
    """The application for any ASGI server; it must run in one process.

    Args:
        model: what scores.
        token: that requests must send as `Authorization: Bearer TOKEN`, or browsers as a password; or None.
        queue: requests that are received, wait or are computed at once; further ones get the status 429.
        megabytes: the largest body of a request.
        page: at `/`; without one the documentation is there, too.
    """
    cv2.setNumThreads(0)
    warnings.filterwarnings("ignore", module=r"pydicom\.")  # of bodies, which must not be logged
    for name in ("pydicom", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)
    service = _Service(model, queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title=f"cxr: {model.system.name}", docs_url=None, redoc_url=None, lifespan=lifespan)
    documentation = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        began, path = time.perf_counter(), request.scope["path"]  # `request.url` is partly the client's header `Host`
        given = _token_of(request.headers.get("authorization", ""))
        if token is None or path in _OPEN or hmac.compare_digest(given, token.encode()):
            response = await answer(request)
        else:
            said = "send the header Authorization: Bearer TOKEN, or enter the token as the password"
            response = _error(401, said, {"WWW-Authenticate": 'Basic realm="cxr"'})
        known = request.scope.get("route")
        shown = path if path in _OPEN else "other" if known is None else known.path
        service.requests.labels(shown, str(response.status_code)).inc()
        service.seconds.labels(shown).observe(time.perf_counter() - began)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _error(error.status, error.reason, {"Retry-After": "1"} if error.status == 429 else {})

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, f"{error.detail}; GET /docs lists what there is", dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _error(500, "the server failed; its log has the reason")

    @app.post("/v1/predict", openapi_extra=_body({"file": _FILE} | _ATTRIBUTES), response_class=JSONResponse)
    async def predict(request: Request) -> dict[str, Any]:
        """Scores of one image. Age in years, sex and view are used by networks that were trained with them."""
        with service.place():
            posted = await read_form(request, megabytes, 1)
            return await service.score(posted.files[0], posted.attributes)

    @app.post("/v1/predict/batch", openapi_extra=_body({"file": {"type": "array", "items": _FILE}} | _ATTRIBUTES))
    async def batch(request: Request) -> dict[str, Any]:
        """Scores of several images in their order; one that cannot be used has a reason and leaves the others alone."""
        with service.place():
            posted = await read_form(request, megabytes, MOST_FILES)
            images = await asyncio.gather(*(service.row(content, posted.attributes) for content in posted.files))
        return {"images": images}

    @app.get("/v1/model")
    async def about() -> dict[str, Any]:
        """What the bundle says about its system, and the digest of the bundle."""
        described = describe(model.system)
        return {key: value for key, value in described.items() if key != "detectors"} | {"digest": model.digest}

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Answers if the server runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """Answers 200 if a request would be accepted now."""
        service.check()
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and durations in the format of Prometheus."""
        return Response(generate_latest(service.registry), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(documentation, headers={"Content-Security-Policy": policy})

    @app.get("/", include_in_schema=False)
    async def start() -> Response:
        if page is None:
            return await docs()
        return HTMLResponse(page.html, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        found = page.parts.get(name) if page is not None else None
        if found is None:
            raise HTTPException(404, "Not Found")
        kind = "application/octet-stream"
        return FileResponse(found, media_type=kind) if isinstance(found, Path) else Response(found, media_type=kind)

    return app


def _token_of(header: str) -> bytes:
    """The token of the header `Authorization`: a bearer's, or the password that a browser asks for."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.encode()
    with suppress(ValueError):
        return base64.b64decode(value, validate=True).partition(b":")[2] if kind.lower() == "basic" else b""
    return b""


class _Service:
    """The threads that compute, the places in front of them, and counters."""

    def __init__(self, model: Model, queue: int) -> None:
        self.model, self.queue = model, queue
        self.pool = ThreadPoolExecutor(cores(), initializer=_lower_priority)
        self.registry = CollectorRegistry()
        self.requests = Counter("cxr_requests", "Requests.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("cxr_request_seconds", "Seconds of requests.", ["path"], registry=self.registry)
        self.images = Counter("cxr_images", "Images by result.", ["status"], registry=self.registry)
        self.taken = 0
        busy = Gauge("cxr_requests_in_progress", "Requests with images.", registry=self.registry)
        busy.set_function(lambda: self.taken)

    def check(self) -> None:
        """Raises Refused if all places are taken."""
        if self.taken >= self.queue:
            raise Refused(429, f"{self.queue} requests are in progress; try again later")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place of the queue, while a request is in progress."""
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def score(self, content: bytes, attributes: Floats) -> dict[str, Any]:
        """Scores of a file, as plain values.

        Raises:
            Refused: it cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self.pool, _score, self.model, content, attributes)
        except Refused:
            self.images.labels("refused").inc()
            raise
        self.images.labels("ok").inc()
        return found

    async def row(self, content: bytes, attributes: Floats) -> dict[str, Any]:
        """As `score`, with `status`, and `reason` in place of scores if it cannot be used."""
        try:
            return {"status": "ok"} | await self.score(content, attributes)
        except Refused as error:
            return {"status": "refused", "reason": error.reason}


def _lower_priority() -> None:
    """Gives this computing thread a lower priority than the one that answers requests; on Linux only."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _score(model: Model, content: bytes, attributes: Floats) -> dict[str, Any]:
    try:
        pixels, remarks = gray_with_remarks(content)
        views = model.views(pixels)
    except UnknownFormat as error:
        raise Refused(415, f"the file is {error}") from None
    except CxrError as error:  # DICOM, and no package for it
        raise Refused(415, str(error)) from None
    except BadImage as error:
        raise Refused(422, f"the image cannot be used: {' '.join(str(error).split())}") from None
    scores = model.score_views([views], attributes)
    features = None if scores.features is None else scores.features[0]
    warnings = [*remarks, *model.unusual(pixels.shape, views, features)[0]]
    about = {"sha256": sha256(content).hexdigest(), "model": model.system.model}
    return about | _plain(model.system, scores) | {"warnings": warnings}


def _plain(system: System, scores: Scores) -> dict[str, Any]:
    """Scores of one image by finding; None where a value is undefined."""

    def named(row: Floats) -> dict[str, float | None]:
        values = (None if math.isnan(value) else value for value in row.tolist())
        return dict(zip(system.findings, values, strict=True))

    return {
        "score": named(scores.score[0]),
        "calibrated": None if scores.calibrated is None else named(scores.calibrated[0]),
        "calls": {point: named(calls[0]) for point, calls in scores.calls.items()},
        "members": [
            {"name": member.name, "score": named(each[0])}
            for member, each in zip(system.members, scores.members, strict=True)
        ],
    }


def _body(properties: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a form."""
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)
