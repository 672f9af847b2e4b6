"""A CSV file as an answer, sent while it is made."""

from collections.abc import AsyncIterator

from middlewares.asgi import Receive, Scope, Send


class CsvFile:
    """An ASGI app that sends a file. The answer begins when its first part is there, so what is
    raised before that becomes an error answer; later it breaks the answer off."""

    def __init__(self, name: str, parts: AsyncIterator[str]) -> None:
        self._name = name
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = await anext(self._parts)
        disposition = f'attachment; filename="{self._name}"'
        headers = [
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", disposition.encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            await _send_part(send, first)
            async for part in self._parts:
                await _send_part(send, part)
        await send({"type": "http.response.body", "body": b""})


async def _send_part(send: Send, part: str) -> None:
    await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
