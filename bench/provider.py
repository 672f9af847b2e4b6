"""The upstream of large bodies and of streams in the shapes of real servers.

    python -m bench.provider --port 9000

`penstock simulate` counts the tokens of what it is sent, which takes longer than what is measured
here. This one reads a body, counts the marks of `bench.growing` in it, and obeys the last
order in it:

    [[order word=W tokens=N]]                       an answer of N times W, and "marks-COUNT."
    [[order word=W tokens=N rate=R shape=S]]        a stream: shape S of `SHAPES`, R events a second

It speaks Chat, Messages and Responses, by path. Without an order it answers one word.
"""

import argparse
import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import httptools
import msgspec
import uvloop

from edge.upstreams.simulator.timer_wheel import TimerWheel
from tests.edge.dialects.stream_shapes import SHAPES

from .growing import MARK
from .processes import allow_many_files

COMPACT = {"chat": "chat: compact", "messages": "messages: text", "responses": "responses: text"}
"""The usual shape of each dialect."""
MODEL = "sim-1"
_ORDER = b"[[order "
_FIELDS = re.compile(r"(\w+)=(\S+)")
_WORD = "canary-placeholder-yranac"
_ENDINGS = (" ", " ", "", ", ", " ", "\n", " ", ' "x" ')
"""What follows the word in the events of a stream: a quarter of them have something to escape."""
_encode = msgspec.json.Encoder().encode


def order(word: str, tokens: int, rate: float = 0, shape: str = "") -> str:
    """The order that is obeyed when it stands in a request."""
    pace = f" rate={rate:g} shape={list(SHAPES).index(shape)}" if shape else ""
    return f"[[order word={word} tokens={tokens}{pace} ]]"


@lru_cache(maxsize=64)
def template(shape: str, tokens: int) -> tuple[bytes, ...]:
    """The events of a stream in which the word to come is a placeholder, once in each."""
    words = [f"{_WORD}{_ENDINGS[at % len(_ENDINGS)]}" for at in range(tokens)]
    if shape.endswith("tool arguments"):
        words = ['{"text": "', *(word.replace('"', "").replace("\n", "\\n") for word in words)]
        words.append('"}')
    return tuple(SHAPES[shape].events(words))


def stream(shape: str, tokens: int, word: str) -> list[bytes]:
    """The events of a stream."""
    wanted = word.encode()
    return [event.replace(_WORD.encode(), wanted) for event in template(shape, tokens)]


@lru_cache(maxsize=64)
def words_in(shape: str, tokens: int) -> int:
    """How often the word is in the bytes of a stream; some servers repeat the text at its end."""
    return b"".join(template(shape, tokens)).count(_WORD.encode())


def answer(dialect: str, text: str, size: int) -> bytes:
    """An unstreamed answer to a request of `size` bytes."""
    used, made = max(1, size // 4), max(1, len(text) // 4)
    both = {"input_tokens": used, "output_tokens": made}
    if dialect == "messages":
        return _encode(
            {
                "id": "msg_01",
                "type": "message",
                "role": "assistant",
                "model": MODEL,
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": both,
            }
        )
    if dialect == "responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        return _encode(
            {
                "id": "resp_01",
                "object": "response",
                "created_at": 1741569952,
                "model": MODEL,
                "status": "completed",
                "output": [{**item, "content": [part]}],
                "usage": {**both, "total_tokens": used + made},
            }
        )
    message = {"role": "assistant", "content": text, "refusal": None}
    usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
    return _encode(
        {
            "id": "chatcmpl-01",
            "object": "chat.completion",
            "created": 1741569952,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": usage,
        }
    )


_MODELS = _encode({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]})
_STREAMED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class ProviderConnection(asyncio.Protocol):
    """One client connection, with one request at a time."""

    def __init__(self, provider: "Provider") -> None:
        self._provider = provider
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._events: list[bytes] = []
        self._sent = 0
        self._began = 0.0
        self._every = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._provider.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._events = []
        self._provider.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        dialect = self._path.partition(b"?")[0].rpartition(b"/")[2].decode("latin-1")
        dialect = "chat" if dialect == "completions" else dialect
        at = body.rfind(_ORDER)
        if self._parser.get_method() == b"GET":
            self._whole(_MODELS)
        elif at < 0:
            self._whole(answer(dialect, "ok", len(body)))
        else:
            fields = _FIELDS.findall(body[at : body.index(b"]]", at)].decode())
            self._obey(dialect, dict(fields), body)

    def _obey(self, dialect: str, fields: dict[str, str], body: bytes) -> None:
        word, tokens = fields["word"], int(fields["tokens"])
        if "shape" not in fields:
            text = f"{word} " * tokens + f"marks-{body.count(MARK)}."
            self._whole(answer(dialect, text, len(body)))
            return
        shape = list(SHAPES)[int(fields["shape"])]
        self._events, self._sent = stream(shape, tokens, word), 0
        self._every = 1 / float(fields["rate"])
        self._transport.write(_STREAMED)
        self._began = asyncio.get_running_loop().time()
        self._provider.wheel.add(self, self._began + self._every)

    def _whole(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    def due(self, now: float) -> float:
        """Write the events that are due; the time of the next one, 0 after the last."""
        events = self._events
        wanted = min(len(events), int((now - self._began) / self._every + 1e-6))
        for event in events[self._sent : wanted]:
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._sent = max(self._sent, wanted)
        if self._sent < len(events):
            return self._began + (self._sent + 1) * self._every
        if events:
            self._transport.write(b"0\r\n\r\n")
        return 0.0


class Provider:
    """The provider on a port of loopback; 0: a free one. Also an async context manager."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.wheel: TimerWheel
        self.transports: set[asyncio.BaseTransport] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> "Provider":
        loop = asyncio.get_running_loop()
        self.wheel = TimerWheel(loop)
        self._server = await loop.create_server(
            lambda: ProviderConnection(self), "127.0.0.1", self.port, backlog=2048
        )
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.wheel.close()
        for transport in list(self.transports):
            transport.close()
        while self.transports:
            await asyncio.sleep(0.001)


async def _serve(port: int) -> None:
    async with Provider(port):
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    allow_many_files()
    uvloop.run(_serve(options.port))


if __name__ == "__main__":
    main()
