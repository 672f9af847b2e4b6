"""A profile as a running system: its file as it is, with simulated providers behind it.

The providers are a real `penstock simulate` process, which each upstream asks over HTTP in its own
dialect. Their keys are canaries: the word stands in no answer and in no log.
"""

import socket
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx

from edge.config.simulated import variables
from edge.upstreams.simulator import SimulatorServer
from tests.clients.claude import CLIENT
from tests.e2e.program import DEADLINE, ROOT, Gateway, Program

FOLDER = ROOT / "config/profiles"
NAMES = ("claudin", "claude-code-proxy", "claudexia", "multimodal", "capio")
CANARY = "up-canary"
"""In every key of a provider."""
ADMIN_TOKEN = "admin-canary-51e0b7aa43"

Serve = Callable[[str], Gateway]

Claude = Literal["program", "http", "unchanged"]
"""What an upstream of dialect `claude-cli` is: the real client, signed in to the simulator, which
costs a second of processor time for each answer; the simulator over HTTP in its place; or what the
profile names."""

_HTTP = ("openai", "anthropic", "responses")
_WITHOUT_VERSION = ("fal", "suno")
"""Vendors of jobs whose base URL has no /v1."""


class Stores(NamedTuple):
    """Where a gateway keeps its data, and how many workers share that."""

    name: str
    store: Mapping[str, Any] = {}
    workers: int = 1


EMBEDDED = Stores("embedded")


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.toml"


def document_of(name: str) -> dict[str, Any]:
    """The content of a profile's file."""
    return tomllib.loads(file_of(name).read_text("utf-8"))


def canary(variable: str) -> str:
    """The key of a provider in place of an environment variable."""
    return f"{CANARY}-{variable.lower().replace('_', '-')}-6f1c7d02b9"


def pointed_at(
    simulator: str, upstream: Mapping[str, Any], home: Path, *, claude: Claude = "program"
) -> dict[str, Any]:
    """An upstream of a profile that asks a simulator."""
    if upstream["dialect"] in _HTTP:
        version = "" if upstream.get("jobs") in _WITHOUT_VERSION else "/v1"
        return {**upstream, "base_url": f"{simulator}{version}"}
    if upstream["dialect"] == "claude-cli" and claude == "http":
        url, key = f"{simulator}/v1", "env:CLAUDE_TOKEN"
        return {**upstream, "dialect": "anthropic", "base_url": url, "api_key": key}
    if upstream["dialect"] == "claude-cli" and claude == "program":
        home.mkdir(exist_ok=True)
        environment = {
            **upstream.get("environment", {}),
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": simulator,
            "ANTHROPIC_AUTH_TOKEN": "env:CLAUDE_TOKEN",
            "NO_PROXY": "*",
        }
        return {**upstream, "command": str(CLIENT), "environment": environment, "prewarm": 0}
    return dict(upstream)


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A document with other values; tables are merged, lists are replaced."""
    result = dict(document)
    for name, value in changes.items():
        old = result.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[name] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def serve_profile(
    name: str,
    folder: Path,
    simulator: Program | SimulatorServer,
    stores: Stores = EMBEDDED,
    *,
    changes: Mapping[str, Any] | None = None,
    claude: Claude = "program",
    env: Mapping[str, str] | None = None,
) -> Gateway:
    """A running gateway with a profile's file. The management API is on, for `new_key`.

    changes: values in place of the profile's, as `merged` has them. claude: see `Claude`.
    env: variables besides the providers' keys, or in place of them.
    """
    document = document_of(name)
    document["upstreams"] = [
        pointed_at(simulator.url, upstream, folder / "home", claude=claude)
        for upstream in document["upstreams"]
    ]
    document = merged(document, {"auth": {"admin_token": "env:ADMIN_TOKEN"}})
    server = {"port": 0, "workers": stores.workers}
    document = merged(document, {"server": server, "store": stores.store})
    document = merged(document, changes or {})
    keys = {variable: canary(variable) for variable in variables(document)}
    own = {**keys, "ADMIN_TOKEN": ADMIN_TOKEN, **(env or {})}
    return Gateway(folder, document, env=own)


@contextmanager
def started_once(start: Serve) -> Iterator[Serve]:
    """Gateways by name, each started when first asked for. All stop at the end."""
    running: dict[str, Gateway] = {}

    def serve(name: str) -> Gateway:
        if name not in running:
            running[name] = start(name)
        return running[name]

    try:
        yield serve
        for program in running.values():
            assert program.stop() == 0, program.stderr
    finally:
        for program in running.values():
            program.kill()


@contextmanager
def from_address(url: str, address: str) -> Iterator[str]:
    """A URL at which a gateway sees `address` as the client's, one of 127.0.0.0/8.

    For limits of an address, and clients that cannot choose theirs.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def connect(client: socket.socket) -> None:
        sockets.append(client)
        server = socket.create_connection((host, int(port)), source_address=(address, 0))
        sockets.append(server)
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            threads.append(threading.Thread(target=_pass_on, args=(one, other)))
            threads[-1].start()

    def listen() -> None:
        with suppress(OSError):  # shut down at the end
            while True:
                connect(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listening = threading.Thread(target=listen)
        listening.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listening.join(DEADLINE)
            for one in sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(DEADLINE)
            for one in sockets:
                one.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Copy all bytes of one direction, and its end."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def client_from(gateway: Gateway, address: str) -> httpx.Client:
    """An HTTP client with an address of its own, one of 127.0.0.0/8; without a key."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(
        base_url=gateway.url, transport=transport, trust_env=False, timeout=DEADLINE
    )
