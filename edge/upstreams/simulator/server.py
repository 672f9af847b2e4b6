"""The simulator as an HTTP/1.1 server: asyncio.Protocol and httptools, no task per request.

Theory of operation. A connection parses requests and answers them in order. An answer is turned
into wire bytes once (`AnswerWire`) and cached for identical requests. An answer without delays is
written at once. Any other goes on the server's `TimerWheel`, which calls the connection when the
next step is due. A step is one write and one chunk. A client that does not read pauses only its own
answer.
"""

import asyncio
from collections import deque
from typing import Any

from edge.upstreams import Request

from .account import Account
from .answer import SimulatedAnswer
from .connection import Bounds, SimulatedConnection
from .controls import Controls
from .form import SimulatedForm
from .stats import Stats
from .timer_wheel import TimerWheel
from .wire import AnswerWire, WireCache, wire_of

_REMEMBERED = 1 << 20


class SimulatorServer:
    """The provider on a TCP port.

    controls: defaults for every request. `stats` counts; `recent` holds the newest requests whose
    body is no larger than 1 MiB. Also an async context manager, started on a free loopback port.
    """

    def __init__(
        self,
        controls: Controls = Controls(),  # noqa: B008 - it is frozen
        *,
        bounds: Bounds = Bounds(),  # noqa: B008 - it is frozen
    ) -> None:
        self.controls = controls
        self.bounds = bounds
        self.stats = Stats()
        self.account = Account()
        self.recent: deque[Request] = deque(maxlen=16)
        self.connections: set[SimulatedConnection] = set()
        self.wheel: TimerWheel
        self._server: asyncio.Server | None = None
        self._cache = WireCache(bounds.answers, bounds.answer_bytes)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self.wheel = TimerWheel(loop)
        self._server = await loop.create_server(
            lambda: SimulatedConnection(self, loop), host, port, backlog=2048
        )
        self.account.base = self.url

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            raise RuntimeError("the simulator has not been started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Scheme, address and port, no slash at the end."""
        host = self._server.sockets[0].getsockname()[0] if self._server else ""
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def aclose(self) -> None:
        """Stop listening and break every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        self.wheel.close()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> "SimulatorServer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def wire(self, request: Request, body: bytes | SimulatedForm) -> AnswerWire:
        """The answer to a request; GET /stats and GET /release are the server's own."""
        if request.target == b"/release":
            for connection in list(self.connections):
                connection.release()
            self.account.release()
            return wire_of(SimulatedAnswer(200, (), 0, 0.0, ()))
        if request.target == b"/stats":
            json = (b"content-type", b"application/json")
            report = self.stats.report()
            return wire_of(SimulatedAnswer(200, (json,), len(report), 0.0, ((0.0, report),)))
        self.stats.requests += 1
        if isinstance(request.body, bytes) and len(request.body) <= _REMEMBERED:
            self.recent.append(request)
        wire = self._cache.find(request, body, self.controls, self.account)
        self.stats.add(wire.counts)
        self.stats.add_request(wire.model)
        return wire


async def serve(host: str = "127.0.0.1", port: int = 0, **defaults: Any) -> SimulatorServer:
    """A listening simulator; `defaults` are controls by name, e.g. `rate=50`.

    Raises ValueError for a control that is unknown or has an impossible value, OSError when the
    address cannot be had.
    """
    server = SimulatorServer(Controls().with_values(defaults))
    await server.start(host, port)
    return server
