"""Attempts whose answers are media: images in JSON or events, and audio as bytes or events."""

from collections.abc import Awaitable
from time import perf_counter

from msgspec import Raw

from edge.dialects.errors import failed_by
from edge.dialects.openai_images import read_answer
from edge.dialects.passthrough import Fields, UpstreamError, encode
from edge.upstreams import Header, Response
from edge.upstreams.bodies import read_all
from edge.upstreams.provider import Provider
from middlewares import sse
from middlewares.asgi import Message, Receive, Scope, Send
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Attempt, Dialect, Exchange

from .attempt import AttemptLimits, UpstreamAttempt
from .bytes_answer import BytesAnswer
from .image_links import ImageLinks
from .long_strings import LongStrings, ShortenedResponse, restoring
from .media_passthrough import ImagesPassthrough, SpeechPassthrough
from .response_form import event_stream
from .stream import ResponseStream, release_request
from .translate import Translator
from .watchdog import Watchdog

_JSON: Header = (b"content-type", b"application/json")
_LONGEST_REST = 8 << 20
"""Bytes of an answer without its long strings."""
_COMPLETED = {
    "images.generations": "image_generation.completed",
    "images.edits": "image_edit.completed",
}
"""Type of the event with an image, by endpoint."""
_PASSED = frozenset(("size", "quality", "background", "output_format"))
_COUNTED = frozenset(("usage", "svg_usage"))
"""Members of an answer that its events have too."""


class MediaStream(ResponseStream):
    """A stream whose long strings are kept in files until they are sent."""

    __slots__ = ("_strings",)

    def __init__(
        self,
        exchange: Exchange,
        scope: Scope,
        translator: Translator,
        send: Send,
        strings: LongStrings,
    ) -> None:
        super().__init__(exchange, scope, translator, restoring(send, strings))
        self._strings = strings

    def on_disconnect(self) -> None:
        """See `ResponseStream`. Long strings are dropped, too."""
        super().on_disconnect()
        self._send = self._direct = self._drop

    async def _drop(self, message: Message) -> None:
        self._strings.drop(message.get("body", b""))


class MediaAttempt(UpstreamAttempt):
    """One attempt at an endpoint of images or speech.

    links: makes images what the caller wants, links or base64.
    """

    __slots__ = ("_links", "_strings")

    def __init__(
        self,
        exchange: Exchange,
        record: Attempt,
        translator: Translator,
        provider: Provider,
        limits: AttemptLimits,
        scope: Scope,
        *,
        links: ImageLinks | None,
    ) -> None:
        super().__init__(exchange, record, translator, provider, limits, scope)
        self._links = links

    async def _run_stream(self, opening: Awaitable[Response], receive: Receive, send: Send) -> None:
        self._strings = strings = LongStrings(lines=True)
        try:
            stream = MediaStream(self._exchange, self._scope, self._translator, send, strings)
            await self._relay_stream(stream, opening, receive)
        finally:
            strings.close()

    async def _events(self, response: Response) -> Response:
        short = ShortenedResponse(response, self._strings)
        dialect = self._translator.dialect
        return await event_stream(short, dialect, _LONGEST_REST, self._stream_of_body)

    def _stream_of_body(self, body: bytes, dialect: Dialect) -> bytes:
        """Events with the images of a whole answer, from an upstream that streams none."""
        if self._exchange.row.codec != "images":
            raise UpstreamError.by(failed_by(body))
        kind = _COMPLETED[self._exchange.endpoint]
        answer = read_answer(body, self._exchange.model)
        events = []
        for image in answer.images:
            if image.base64 is None:
                raise UpstreamError("a stream was asked for and links came")
            event: Fields = {"type": Raw(encode(kind)), "b64_json": image.base64}
            event["created_at"] = answer.members["created"]
            event |= {name: raw for name, raw in answer.members.items() if name in _PASSED}
            if image is answer.images[-1]:
                counted = {name: raw for name, raw in answer.members.items() if name in _COUNTED}
                event |= counted
            events.append(sse.encode(encode(event), kind))
        return b"".join(events)

    async def _run_unstreamed(
        self, opening: Awaitable[Response], receive: Receive, send: Send
    ) -> None:
        if isinstance(self._translator, SpeechPassthrough):
            return await self._run_bytes(self._translator, opening, receive, send)
        assert isinstance(self._translator, ImagesPassthrough)
        strings = LongStrings()
        try:
            body = await self._read_images(self._translator, opening, receive, strings)
            await self._send_whole(body, strings, send)
        finally:
            strings.close()

    async def _run_bytes(
        self,
        translator: SpeechPassthrough,
        opening: Awaitable[Response],
        receive: Receive,
        send: Send,
    ) -> None:
        answer = BytesAnswer(self._exchange, translator, send)
        try:
            async with Watchdog(receive, first_content=self._provider.first_content) as watchdog:
                response = await opening
                try:
                    await answer.run(response, watchdog)
                finally:
                    response.close()
        except ClientDisconnected:
            if self._exchange.usage is None and self._record.status < 400:
                # The upstream makes all of it, and what that costs is known before it begins.
                self._exchange.usage, _ = translator.measured()
            raise
        await answer.finish()

    async def _read_images(
        self,
        translator: ImagesPassthrough,
        opening: Awaitable[Response],
        receive: Receive,
        strings: LongStrings,
    ) -> bytes:
        """The client's body, with marks for its long strings."""
        exchange = self._exchange
        async with Watchdog(
            receive, drain=self._drain_seconds(), on_disconnect=self._on_disconnect
        ):
            response = await opening
            try:
                body = await read_all(ShortenedResponse(response, strings), _LONGEST_REST)
            finally:
                response.close()
            exchange.upstream_seconds = perf_counter() - exchange.attempts[0].started
            answer, exchange.usage, exchange.usage_reported = translator.read(body)
            if self._links is not None:
                await self._links.finish(
                    answer, strings, self._scope, exchange, links=translator.links
                )
            return answer.encode()

    async def _send_whole(self, body: bytes, strings: LongStrings, send: Send) -> None:
        exchange = self._exchange
        release_request(exchange)
        exchange.first_content = perf_counter()
        if exchange.outcome == "hung_up":
            return
        exchange.outcome = "completed"
        headers = [_JSON, (b"content-length", b"%d" % strings.size_of(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in strings.pieces(body):
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
