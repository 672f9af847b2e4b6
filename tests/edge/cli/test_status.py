"""`penstock status` against a scripted server."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.config.snapshot import digest_of

from .commands import Penstock, Result

CONFIG = b'brand = "Acme"\n'


class Server:
    """answer: status and body of GET /status."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b"{}")
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answering.answer
                self.send_response(status if self.path == "/status" else 500)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def runs(self, *workers: dict[str, Any], **more: Any) -> None:
        """Answer as a gateway with these workers."""
        plain = {
            "state": "ready",
            "digest": digest_of(CONFIG),
            "generation": 1,
            "loaded": "2026-11-21T17:00:00+00:00",
            "requests": 3,
            "seen_seconds_ago": 0.4,
        }
        answer = {
            "state": "ready",
            "version": "1.2.3",
            "pid": 77,
            "uptime_seconds": 93784.0,
            "config_valid": True,
            "workers": [{"pid": 80 + n, **plain, **one} for n, one in enumerate(workers)],
            **more,
        }
        self.answer = (200, json.dumps(answer).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.fixture
def ask(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> Any:
    config = tmp_path / "penstock.toml"
    config.write_bytes(CONFIG)
    penstock = Penstock(config, capsys)

    def run(*options: str) -> Result:
        return penstock.on("status", "--url", f"http://127.0.0.1:{server.port}/", *options)

    return run


def test_status_all_workers_current_exits_0(ask: Any, server: Server) -> None:
    server.runs({}, {"requests": 4})
    result = ask()
    assert (result.status, result.err) == (0, "")
    first, _, *rows = result.out.splitlines()
    assert "Penstock 1.2.3" in first
    assert "pid 77, ready, up 1 d 2 h" in first
    assert [row.split()[0] for row in rows] == ["80", "81"]
    assert [row.split()[-1] for row in rows] == ["3", "4"]


def test_status_json(ask: Any, server: Server) -> None:
    server.runs({}, {"digest": "0" * 16})
    result = ask("--json")
    found = json.loads(result.out)
    assert (result.status, result.err, found["pid"]) == (1, "", 77)
    assert [problem.split(" ")[:2] for problem in found["problems"]] == [["worker", "81"]]


@pytest.mark.parametrize(
    ("workers", "more", "said"),
    [
        ([{"digest": ""}], {}, "worker 80 runs no file, "),
        ([{}, {"generation": 2}], {}, "the workers do not run the same configuration"),
        ([{}], {"worker_count": 2}, "1 of 2 workers are running"),
        ([{"fault": "why"}], {}, "worker 80: why"),
        ([{"seen_seconds_ago": 31.0}], {}, "worker 80 has sent no update for 31 s"),
        (
            [{}],
            {
                "config_valid": False,
                "last_reload": {"result": "refused", "at": "x", "digest": "", "reasons": ["a: b"]},
            },
            "refused: a: b",
        ),
    ],
)
def test_status_problem_is_reported_and_exits_1(
    ask: Any, server: Server, workers: list[Any], more: Any, said: str
) -> None:
    server.runs(*workers, **more)
    result = ask()
    assert result.status == 1
    assert f"error: {said}" in result.err
    assert "Penstock 1.2.3" in result.out


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"{}"), "answers 404: this address is not in server.ops_networks"),
        ((503, b""), "answers 503"),
        ((200, b"<html>"), "answers, but is not Penstock"),
        ((200, b"[]"), "answers, but is not Penstock"),
    ],
)
def test_status_other_server_is_an_error(
    ask: Any, server: Server, answer: tuple[int, bytes], said: str
) -> None:
    server.answer = answer
    result = ask()
    assert (result.status, result.out) == (1, "")
    assert result.err == f"error: http://127.0.0.1:{server.port}/: {said}\n"


def test_status_no_server_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    penstock = Penstock(tmp_path / "penstock.toml", capsys)
    result = penstock.on("status", "--url", url)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"error: {url}: does not answer: ")


@pytest.mark.parametrize("broken", [False, True])
def test_status_address_of_the_file_valid_or_not(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    config = tmp_path / "penstock.toml"
    text = f'[server]\nhost = "0.0.0.0"\nport = {server.port}\n' + "colour = 1\n" * broken
    config.write_text(text)
    server.runs({"digest": digest_of(text.encode())})
    assert Penstock(config, capsys).on("status").status == 0
