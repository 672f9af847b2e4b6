"""`edge/server/granian_server.py`, and each internal of Granian that it uses."""

import ast
import inspect
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
from granian import _granian, _signals
from granian.server import MPServer
from granian.server.mp import WorkerProcess

from edge.server import granian_server
from edge.server.granian_server import GranianServer, stop_once

INTERNALS: dict[str, tuple[object, str, str]] = {
    "_granian.SocketHolder": (_granian, "", "shares an inherited socket with the workers"),
    "_granian.WorkerSignal": (_granian, "", "stops a worker"),
    "WorkerSignal.set": (_granian.WorkerSignal, "", "stops a worker"),
    "_signals.set_loop_signals": (
        _signals,
        "loop",
        "stops a worker once, at the first of its signals",
    ),
    "MPServer.serve": (MPServer, "self spawn_target target_loader wrap_loader", "serves"),
    "MPServer.startup": (
        MPServer,
        "self spawn_target target_loader",
        "prepares the parent process",
    ),
    "MPServer.shutdown": (MPServer, "self exit_code", "ends the parent process with our status"),
    "MPServer._serve": (MPServer, "self spawn_target target_loader", "replaces the order of these"),
    "MPServer._serve_loop": (
        MPServer,
        "self spawn_target target_loader",
        "runs our supervisor instead",
    ),
    "MPServer._spawn_workers": (
        MPServer,
        "self spawn_target target_loader",
        "leaves it to the supervisor",
    ),
    "MPServer._stop_workers": (MPServer, "self", "leaves it to the supervisor"),
    "MPServer._spawn_worker": (
        MPServer,
        "self idx target callback_loader",
        "creates a worker's process",
    ),
    "MPServer._init_shared_socket": (MPServer, "self", "shares an inherited socket"),
    "MPServer.signal_handler_interrupt": (
        MPServer,
        "self args kwargs",
        "stops with or without notice",
    ),
    "MPServer.signal_handler_reload": (
        MPServer,
        "self args kwargs",
        "reads the configuration again",
    ),
}
"""Each internal, what has it, its parameters where we rely on them, and what we use it for."""

INSTANCE = ("_shd", "_ssp", "_sso")
"""What `_init_shared_socket` sets and `_spawn_worker` reads."""

OWN = {"_parent", "_inherited", "_spawn_target", "_target_loader", "_set_loop_signals"}


def gone(name: str, use: str) -> str:
    return (
        f"Granian {version('granian')} has no {name} like that of 2.8, by which "
        f"edge/server/granian_server.py {use}: change that module, or lower the upper bound of "
        "granian in pyproject.toml"
    )


@pytest.mark.parametrize("name", INTERNALS)
def test_internal_of_granian_is_there(name: str) -> None:
    owner, parameters, use = INTERNALS[name]
    found = getattr(owner, name.rpartition(".")[2], None)
    assert found is not None, gone(name, use)
    if parameters:
        assert list(inspect.signature(found).parameters) == parameters.split(), gone(name, use)


def test_every_internal_that_the_module_uses_is_named_here() -> None:
    tree = ast.parse(Path(granian_server.__file__).read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    private = {name for name in used | defined if name.startswith("_") and name[1] != "_"}
    named = {name.rpartition(".")[2] for name in INTERNALS} | {*INSTANCE}
    assert private - OWN == {name for name in named if name.startswith("_")}


def test_workers_look_their_signal_function_up_when_they_start() -> None:
    """`stop_once` replaces it in the module."""
    source = inspect.getsource(MPServer._spawn_asgi_lifespan_worker)
    use = "stops a worker once, at the first of its signals"
    assert "from granian._signals import set_loop_signals" in source, gone("set_loop_signals", use)


class Parent:
    """Records what the server calls."""

    def __init__(self) -> None:
        self.called: list[object] = []

    def load(self, row: int) -> Any:
        return f"app {row}"

    def run(self) -> int:
        self.called.append("run")
        return 0

    def interrupt(self, number: int) -> None:
        self.called.append(number)

    def request_reload(self) -> None:
        self.called.append("reload")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def server(parent: Parent, listener: socket.socket) -> GranianServer:
    host, port = listener.getsockname()
    return GranianServer(
        parent,
        host=host,
        port=port,
        inherited=listener,
        workers=2,
        http2=False,
        connections=10,
        debug=False,
    )


def test_create_process_worker_gets_the_inherited_socket_and_its_own_application(
    listener: socket.socket,
) -> None:
    granian = server(Parent(), listener)
    granian._init_shared_socket()
    granian._spawn_workers(lambda *_: None, granian._parent.load)
    process = granian.create_process(1)
    assert process.pid is None
    load, sockets = next(
        (each, then)
        for each, then in zip(process._args, process._args[1:], strict=False)  # type: ignore[attr-defined]
        if callable(each)
    )
    assert load() == "app 1"
    (spec, holder), other = sockets
    assert (spec, other) == (None, None)
    assert holder.get_fd() == listener.fileno()


def test_granian_process_of_a_worker_is_its_inner() -> None:
    worker = WorkerProcess(None, 0, print, ())  # type: ignore[no-untyped-call]
    assert callable(worker.inner.start), gone("WorkerProcess.inner", "creates a worker's process")


def test_signals_reach_the_parent(listener: socket.socket) -> None:
    parent = Parent()
    granian = server(parent, listener)
    granian.signal_handler_interrupt(signal.SIGTERM, None)
    granian.signal_handler_interrupt(signal.SIGINT, None)
    granian.signal_handler_reload(signal.SIGHUP, None)
    assert parent.called == [signal.SIGTERM, signal.SIGINT, "reload"]


class Loop:
    """Keeps the handlers that are added to it."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}

    def add_signal_handler(self, number: int, handler: Callable[[], None]) -> None:
        self.handlers[number] = handler


def test_stop_once_two_stop_signals_set_the_event_once(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Event:
        def set(self) -> None:
            happened.append("set")

    monkeypatch.setattr(granian_server, "WorkerSignal", Event)
    monkeypatch.setattr(_signals, "set_loop_signals", _signals.set_loop_signals)  # restored
    before = signal.getsignal(signal.SIGINT)
    loop = Loop()
    try:
        stop_once(lambda: happened.append("stop"))
        cast("Any", _signals.set_loop_signals)(loop)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    loop.handlers[signal.SIGTERM]()
    loop.handlers[signal.SIGTERM]()
    assert happened == ["stop", "set"]


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (
            "Application callable raised an exception\nTraceback\n  File x\nProblem: ('a', 'b')",
            False,
        ),
        ("Application callable raised an exception\nTraceback\n  File x\nValueError: no", True),
        ("Application callable raised an exception\nProblem: x\nValueError: no", True),
        ("[INFO] Problem: none", True),
    ],
)
def test_broken_answers_traceback_of_a_problem_is_not_logged(text: str, logged: bool) -> None:
    record = logging.LogRecord("_granian.utils", logging.ERROR, "", 0, text, (), None)
    assert granian_server.BrokenAnswers().filter(record) is logged
