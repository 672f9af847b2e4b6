"""Answers whose bytes pass as they come: audio.

Theory of operation. Nothing is sent until the first bytes are there: they tell audio from an error
that came with status 200, and a failure until then is another target's turn. From then on each read
of the upstream is one `send`. A fault after that cannot be said in bytes: it is raised, and the
server closes the connection before the end of the body.

The price of such an answer is known before it begins, since it is charged by its request
(`edge.billing.media_units`); so the head has the cost, and a disconnect does not change it.
"""

from collections.abc import Awaitable
from time import perf_counter

from edge.dialects.openai_speech import content_type
from edge.dialects.passthrough import UpstreamError
from edge.upstreams import Header, Response, pump
from middlewares.asgi import Message, Send, offer
from middlewares.exchange import Exchange

from .media_passthrough import SpeechPassthrough
from .stream import release_request
from .watchdog import Watchdog

_LONGEST_LENGTH = 12
"""Digits of a content length that is passed on."""


class BytesAnswer:
    """One answer of bytes from an upstream to a client."""

    __slots__ = ("_exchange", "_headers", "_send", "_translator", "_watchdog")

    def __init__(self, exchange: Exchange, translator: SpeechPassthrough, send: Send) -> None:
        self._exchange = exchange
        self._translator = translator
        self._send = send

    async def run(self, response: Response, watchdog: Watchdog) -> None:
        """Send each read at once, the first after the head. Raises UpstreamError and
        UpstreamFailure."""
        self._headers = response.headers
        self._watchdog = watchdog
        await pump(response, self._on_read)
        if not self._exchange.first_content:
            raise UpstreamError("audio was asked for and nothing came")

    async def finish(self) -> None:
        """End the client's answer after the upstream's end."""
        self._exchange.outcome = "completed"
        await self._send({"type": "http.response.body", "body": b""})

    def _on_read(self, chunk: bytes) -> Awaitable[None] | None:
        if self._exchange.first_content:
            return offer(self._send, _body(chunk))
        return self._begin(chunk)

    async def _begin(self, chunk: bytes) -> None:
        label = length = b""
        for name, value in self._headers:
            if name == b"content-type":
                label = value
            elif name == b"content-length":
                length = value
        kind = content_type(label, self._translator.format, chunk)
        headers: list[Header] = [(b"content-type", kind)]
        if length.isdigit() and len(length) <= _LONGEST_LENGTH:
            headers.append((b"content-length", length))
        exchange = self._exchange
        exchange.usage, exchange.usage_reported = self._translator.measured()
        release_request(exchange)
        exchange.first_content = now = perf_counter()
        exchange.upstream_seconds = now - exchange.attempts[0].started
        self._watchdog.content_started()
        if exchange.health_report is not None:
            exchange.health_report.answered()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(_body(chunk))


def _body(chunk: bytes) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": True}
