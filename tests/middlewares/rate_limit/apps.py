"""Apps around and inside a rate limiter, and counters that answer late."""

import asyncio
from collections.abc import Sequence
from typing import Any

from middlewares import Exchange, Principal
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.stores.counters.base import Check, TeamClaim, Verdict
from middlewares.stores.counters.memory import MemoryCounters
from tests.asgi import http_scope
from tests.simulated import unix


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def as_principal(app: ASGIApp, exchange: dict[str, Any] | None = None) -> ASGIApp:
    """What stands around a limiter: the principal is the request's path."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        found = Exchange.of(scope)
        found.principal = Principal(scope["path"])
        for name, value in (exchange or {}).items():
            setattr(found, name, value)
        await app(scope, receive, send)

    return outer


async def status_of(app: ASGIApp, path: str = "/", **scope: Any) -> int:
    """The status of one request, in the task that asks."""
    status = 0

    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return body.pop() if body else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal status
        status = status or message["status"]

    await app(http_scope("POST", path, **scope), receive, send)
    return status


class Gate:
    """An app that waits inside until it is let go; says when somebody has come."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = asyncio.Event()
        self.came = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        self.came.set()
        try:
            await self.open.wait()
            await ok(scope, receive, send)
        finally:
            self.inside -= 1


async def slots_of(counters: MemoryCounters, who: str = "key:/") -> int:
    return (await counters.levels(who, (), now=unix()))[1]


class SlowCounters(MemoryCounters):
    """Counters behind a network: what was sent is carried out, also when its caller left."""

    in_process = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        team: TeamClaim | None = None,
    ) -> Verdict:
        verdict = await super().admit(who, checks, slots=slots, lease=lease, now=now, team=team)
        self.asked.set()
        await asyncio.sleep(0.01)
        return verdict
