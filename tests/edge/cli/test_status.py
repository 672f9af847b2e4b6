"""`penstock status` against a scripted server."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.config.snapshot import digest_of

from .commands import ROOT, Penstock, Result

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
            "streams": 2,
            "queued": 0,
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
    assert [row.split()[4] for row in rows] == ["3", "4"]


WHOLE = {
    "url": "http://127.0.0.1:8080",
    "started": "2026-11-21T17:00:00+00:00",
    "python": "3.14.2",
    "config": "/etc/penstock/penstock.toml",
    "last_reload": {
        "result": "applied",
        "at": "2026-11-21T17:52:53+00:00",
        "digest": "661480c7e90677ba",
        "reasons": [],
    },
    "requests": 79,
    "streams": 41,
    "queued": 2,
    "ledger": {"rows": 12, "oldest_seconds": 3.4},
    "upstreams": [
        {
            "name": "openai",
            "state": "closed",
            "broken_targets": 0,
            "retry_at": None,
            "in_flight": 38,
            "failures": 3,
        },
        {
            "name": "a-provider-with-a-very-long-name-indeed",
            "state": "half_open",
            "broken_targets": 2,
            "retry_at": "2026-11-21T18:00:09+00:00",
            "in_flight": 1,
            "failures": 120,
        },
    ],
    "errors": [
        {
            "at": "2026-11-21T17:59:58+00:00",
            "upstream": "openai",
            "model": "gpt-5-codex-with-a-long-name-2026-01-01",
            "status": 503,
            "problem": "upstream_overloaded",
            "request_id": "req_1",
        },
        {
            "at": "2026-11-21T17:59:50+00:00",
            "upstream": "openai",
            "model": "*",
            "status": 0,
            "problem": "upstream_unreachable",
            "request_id": "req_2",
        },
    ],
}
GOLDEN = """\
Penstock 1.2.3 at URL, pid 77, ready, up 1 d 2 h
last reload: applied at 2026-11-21T17:52:53Z, 661480c7e90677ba
79 requests, 41 streams, 2 queued; 12 ledger rows wait, the oldest for 3.4 s
pid  state  digest            generation  requests  streams  queued
80   ready  DIGEST  1           3         2        0
81   ready  DIGEST  1           4         2        0

upstream            state      broken  in flight  failures  retry at
openai              closed     0       38         3         -
a-provider-with-..  half_open  2       1          120       2026-11-21T18:00:09Z

last errors
at                    upstream  model               status  problem
2026-11-21T17:59:58Z  openai    gpt-5-codex-with..  503     upstream_overloaded
2026-11-21T17:59:50Z  openai    *                   -       upstream_unreachable
"""


def test_status_tables_at_80_columns(ask: Any, server: Server) -> None:
    server.runs({}, {"requests": 4}, **WHOLE)
    result = ask()
    assert (result.status, result.err) == (0, "")
    said = result.out.replace(f"http://127.0.0.1:{server.port}/", "URL")
    assert said.replace(digest_of(CONFIG), "DIGEST") == GOLDEN
    assert max(map(len, result.out.splitlines())) <= 80
    assert "\x1b" not in result.out


def test_status_of_a_hostile_gateway_controls_no_terminal(ask: Any, server: Server) -> None:
    error = {**WHOLE["errors"][0], "model": "\x1b[31mred\n\u202e"}  # type: ignore[index]
    server.runs({}, **{**WHOLE, "errors": [error]})
    printed = ask().out
    assert "\x1b" not in printed and "\u202e" not in printed


def test_status_watch_prints_again_until_interrupted(
    ask: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        server.runs({}, {"digest": ""})
        if len(waits) == 2:
            raise KeyboardInterrupt

    server.runs({}, {})
    monkeypatch.setattr("edge.cli.status.time.sleep", sleep)
    result = ask("--watch", "2", "--json")
    first, second = [json.loads(line) for line in result.out.splitlines()]
    assert waits == [2.0, 2.0]
    assert (first["problems"], len(second["problems"]), result.status) == ([], 1, 1)
    assert ask("--watch", "0.1").status == 2


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
        ((200, b'{"workers":[]}'), "answers, but is not Penstock"),
        ((200, b'{"workers":1,"config_valid":true}'), "answers, but is not Penstock"),
        ((200, b'{"workers":[{}],"config_valid":true}'), "answers, but is not Penstock"),
        ((200, b'{"workers":[],"config_valid":true,"tables":1}'), "answers, but is not Penstock"),
    ],
)
def test_status_other_server_is_an_error(
    ask: Any, server: Server, answer: tuple[int, bytes], said: str
) -> None:
    server.answer = answer
    result = ask()
    assert (result.status, result.out) == (1, "")
    assert result.err == f"error: http://127.0.0.1:{server.port}/: {said}\n"
    found = json.loads(ask("--json").out)
    assert (found["state"], len(found["problems"])) == ("down", 1)


def test_status_of_a_server_that_answers_slowly_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.cli.status.PATIENCE", 1.0)
    over = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not over.wait(0.05):
                self.wfile.write(b" ")

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        penstock = Penstock(tmp_path / "penstock.toml", capsys)
        result = penstock.on("status", "--url", f"http://127.0.0.1:{server.server_port}")
    finally:
        over.set()
        server.shutdown()
        server.server_close()
    assert (result.status, result.out) == (1, "")
    assert "does not answer: timed out" in result.err


def test_status_no_server_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    penstock = Penstock(tmp_path / "penstock.toml", capsys)
    result = penstock.on("status", "--url", url)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"error: {url}: does not answer: ")
    result = penstock.on("status", "--url", url, "--json")
    found = json.loads(result.out)
    assert (result.status, result.err, found["state"], found["url"]) == (1, "", "down", url)
    assert found["problems"][0].startswith(f"{url}: does not answer: ")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://h", "http://", "http://h:port"])
def test_status_url_that_is_none_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    result = Penstock(tmp_path / "penstock.toml", capsys).on("status", "--url", url)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"error: {url}: ") and "Traceback" not in result.err


def test_status_imports_little() -> None:
    """It is run each half minute as a health check."""
    code = (
        "import sys\nfrom edge.cli import main\ntry:\n    main(['status', '--config', 'none'])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    heavy = {"httpx", "sqlalchemy", "starlette", "granian", "prometheus_client", "opentelemetry"}
    assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize("broken", [False, True])
def test_status_address_of_the_file_valid_or_not(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    config = tmp_path / "penstock.toml"
    text = f'[server]\nhost = "0.0.0.0"\nport = {server.port}\n' + "colour = 1\n" * broken
    config.write_text(text)
    server.runs({"digest": digest_of(text.encode())})
    assert Penstock(config, capsys).on("status").status == 0
