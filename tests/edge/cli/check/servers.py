"""Servers in threads, which answer as a test says: `penstock check` runs a loop of its own."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, BaseServer, ThreadingTCPServer
from typing import Any


class Answer:
    """status, headers and body of an answer; without a `date` it has none."""

    def __init__(
        self, body: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = dict(headers or {})


def models(*names: str, **headers: str) -> Answer:
    """A list of models in OpenAI's form."""
    return Answer({"object": "list", "data": [{"id": name} for name in names]}, headers=headers)


class Scripted:
    """A server. answers: by path without its query; `otherwise` for any other.

    asked: "METHOD TARGET", headers and body of each request.
    """

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://localhost:{port}"
        self.answers: dict[str, Answer] = {}
        self.otherwise = Answer(status=404)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []


@contextmanager
def scripted(tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """A server on a port of localhost."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            sent = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append((f"{self.command} {self.path}", headers, sent))
            answer = server.answers.get(self.path.partition("?")[0], server.otherwise)
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    class Listening(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return  # a client that refuses our certificate

    listening = Listening(("127.0.0.1", 0), Handler)
    if tls is not None:
        listening.socket = tls.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    server = Scripted(listening.server_address[1], "https" if tls else "http")
    with _running(listening):
        yield server


class Proxy(ThreadingTCPServer):
    """A proxy for CONNECT. tunnels: what it was asked to connect to."""

    daemon_threads = True

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.url = f"http://user:canary-of-proxy@127.0.0.1:{self.server_address[1]}"


class _Tunnel(BaseRequestHandler):
    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(1)
        place = head.split()[1].decode()
        assert isinstance(self.server, Proxy)
        self.server.tunnels.append(place)
        host, _, port = place.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            back.start()
            _copy(self.request, there)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxy() -> Iterator[Proxy]:
    """A proxy on a port of this machine."""
    found = Proxy()
    with _running(found):
        yield found


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


@contextmanager
def _running(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
