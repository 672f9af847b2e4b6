"""Anthropic Messages, passed through.

Theory of operation of `MessagesRelay`. The model's name stands only in `message_start`, usage in
`message_start` and `message_delta`; after the first content a block of `content_block_*` events is
therefore passed on after one look at its first bytes and one substring search. Thinking blocks and
their signatures leave as the bytes they came in. Nothing leaves after `message_stop`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from edge.dialects import failures
from edge.dialects.passthrough import (
    KEEP_ALIVE,
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Dialect,
    Echo,
    Fields,
    Renamer,
    UpstreamBroke,
    encode,
    event_by_event,
    rename,
)
from edge.dialects.said import Said, said_by
from middlewares import sse
from middlewares.exchange import Usage

from .history import without_foreign
from .read_answer import read
from .wire import NULL, MessageUsage, usage_at_start, usage_in

_BLOCK_EVENT = b"event: content_block_"


class _Message(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = NULL


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""

    @property
    def says_something(self) -> bool:
        """A text that begins empty says nothing yet; a tool call already names its tool."""
        return self.type not in ("text", "thinking") or bool(self.text or self.thinking)


class _Event(msgspec.Struct):
    type: str
    message: _Message | None = None
    content_block: _Block | None = None
    usage: msgspec.Raw = NULL


class _Answer(_Message):
    type: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def prepare(fields: Fields, model: str, stream: bool, *, family: str = "") -> bytes:
    """The upstream's body: the client's members as they came, another model.

    Only what other vendors' models left in the history does not go along.
    """
    return encode({**without_foreign(fields), "model": msgspec.Raw(encode(model))})


class MessagesRelay:
    """One Messages stream on its way to the client."""

    __slots__ = ("_made", "_renamer", "_told", "complete", "content")

    enough = estimated = False
    answer = b""
    failure: Callable[[dict[str, Any]], bytes] | None = None

    def __init__(
        self, fields: Fields, asked: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self.complete = False
        self.content = False
        self._made = Said()
        self._told: MessageUsage | None = None
        self._renamer = Renamer(asked)

    @property
    def said(self) -> int:
        """Bytes of text that the model made so far."""
        return self._made.bytes

    @property
    def usage(self) -> Usage | None:
        """Tokens as far as the upstream has told."""
        return None if self._told is None else self._told.normal()

    def feed(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        if (
            self.content
            and not self.complete
            and block.startswith(_BLOCK_EVENT)
            and block.endswith(b"}\n\n")
            and block.count(b"\n") == 3 * (events := block.count(b"}\n\nevent: content_block_") + 1)
        ):
            self._made.add(block, events)
            return block
        return event_by_event(block, self._event)

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return KEEP_ALIVE if event.lstrip().startswith(b":") and not self.complete else b""
        try:
            read = _decode_event(parsed.data)
        except UNREADABLE as error:
            raise UpstreamBroke(f"a frame is not a Messages event: {error}") from None
        kind = read.type
        if kind == "message_start":
            message = read.message
            if message is not None and message.model is not None:
                self._renamer.learn(event, message.model)
                event = self._renamer.apply(event)
            if message is not None:
                self._told = usage_at_start(message.usage)
        elif kind == "message_delta":
            self.content = True
            told = usage_in(read.usage)
            if told is not None:
                self._told = told.after(self._told)
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            failed = failures.failed_by(parsed.data)
            raise UpstreamBroke(failed.reason, failed.kind)
        elif kind == "content_block_delta":
            self.content = True
            self._made.add(event, 1)
        elif kind == "content_block_start" and read.content_block is not None:
            self._made.add(event, 1)
            self.content = self.content or read.content_block.says_something
        return event

    def end(self) -> bytes:
        """Only `message_stop` ends a message."""
        if self.complete:
            return b""
        raise UpstreamBroke("the stream ended before message_stop")


def finish_plain(
    body: bytes,
    asked: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage of an unstreamed answer."""
    try:
        answer = _decode_answer(body)
    except UNREADABLE as error:
        raise UpstreamBroke(f"the answer is not a JSON object: {error}") from None
    if answer.type == "error":
        failed = failures.failed_by(body)
        raise UpstreamBroke(failed.reason, failed.kind)
    if answer.model is not None:
        body = rename(body, answer.model, asked)
    told = usage_in(answer.usage)
    return body, None if told is None else told.normal()


def said(body: bytes) -> int:
    """Bytes of text in an unstreamed answer."""
    return said_by(read(body))


DIALECT = Dialect(
    prepare=prepare,
    relay=MessagesRelay,
    finish_plain=finish_plain,
    said=said,
    ping=sse.encode(b'{"type":"ping"}', "ping"),
)
