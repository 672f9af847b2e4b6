"""Pass Anthropic Messages through.

Theory of operation of `MessagesRelay`. The model's name is only in `message_start`, usage in
`message_start` and `message_delta`. So after the first content, a delta passes that differs from
another in its text only, and a block of `content_block_delta` events passes after a check of its
first bytes and a few substring searches. Of a block with other events in between, only those are
decoded: the others have a known shape (`event_shapes`). Thinking blocks and
their signatures pass as the bytes they came in. All other events are decoded one by one, and pass
unchanged unless they need a correction (`editing`): they differ from Anthropic's form, or name the
vendor.

    message_start                gets the caller's name of the model
    message_delta                its stop reason decides: an end, an interruption, or none yet
    message_stop                 the end; nothing passes after it
    end of input, `[DONE]`       the end, if there was a stop reason; `[DONE]` is never passed on
    heartbeats of any form       a ping
    error in any form            a failure
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from edge.dialects import errors
from edge.dialects.event_shapes import EventShapes
from edge.dialects.heartbeats import is_done, is_heartbeat
from edge.dialects.lenient_json import decode_corrected
from edge.dialects.output_size import OutputSize, is_string, size_of_events, unescaped
from edge.dialects.passthrough import (
    BACKSLASH,
    NO_ECHO,
    NO_FIELDS,
    QUOTE,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    Renamer,
    UpstreamError,
    decode_fields,
    each_event,
    encode,
    rename,
    without_data,
)
from edge.dialects.split_characters import CharacterJoiner, may_have_lone
from edge.dialects.stop_reasons import interrupted, stop_of
from edge.dialects.token_counts import output_tokens
from edge.requests.known_turns import TurnMarks
from middlewares import sse
from middlewares.exchange import Usage

from .editing import OWN, MessagesEditor, is_odd, is_text, names_vendor
from .history import without_packed
from .read_answer import is_failure, read
from .standard_answer import finish_standard
from .wire import NULL, MessageUsage, usage_at_start, usage_in
from .write_answer import PING, STOP

T = TypeVar("T")

_DELTA_EVENT = b"event: content_block_delta\ndata:"
_NEXT_DELTA = b"}\n\n" + _DELTA_EVENT
_MODEL = b'"model"'
_MOST_DECODED = 8
"""Events of a block that are decoded one by one between others of a known shape."""
_NEVER = 1 << 62
_KNOWN = frozenset(
    (
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    )
)
_NEEDED = frozenset(("type", "message", "content", "content_block", "delta"))


class _Message(msgspec.Struct):
    model: str | None = None
    content: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None

    @property
    def says_something(self) -> bool:
        """Whether it has content: a text may begin empty, a tool call already names its tool."""
        return self.type not in ("text", "thinking") or bool(self.text or self.thinking)


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    message: msgspec.Raw = NULL
    content_block: msgspec.Raw = NULL
    delta: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _Answer(msgspec.Struct):
    type: str = ""
    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_decode_delta = msgspec.json.Decoder(_Delta).decode


def prepare(
    fields: Fields,
    model: str,
    stream: bool,
    *,
    family: str = "",
    marks: TurnMarks | None = None,
) -> bytes:
    """The upstream's body: the client's members unchanged, with the upstream's model.

    Only other vendors' packed thinking and citations are removed from the history.
    """
    return encode({**without_packed(fields, marks), "model": msgspec.Raw(encode(model))})


class MessagesRelay:
    """Passes one Messages stream through. disclose: the answer may name its vendor."""

    __slots__ = (
        "_around",
        "_called",
        "_disclose",
        "_editor",
        "_ended",
        "_head",
        "_joiner",
        "_output_size",
        "_renamer",
        "_shapes",
        "_sure",
        "_tail",
        "_usage",
        "complete",
        "content",
    )

    enough = estimated = False
    answer = b""

    def __init__(
        self, fields: Fields, requested_model: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self.complete = False
        self.content = False
        self._called = False
        """Whether the answer has a tool call."""
        self._disclose = disclose
        self._editor = MessagesEditor(requested_model, disclose=disclose)
        self._ended = False
        """Whether a stop reason has arrived."""
        self._joiner = CharacterJoiner()
        self._head = self._tail = b""
        self._around = _NEVER
        """Bytes of an event of the template around its text."""
        self._output_size = OutputSize()
        self._shapes = EventShapes(self._output_size)
        self._renamer = Renamer(requested_model)
        self._sure = False
        """Whether the last event was a valid delta, so that more may follow."""
        self._usage: MessageUsage | None = None

    @property
    def output_size(self) -> int:
        """Bytes of generated text so far."""
        return self._output_size.bytes

    @property
    def usage(self) -> Usage | None:
        """The usage that the upstream has reported so far."""
        return None if self._usage is None else self._usage.normal()

    def encode_failure(self, content: dict[str, Any]) -> None:
        """None: events have no numbers."""

    def relay(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        text = block.removeprefix(self._head).removesuffix(self._tail)
        if len(block) - len(text) == self._around:
            if QUOTE not in text and BACKSLASH not in text and sse.LF not in text:
                self._output_size.bytes += len(text)
                return block
            if is_string(text) and not may_have_lone(text):
                self._output_size.bytes += unescaped(text)
                return block
        escaped = BACKSLASH in block
        if (escaped or not self._sure) and (self._joiner.held or may_have_lone(block)):
            block = self._joiner.join(block)
            self._be_sure(self._sure and not self._joiner.held)
            return self._passed_on(block, escaped)
        events = self._deltas(block) if self._sure else 0
        if events:
            return self._undecoded(block, events, escaped)
        if not self._sure or sse.CR in block:
            return self._passed_on(block, escaped)
        return self._in_parts(block, escaped)

    def _in_parts(self, block: bytes, escaped: bool) -> bytes:
        """Pass a block on: events of known shapes together, others one by one."""
        out: list[bytes] = []
        shapes = self._shapes
        at, end, decoded = 0, len(block), 0
        while True:
            if self._sure:
                at = shapes.match(block, at, out, escaped)
            if at == end:
                return b"".join(out)
            cut = block.find(b"\n\n", at) + 2
            decoded += 1
            if cut < 2 or decoded > _MOST_DECODED:
                cut = end
            try:
                out.append(self._passed_on(block[at:cut], escaped))
            except UpstreamError as broke:
                broke.passed = b"".join([*out, broke.passed])
                raise
            at = cut

    def _passed_on(self, block: bytes, escaped: bool) -> bytes:
        """Pass on a block of deltas as it is, of other events after decoding them."""
        events = self._deltas(block) if self._sure else 0
        if events:
            return self._undecoded(block, events, escaped)
        out = each_event(block, self._event)
        self._be_sure(self._sure and not self._joiner.held)
        return out

    def _undecoded(self, block: bytes, events: int, escaped: bool) -> bytes:
        self._output_size.add(block, events, not escaped)
        if events == 1:
            self._learn(block)
        return block

    def _deltas(self, block: bytes) -> int:
        """The number of deltas in a block that looks like nothing else; else 0."""
        if block.startswith(_DELTA_EVENT) and block.endswith(b"}\n\n"):
            events = block.count(_NEXT_DELTA) + 1
            if block.count(b"\n") == 3 * events:
                return events
        return 0

    def _be_sure(self, sure: bool) -> None:
        self._sure = sure
        if not sure:
            self._around = _NEVER

    def _learn(self, block: bytes) -> None:
        """Learn a template from `block`, an event that passed without decoding."""
        shape = self._shapes.learn(block, block, bytes)
        ends = shape.ends() if shape is not None else None
        if ends is not None:
            self._head, self._tail, _, _ = ends
            self._around = len(self._head) + len(self._tail)

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return b"" if self.complete else without_data(event)
        name, data = parsed
        if is_done(data):
            return self._stop() if self._ended else b""
        try:
            read = _decode_event(data)
        except UNREADABLE as error:
            if is_heartbeat(parsed):
                return PING
            read, data = _decode_event_corrected(data, name, error)
        kind = read.type or name
        if is_failure(kind, name, read.error):
            raise UpstreamError.by(errors.failed_by(data))
        if kind in ("", "message", "ping"):
            if is_heartbeat(parsed):
                return PING
            raise UpstreamError.by(errors.failed_by(data))
        if kind.startswith("content_block_"):
            self._output_size.add(event, 1)
        ours = self._passed(kind, read, data)
        delta = kind == "content_block_delta" and ours is parsed.data
        self._sure = delta and read.type == name
        if ours is parsed.data and read.type == name:
            return event if kind != "message_start" else self._renamer.apply(event)
        if not read.type:
            ours = encode({"type": kind, **decode_fields(ours)})
        if kind == "message_start":
            ours = self._renamer.apply(ours)
        return sse.encode(ours.replace(b"\n", b" "), kind if kind.isprintable() else "")

    def _passed(self, kind: str, read: _Event, data: bytes) -> bytes:
        """The data of an event for the client; `data` itself if nothing changes."""
        if kind == "content_block_delta":
            self.content = True
        elif kind == "content_block_start":
            data = self._block(read, data)
        elif kind == "message_delta":
            return self._delta(read, data)
        elif kind == "message_start":
            return self._start(read, data)
        elif kind == "message_stop":
            self.complete = True
        if not self._disclose and (_MODEL in data or names_vendor(data)):
            return encode(self._editor.open(decode_fields(data)))
        return data

    def _start(self, read: _Event, data: bytes) -> bytes:
        if bytes(read.message) == b"null":
            return data
        message, corrected_ = _decode(_decode_message, bytes(read.message))
        if errors.says_error(message.error):
            raise UpstreamError.by(errors.failed_by(data))
        self._usage = usage_at_start(message.usage)
        empty = bytes(message.usage) == b"null" or bytes(message.content) == b"null"
        named = not self._disclose and (data.count(_MODEL) > 1 or names_vendor(data))
        if empty or named or corrected_ is not None:
            fields = self._editor.open(decode_fields(data))
            inner = decode_fields(corrected_ or read.message)
            fields["message"] = msgspec.Raw(encode(self._editor.message(inner, whole=False)))
            return self._editor.without_resellers(encode(fields))
        if message.model is not None:
            self._renamer.learn(data, message.model)
        return data

    def _block(self, read: _Event, data: bytes) -> bytes:
        if bytes(read.content_block) == b"null":
            return data
        block = _decode(_decode_block, bytes(read.content_block))[0]
        self.content = self.content or block.says_something
        self._called = self._called or block.type == "tool_use"
        edited = self._editor.block(read.content_block, whole=False)
        if edited is read.content_block:
            return data
        return encode({**decode_fields(data), "content_block": edited})

    def _delta(self, read: _Event, data: bytes) -> bytes:
        usage = usage_in(read.usage)
        if usage is not None:
            self._usage = usage.after(self._usage)
        has_delta = bytes(read.delta) != b"null"
        delta = _decode(_decode_delta, bytes(read.delta))[0] if has_delta else _Delta()
        stop = stop_of(delta.stop_reason)
        if stop == "failed":
            raise UpstreamError.by(interrupted(delta.stop_reason))
        if stop is not None:
            self.content = self._ended = True
        named = not self._disclose and (_MODEL in data or names_vendor(data))
        if usage is not None and not named and not is_odd(delta.stop_reason):
            return data
        fields = self._editor.open(decode_fields(data))
        if has_delta:
            edited = self._editor.delta(decode_fields(read.delta), called=self._called)
            fields["delta"] = msgspec.Raw(encode(edited))
        if usage is None:  # the vendor's clients require it
            fields["usage"] = msgspec.Raw(
                encode({"output_tokens": output_tokens(self.output_size)})
            )
        return encode(fields)

    def _stop(self) -> bytes:
        self.complete = True
        return STOP

    def relay_end(self) -> bytes:
        """End the stream. A message ends with `message_stop`, or after a stop reason."""
        rest = self._joiner.rest()
        out = each_event(rest, self._event) if rest else b""
        if self.complete:
            return out
        if self._ended:
            return out + self._stop()
        broke = UpstreamError("the stream ended before message_stop")
        broke.passed = out
        raise broke


def _decode(decode: Callable[[bytes], T], data: bytes) -> tuple[T, bytes | None]:
    """Decode `data`, and correct it if necessary. Raises one of UNREADABLE."""
    try:
        return decode(data), None
    except UNREADABLE:
        return decode_corrected(decode, data, _NEEDED)


def _decode_event_corrected(data: bytes, name: str, error: Exception) -> tuple[_Event, bytes]:
    """Decode an invalid event leniently. An event of an unknown kind stays as it is."""
    try:
        read, strict = decode_corrected(_decode_event, data, _NEEDED)
    except UNREADABLE:
        raise UpstreamError(f"a frame is not a Messages event: {error}") from None
    known = (read.type or name) in _KNOWN
    return read, strict if known or not isinstance(error, msgspec.ValidationError) else data


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage of an unstreamed answer."""
    standard = None if disclose else finish_standard(body, requested_model)
    if standard is not None:
        return standard
    try:
        answer = _decode_answer(body)
    except UNREADABLE as error:
        try:
            answer, body = decode_corrected(_decode_answer, body, _NEEDED)
        except UNREADABLE:
            raise UpstreamError(f"the answer is not a message: {error}") from None
    odd = not _is_ordinary(answer)
    blocks = _checked(answer, body) if odd else []
    has_delta = usage_in(answer.usage)
    usage = None if has_delta is None else has_delta.normal()
    named = not disclose and (body.count(_MODEL) > 1 or names_vendor(body))
    if odd or named:
        editor = MessagesEditor(requested_model, disclose=disclose)
        try:
            if named or is_odd(answer.stop_reason) or any(map(editor.changes, blocks)):
                message = editor.message(decode_fields(body), whole=True)
                return editor.without_resellers(encode(message)), usage
        except UNREADABLE as error:
            raise UpstreamError(f"the answer cannot be read: {error}") from None
    if answer.model is not None:
        body = rename(body, answer.model, requested_model)
    return body, usage


def _is_ordinary(answer: _Answer) -> bool:
    """Whether a body is a complete message with one text and nothing else."""
    content = answer.content
    return (
        answer.type == "message"
        and answer.error is NULL
        and answer.stop_reason in OWN
        and content is not None
        and len(content) == 1
        and is_text(content[0])
    )


def _checked(answer: _Answer, body: bytes) -> list[msgspec.Raw]:
    """The blocks of a body that is not ordinary. Raises UpstreamError if it is no answer."""
    content = answer.content
    if answer.type == "error" or errors.says_error(answer.error) or content is None:
        raise UpstreamError.by(errors.failed_by(body))
    stop = stop_of(answer.stop_reason)
    if stop == "failed":
        raise UpstreamError.by(interrupted(answer.stop_reason))
    if not content and stop is None:
        raise UpstreamError.by(errors.broken("the answer is empty", body))
    return content


def output_size(body: bytes) -> int:
    """Bytes of generated text in an unstreamed answer."""
    return size_of_events(read(body))


DIALECT = PassthroughCodec(
    prepare=prepare,
    relay=MessagesRelay,
    finish_body=finish_body,
    output_size=output_size,
    ping=PING,
)
