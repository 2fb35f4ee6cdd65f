"""A W&B server that does not answer, or goes away: the run ends as it would, and says how to send what is kept."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.end_to_end.test_resume import ROOT

pytestmark = pytest.mark.slow
RUN = ("backbone=resnet10", "image_size=32", "batch_size=16", "trainer=cpu", "trainer.max_epochs=1", "name=a",
       "logger=wandb", "logger.wandb.settings.init_timeout=5", "logger.wandb.settings.finish_timeout=3")  # fmt: skip


class Server(BaseHTTPRequestHandler):
    """As much of W&B as a run needs to begin."""

    answers: ClassVar[dict[str, Any]] = {
        "query Viewer": {
            "viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        },
        "mutation UpsertBucket": {
            "upsertBucket": {
                "bucket": {
                    "id": "YQ==", "name": "a", "displayName": "a", "config": "{}", "historyLineCount": 0,
                    "project": {"id": "cA==", "name": "cxr", "entity": {"id": "ZQ==", "name": "me"}},
                },
                "inserted": True,
            }
        },
    }  # fmt: skip
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        self.asked.append(asked)
        found = next((answer for query, answer in self.answers.items() if query in asked), {})
        content = json.dumps({"data": found} if "graphql" in self.path else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    stop(made)


def stop(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(
    here: Path, phantoms: Path, environment: dict[str, str], server: ThreadingHTTPServer
) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a training in a process of its own: W&B keeps what it first met for as long as the process lives."""
    known = {key: value for key, value in environment.items() if not key.startswith(("WANDB", "CXR"))}
    known |= {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}", "NETRC": str(here / "none")}
    data = (f"data.root={phantoms}", "data.images=90", "data.phantom_size=64", "data.workers=0")

    def run(*more: str, **keys: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "train.py"), *RUN, *data, *more]
        return subprocess.Popen(
            command, env=known | keys, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=here
        )

    return run


KEY = {"WANDB_API_KEY": "x" * 40}


def test_where_no_server_answers_the_run_resumes_offline(
    start: Callable[..., Any], here: Path, server: ThreadingHTTPServer
) -> None:
    stop(server)
    process = start(**KEY)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "W&B does not answer" in said and "wandb sync runs/a/wandb/*run-* uploads it later" in said
    assert (here / "runs" / "a" / "metrics.json").exists()
    assert list((here / "runs" / "a" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_server_that_goes_away_is_waited_for_and_then_left(
    start: Callable[..., Any], here: Path, server: ThreadingHTTPServer
) -> None:
    Server.asked.clear()
    process, log = start("trainer.max_epochs=20", **KEY), here / "runs" / "a" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not log.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any("UpsertBucket" in asked for asked in Server.asked), "it had begun at the server"
    stop(server)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "W&B no longer answers (" in said and "wandb sync runs/a/wandb/*run-* uploads it later" in said
    assert (here / "runs" / "a" / "metrics.json").exists()
    assert list((here / "runs" / "a" / "wandb").glob("run-*/*.wandb"))


def test_without_a_key_it_is_one_sentence(start: Callable[..., Any]) -> None:
    process = start()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 1, said
    assert "error: W&B refuses" in said and "wandb login" in said and "Traceback" not in said
