"""The ASGI lifespan protocol around a start and a stop function."""

import logging
from collections.abc import Awaitable, Callable

from middlewares.asgi import Receive, Send

_log = logging.getLogger(__name__)


async def run(
    receive: Receive,
    send: Send,
    *,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
) -> None:
    """Serve one lifespan scope. A failure is logged and reported to the server."""
    await receive()
    try:
        await start()
    except Exception as raised:
        _log.exception("start-up failed")
        await send({"type": "lifespan.startup.failed", "message": str(raised)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    try:
        await stop()
    except Exception as raised:
        _log.exception("shutdown failed")
        await send({"type": "lifespan.shutdown.failed", "message": str(raised)})
        return
    await send({"type": "lifespan.shutdown.complete"})
