"""Work before an attempt, such as preparing media, while the client waits for its first content."""

from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from middlewares.asgi import Receive, Send
from middlewares.exchange import Exchange

from .stream import STREAM_HEADERS
from .watchdog import Watchdog

T = TypeVar("T")


async def wait_with_client(
    work: Awaitable[T],
    exchange: Exchange,
    receive: Receive,
    send: Send,
    *,
    ping: bytes,
    hold: float,
    silence: float,
) -> T:
    """The result of `work`. Raises what it raises, and ClientDisconnected, which cancels it.

    A stream gets its head and a ping after `hold` seconds, and another after each `silence`.
    """

    async def keep_alive() -> None:
        if not exchange.headers_sent_early:
            exchange.headers_sent_early = True
            headers = list(STREAM_HEADERS)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ping, "more_body": True})

    waited = perf_counter() - exchange.started
    left = silence if exchange.headers_sent_early else max(0.0, hold - waited)
    async with Watchdog(
        receive, ping=keep_alive if exchange.stream else None, hold=left, silence=silence
    ):
        return await work
