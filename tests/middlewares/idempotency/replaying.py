"""What the tests of idempotency keys are made of: an app that answers in steps, and its callers."""

import asyncio
from typing import Any

from middlewares import Exchange
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from tests.asgi import Call, Recorded, http_scope

KEY = {"idempotency-key": "k-1"}
EVENTS = [b"event: a\ndata: %d\n\n" % n for n in range(5)]


class App:
    """Answers in steps the test decides on. runs: how often it began."""

    def __init__(
        self,
        parts: list[bytes] | None = None,
        *,
        status: int = 200,
        media: bytes = b"text/event-stream",
        fails: BaseException | None = None,
        outcome: Any = "",
        reads: bool = True,
    ) -> None:
        self.reads = reads
        self.parts = EVENTS if parts is None else parts
        self.status = status
        self.media = media
        self.fails = fails
        self.outcome = outcome
        self.runs = 0
        self.ended = 0
        self.bodies: list[bytes] = []
        self.inside = asyncio.Event()
        self.steps: asyncio.Queue[None] | None = None

    def by_hand(self) -> "App":
        """Each message waits for `step`."""
        self.steps = asyncio.Queue()
        return self

    def step(self, count: int = 1) -> None:
        assert self.steps is not None
        for _ in range(count):
            self.steps.put_nowait(None)

    def finish(self) -> None:
        self.step(len(self.parts) + 1)

    async def _turn(self) -> None:
        if self.steps is not None:
            await self.steps.get()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        mine = self.runs
        try:
            if self.reads:
                self.bodies.append((await receive()).get("body", b""))
            self.inside.set()
            await self._turn()
            headers = [(b"content-type", self.media), (b"x-run", b"%d" % mine)]
            start = {"type": "http.response.start", "status": self.status, "headers": headers}
            await send(start)
            for n, part in enumerate(self.parts):
                await self._turn()
                if self.fails is not None and n == len(self.parts) - 1:
                    raise self.fails
                more = n < len(self.parts) - 1
                if not more and self.outcome:
                    Exchange.of(scope).outcome = self.outcome
                await send({"type": "http.response.body", "body": part, "more_body": more})
        finally:
            self.ended += 1


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def quiet() -> None:
    """Until nothing runs but the test."""
    for _ in range(200):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"still running: {asyncio.all_tasks()}")


def calling(
    app: ASGIApp, key: str = "k-1", body: bytes = b'{"n": 1}', path: str = "/v1/x", **rest: Any
) -> Call:
    headers = {"idempotency-key": key, **rest.pop("headers", {})}
    window = rest.pop("window", None)
    return Call(app, http_scope("POST", path, headers=headers, **rest), body=body, window=window)


async def answer(app: ASGIApp, *args: Any, **rest: Any) -> Recorded:
    async with calling(app, *args, **rest) as call:
        return await call.done()


def replayed(record: Recorded) -> bool:
    said = record.header("idempotent-replayed") == "true"
    assert said == Exchange.of(record.scope).replayed
    return said
