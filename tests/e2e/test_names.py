"""Upstreams by name while the name server is silent: whom it concerns, and whom not."""

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .conftest import SECRETS, Figures
from .program import Gateway, Program
from .wire import CHAT, Reply, ask, chat

DEAD = 6
"""Names without an answer: more than the threads that an event loop has for lookups."""
SERVER = "127.77.53.53"
_SILENT = """
import socket, threading
_real = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if str(host).endswith(".example") and "flags" not in options:
        threading.Event().wait()
    return _real(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
"""


class Resolver:
    """What a program is started with, so that names under `.example` are never answered.

    Where namespaces can be had (as root), a name server of its own that takes questions and says
    nothing; elsewhere the call that asks the system waits for ever.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.env: Mapping[str, str] = {}
        self.wrapper: Sequence[str] = ()
        self.server: socket.socket | None = None
        folder.mkdir()
        if os.geteuid() == 0 and shutil.which("unshare"):
            self.server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.server.bind((SERVER, 53))
            self.server.setblocking(False)
            (folder / "resolv.conf").write_text(f"nameserver {SERVER}\n")
            (folder / "nsswitch.conf").write_text("hosts: files dns\n")
            mounts = "".join(
                f"mount --bind {folder / name} /etc/{name} && "
                for name in ("resolv.conf", "nsswitch.conf")
                if Path("/etc", name).exists()
            )
            self.wrapper = ("unshare", "--mount", "sh", "-c", f'{mounts} exec "$@"', "sh")
        else:
            (folder / "sitecustomize.py").write_text(_SILENT)
            self.env = {"PYTHONPATH": str(folder)}

    def asked(self) -> set[bytes]:
        """The names that the server was asked for."""
        names = set()
        while self.server is not None:
            try:
                packet = self.server.recv(512)
            except BlockingIOError:
                break
            names.add(packet[13 : 13 + packet[12]])
        return names


def document(simulator: str) -> dict[str, Any]:
    """Upstreams at an address and at a name of this machine, and at names without an answer,
    over each transport."""
    by_name = simulator.replace("127.0.0.1", "localhost")
    bases = {"address": simulator, "name": by_name}
    bases |= {f"dead{n}": f"http://dead{n}.example:9" for n in range(DEAD)}
    places = [(f"{name}-{how}", how, base) for name, base in bases.items() for how in HOW]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [
            {
                "name": name,
                "dialect": "openai",
                "base_url": f"{base}/v1",
                "transport": how,
                "connect_timeout": "4s" if name.startswith("dead") else "20s",
            }
            for name, how, base in places
        ],
        "models": [{"id": name, "targets": [f"{name}/sim-1"]} for name, _, _ in places],
        "breaker": {"min_failures": 100_000},
    }


HOW = ("native", "httpx")


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[tuple[Gateway, Resolver]]:
    folder = tmp_path_factory.mktemp("names")
    with ExitStack() as stack:
        resolver = Resolver(folder / "etc", stack)
        program = Gateway(
            folder,
            document(simulator.url),
            env={**SECRETS, **resolver.env},
            wrapper=resolver.wrapper,
        )
        try:
            yield program, resolver
        finally:
            assert program.stop() == 0, program.stderr


async def test_silent_name_server_concerns_only_unknown_names(
    gateway: tuple[Gateway, Resolver], figures: Figures
) -> None:
    """Every request to a dead name fails by its limit and says so; none to another does."""
    program, resolver = gateway

    async def one(model: str) -> tuple[str, Reply]:
        body = chat("Hi [[sim tokens=2]]", model, stream=True)
        return model, await ask(program.url, CHAT, body, program.bearer)

    dead = [f"dead{n}-{how}" for n in range(DEAD) for how in HOW]
    well = [f"{name}-{how}" for name in ("address", "name") for how in HOW]
    lost = [asyncio.create_task(one(name)) for name in dead for _ in range(4)]
    await asyncio.sleep(0.5)
    served = await asyncio.gather(*[one(name) for name in well for _ in range(25)])
    before = sum(task.done() for task in lost)
    assert [model for model, reply in served if reply.status != 200] == []
    failed = await asyncio.gather(*lost)
    assert {reply.status for _, reply in failed} == {504}
    for model, reply in failed:
        reason = program.request_line(reply.header("x-request-id"))["reason"]
        host = model.partition("-")[0]
        assert f"name lookup of {host}.example timed out: connect limit of 4 s passed" in reason
    how = "a name server" if resolver.server is not None else "a stand-in"
    figures(f"{len(served)} served, {before} of {len(failed)} others had failed before; {how}")
    if resolver.server is not None:
        asked = resolver.asked()
        assert {f"dead{n}".encode() for n in range(DEAD)} <= asked
        assert b"localhost" not in asked  # the hosts file knows it


async def test_silent_name_server_does_not_hold_up_the_end(
    gateway: tuple[Gateway, Resolver],
) -> None:
    """A lookup that hangs is no reason for a worker to stay."""
    program, _ = gateway
    body = chat("Hi", "dead0-native", stream=True)
    assert (await ask(program.url, CHAT, body, program.bearer)).status == 504
    assert await asyncio.to_thread(program.stop) == 0
    assert not [line for line in program.log if "did not stop in time" in line["event"]]
