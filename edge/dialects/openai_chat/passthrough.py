"""OpenAI Chat Completions and Embeddings, passed through.

Theory of operation of `ChatRelay`. A live stream is thousands of chunks that differ in a few
letters. Three ways through, the quickest first:

* The block begins and ends as the last ordinary text chunk did, and between the two there is no
  quote, no backslash and no line end: it differs in the inside of one JSON string only, so what
  was true of that chunk is true of it, and its ends are replaced by ours.
* Each event is one `data:` line with the learnt spelling of the model in it, and the block has
  neither usage nor an error nor a finish reason: a replace. Such a block is the pattern of the
  first way.
* Everything else (first chunk, finish, usage, `[DONE]`, comments, anything strange) is looked at
  event by event.

Usage is always asked from the upstream. When the client did not ask for it, `usage: null` members
are cut out, the closing chunk that only carries usage is dropped, and usage inside a chunk with
choices is removed from it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from edge.dialects.failures import failed_by
from edge.dialects.openai_models import is_openai
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
    decode_fields,
    encode,
    event_by_event,
    rename,
)
from edge.dialects.said import Said, said_by
from middlewares import sse
from middlewares.exchange import Usage
from middlewares.problem import Problem

from .families import refuses_unknown
from .read_answer import read
from .seals import without_seals, without_thinking
from .wire import NULL, usage_in

_NULL_USAGE = b',"usage":null'
_TEXT = b'"content":"'
_FINISH = b'"finish_reason"'
_NO_FINISH = b'"finish_reason":null'


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    finish_reason: str | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    error: msgspec.Raw = NULL
    object: str | None = None


class _Answer(msgspec.Struct):
    model: str | None = None
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    error: msgspec.Raw = NULL
    object: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_options = msgspec.json.Decoder(_StreamOptions | None).decode
_NO_OPTIONS = msgspec.Raw(b"null")

_TRUE = msgspec.Raw(b"true")
_EMPTY = (b"null", b'""', b"[]", b"{}")


def prepare(fields: Fields, model: str, stream: bool, *, family: str = "") -> bytes:
    """The upstream's body: the client's members as they came, another model, usage asked.

    Thinking that was packed for another vendor stays behind, and for models that refuse the member
    also what other models thought in plain words (`seals`).

    Raises Problem for `stream_options` that cannot be understood.
    """
    out = {**fields, "model": msgspec.Raw(encode(model))}
    if "messages" in out:
        out["messages"] = without_seals(out["messages"])
        if is_openai(family or model) or refuses_unknown(family or model):
            out["messages"] = without_thinking(out["messages"])
    if stream:
        options = fields.get("stream_options", _NO_OPTIONS)
        try:
            asked = decode_fields(options) if _decode_options(options) is not None else {}
        except UNREADABLE:
            raise Problem(
                "invalid_request",
                message="Invalid value for `stream_options`: expected an object in which "
                "`include_usage` is true or false.",
                param="stream_options",
            ) from None
        out["stream_options"] = msgspec.Raw(encode({**asked, "include_usage": _TRUE}))
    return encode(out)


def _wants_usage(fields: Fields) -> bool:
    read = _decode_options(fields.get("stream_options", _NO_OPTIONS))
    return read is not None and bool(read.include_usage)


class ChatRelay:
    """One chat stream on its way to the client."""

    __slots__ = (
        "_finished",
        "_head",
        "_least",
        "_made",
        "_our_head",
        "_our_tail",
        "_renamer",
        "_strip",
        "_tail",
        "_tier",
        "complete",
        "content",
        "usage",
    )

    enough = estimated = False
    answer = b""
    failure: Callable[[dict[str, Any]], bytes] | None = None

    def __init__(
        self, fields: Fields, asked: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self._head = self._tail = self._our_head = self._our_tail = b""
        self._least = 1 << 62  # until a text chunk has been seen, no block is long enough
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self._made = Said()
        self._finished = False
        self._tier: Any = None
        self._renamer = Renamer(asked)
        self._strip = not _wants_usage(fields)

    @property
    def said(self) -> int:
        """Bytes of text that the model made so far."""
        return self._made.bytes

    def feed(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        if (
            len(block) >= self._least
            and block.startswith(self._head)
            and block.endswith(self._tail)
        ):
            text = block[len(self._head) : -len(self._tail)]
            if b'"' not in text and b"\\" not in text and b"\n" not in text:
                self._made.bytes += len(text)
                return self._our_head + text + self._our_tail
        if self.complete:
            return b""
        raw = block
        member = self._renamer.member
        if self._strip and _NULL_USAGE in block:
            block = block.replace(_NULL_USAGE, b"")
        if (
            self.content
            and block.count(b"\n") == 2 * (events := block.count(member))
            and block.startswith(b"data:")
            and block.endswith(b"\n\n")
            and (events == 1 or block.count(b"\n\ndata:") == events - 1)
            and b'"error"' not in block
            and block.count(_FINISH) == block.count(_NO_FINISH)
            and (b'"usage"' not in block or block.count(b'"usage"') == block.count(_NULL_USAGE))
        ):
            self._learn(raw)
            self._made.add(raw, events)
            return block.replace(member, self._renamer.ours)
        return event_by_event(block, self._event)

    def _learn(self, block: bytes) -> None:
        """Take `block`, looked through and found to be ordinary, as the shape of those to come."""
        start = block.rfind(_TEXT) + len(_TEXT)
        end = block.find(b'"', start)
        if start < len(_TEXT) or block.find(b"\n\n") != len(block) - 2:
            return
        self._head, self._tail = block[:start], block[end:]
        self._least = start + len(self._tail)
        self._our_head = self._renamer.apply(self._head)
        self._our_tail = self._renamer.apply(self._tail)
        if self._strip:
            self._our_head = self._our_head.replace(_NULL_USAGE, b"")
            self._our_tail = self._our_tail.replace(_NULL_USAGE, b"")

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return KEEP_ALIVE if event.lstrip().startswith(b":") and not self.complete else b""
        data = parsed.data
        if data.startswith(b"[DONE]"):
            self.complete = True
            self._least = 1 << 62
            return event
        try:
            chunk = _decode_chunk(data)
        except UNREADABLE as error:
            raise UpstreamBroke(f"a frame is not a chat chunk: {error}") from None
        if parsed.name == "error" or _is_error(chunk):
            raise _broke(data)
        for choice in chunk.choices or ():
            if choice.finish_reason is not None:
                self._finished = self.content = True
            elif not self.content:
                self.content = bool(choice.text) or _has_content(choice.delta)
        self._made.add(event, 1)
        if chunk.model is not None:
            member = self._renamer.member
            if not member or member not in event:
                self._renamer.learn(event, chunk.model)
            event = self._renamer.apply(event)
        if chunk.service_tier is not None:
            self._tier = chunk.service_tier
        if bytes(chunk.usage) != b"null":
            chunk.service_tier = self._tier
            self.usage = usage_in(chunk) or self.usage
            if self._strip:
                if not chunk.choices:
                    return b""
                # Renamed before it is encoded again, which drops the spaces of the learnt spelling.
                fields = decode_fields(self._renamer.apply(data))
                del fields["usage"]
                event = b"data: " + encode(fields) + b"\n\n"
        return event

    def end(self) -> bytes:
        """A stream may end without `[DONE]`, but not without a finish reason."""
        if self.complete:
            return b""
        if self._finished:
            self.complete = True
            return sse.encode(b"[DONE]")
        raise UpstreamBroke("the stream ended before its finish reason")


def _is_error(said: _Chunk | _Answer) -> bool:
    """Some servers put the error into the object itself, and not below it."""
    return bytes(said.error) != b"null" or said.object == "error"


def _broke(data: bytes) -> UpstreamBroke:
    failed = failed_by(data)
    return UpstreamBroke(failed.reason, failed.kind)


def _has_content(delta: dict[str, msgspec.Raw] | None) -> bool:
    if not delta:
        return False
    return any(key != "role" and bytes(value) not in _EMPTY for key, value in delta.items())


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
    if _is_error(answer):
        raise _broke(body)
    if answer.model is not None:
        body = rename(body, answer.model, asked)
    return body, usage_in(answer, only_input=answer.object == "list")


class _Choices(msgspec.Struct):
    choices: list[dict[str, msgspec.Raw]] = []


_decode_choices = msgspec.json.Decoder(_Choices).decode


def said(body: bytes) -> int:
    """Bytes of text in all choices of an unstreamed answer."""
    try:
        choices = _decode_choices(body).choices
    except UNREADABLE:
        return 0
    total = 0
    for choice in choices:
        choice.pop("index", None)
        total += said_by(read(encode({"choices": [choice]})))
    return total


DIALECT = Dialect(
    prepare=prepare, relay=ChatRelay, finish_plain=finish_plain, said=said, ping=KEEP_ALIVE
)
