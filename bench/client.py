"""HTTP/1.1 client of the load generator: low CPU cost, exact times, verified answers."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from . import provider

_ENDS = {
    "chat": b"data: [DONE]",
    "messages": b'data: {"type":"message_stop"}',
    "responses": b"}",
}
"""How a stream of each dialect ends."""


class Expected(msgspec.Struct, frozen=True):
    """What the answer to a request must hold.

    word: stands in every text token of the answer, and in no other connection's answers.
    tokens: how often, exactly. end: how the body must end, white space aside.
    holds: stands somewhere in the body.
    """

    word: bytes
    tokens: int
    end: bytes
    holds: bytes = b""


class Reply:
    """One answer as it arrived. Times are of perf_counter, in seconds; 0.0: not yet."""

    __slots__ = ("body", "ended", "error", "expected", "first", "sent", "status")

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.sent = perf_counter()
        self.first = 0.0
        self.ended = 0.0
        self.status = 0
        self.body: list[bytes] = []
        self.error = ""

    def fault(self) -> str:
        """Why this is not the answer that was asked for, or the empty string."""
        if self.error:
            return self.error
        body = b"".join(self.body)
        if self.status != 200:
            return f"status {self.status}: {body[:200]!r}"
        found = body.count(self.expected.word)
        if found != self.expected.tokens:
            return f"{found} tokens of {self.expected.tokens}: …{body[-200:]!r}"
        if not body.rstrip().endswith(self.expected.end):
            return f"wrong end: …{body[-200:]!r}"
        if self.expected.holds not in body:
            return f"without {self.expected.holds!r}: …{body[-200:]!r}"
        return ""


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one exchange at a time.

    on_event: called with the number of events (blank lines) of each piece of a body.
    """

    def __init__(self, on_event: Callable[[int], None]) -> None:
        self._on_event = on_event
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._done: Callable[[Reply], None] | None = None
        self._now = 0.0

    @property
    def alive(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether the reply being received has had no content yet."""
        return self._reply is not None and not self._reply.first

    def listen(self, on_event: Callable[[int], None]) -> None:
        """Call another function with the numbers of events."""
        self._on_event = on_event

    def send(self, request: bytes, expected: Expected, done: Callable[[Reply], None]) -> None:
        """Send a request; `done` is called once with the reply, whatever becomes of it."""
        assert self._transport is not None and self._reply is None
        self._reply, self._done = Reply(expected), done
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish(f"not HTTP: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(f"connection lost: {exc or 'closed by the server'}")

    def on_headers_complete(self) -> None:
        if self._reply is not None:
            self._reply.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        reply = self._reply
        if reply is None:
            return
        reply.body.append(piece)
        if not reply.first and reply.expected.word in piece:
            reply.first = self._now
        self._on_event(piece.count(b"\n\n"))

    def on_message_complete(self) -> None:
        keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if not keep and self._transport is not None:
            self._transport.close()
        self._finish("")

    def _finish(self, error: str) -> None:
        reply, done = self._reply, self._done
        self._reply = self._done = None
        if reply is not None and done is not None:
            reply.ended = perf_counter()
            reply.error = error
            done(reply)


class Target(msgspec.Struct, frozen=True):
    """Where requests go. model: as this server knows it.

    url: of the chat completions endpoint, of Anthropic's messages, or of Responses.
    """

    url: str
    model: str
    headers: dict[str, str] = {}

    @property
    def dialect(self) -> str:
        """chat, messages or responses, by the path."""
        last = self.url.rpartition("/")[2]
        return "chat" if last == "completions" else last

    def speaking(self, dialect: str) -> "Target":
        """The endpoint of another dialect on the same server."""
        base = self.url.removesuffix("/chat/completions").removesuffix(f"/{self.dialect}")
        path = "chat/completions" if dialect == "chat" else dialect
        return msgspec.structs.replace(self, url=f"{base}/{path}")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def request(self, number: int, *, tokens: int, rate: float = 0) -> tuple[bytes, Expected]:
        """A request for connection `number`, and what must come back. Of Responses it is a plain
        one, which only `bench.provider` answers.

        rate: tokens per second of a stream; 0 asks for an answer in one piece.
        """
        word = f"canary-{number:08d}-yranac"
        directive = f"[[sim tokens={tokens} rate={rate:g} canary=1]]"
        messages = self.dialect == "messages"
        system = "You answer in as few words as you can. " * 6
        asked = {"role": "user", "content": f"Say {word} again and again. {directive}"}
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [asked] if messages else [{"role": "system", "content": system}, asked],
            "max_tokens": max(tokens, 1),
            "temperature": 0.2,
        }
        if messages:
            body["system"] = system
        elif self.dialect == "responses":
            body = {"model": self.model, "instructions": system, "input": [asked]}
        if rate:
            body["stream"] = True
        end = b"}"
        if rate:
            end = _ENDS[self.dialect]
        return self.post(msgspec.json.encode(body)), Expected(word.encode(), tokens, end)

    def ordered(
        self, number: int, *, tokens: int, rate: float, shape: str
    ) -> tuple[bytes, Expected]:
        """A stream in a shape of `bench.provider`, and what must come back."""
        word = f"canary-{number:08d}-yranac"
        asked = {"role": "user", "content": provider.order(word, tokens, rate, shape)}
        body: dict[str, Any] = {"model": self.model, "stream": True}
        if self.dialect == "responses":
            body |= {"input": [asked], "max_output_tokens": tokens}
        else:
            body |= {"messages": [asked], "max_tokens": tokens}
        passed = shape.startswith(f"{self.dialect}:")
        found = provider.words_in(shape, tokens) if passed else tokens
        end = _ENDS[self.dialect]
        return self.post(msgspec.json.encode(body)), Expected(word.encode(), found, end)

    def post(self, content: bytes) -> bytes:
        """The request with this body."""
        parts = urlsplit(self.url)
        head = {
            "host": parts.netloc,
            "user-agent": "penstock-bench",
            "accept": "*/*",
            "content-type": "application/json",
            "content-length": str(len(content)),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + content
