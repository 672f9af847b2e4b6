"""Pass OpenAI Responses through.

Nothing is stored at the vendor: references in a request have been resolved (`edge.api.responses`),
so it is sent with `store: false`, and reasoning models return their reasoning encrypted, for the
caller or the gateway to send back.

Theory of operation of `ResponsesRelay`. Whole response objects are only in the events that begin
and end a stream. In these, `model` is renamed, members that name the vendor are removed, and the
members that the gateway sets are written (`echo`). All other events pass as they came, deltas after
one check of the block, unless items lack correct indexes or ids (`item_numbering`). Before the end,
items of the finished response that were not sent are added; a finished response without items gets
those that were sent. Event numbers continue if the stream has to end with the gateway's error.
"""

import re
from time import time
from typing import Any
from uuid import uuid4

import msgspec

from edge.dialects.codec import Caller
from edge.dialects.errors import broken, failed_by, says_error
from edge.dialects.events import Failed
from edge.dialects.heartbeats import is_done, is_heartbeat
from edge.dialects.lenient_json import decode_corrected
from edge.dialects.output_size import OutputSize, closing_quote, size_of_events, unescaped
from edge.dialects.passthrough import (
    BACKSLASH,
    KEEP_ALIVE,
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    UpstreamError,
    decode_fields,
    each_event,
    encode,
    without_data,
)
from edge.dialects.split_characters import CharacterJoiner, may_have_lone
from edge.dialects.stop_reasons import interrupted, stop_of
from edge.requests.known_turns import TurnMarks
from edge.untyped_json import number
from edge.vendors.openai_models import reasons
from middlewares import sse
from middlewares.exchange import Usage

from . import editing
from .editing import ResponsesEditor
from .failure_events import EventNumbering, failing
from .item_numbering import ItemNumbering, items_of
from .read_answer import read
from .response_object import ResponseObject
from .signatures import without_unreadable_reasoning
from .standard_answer import finish_standard
from .wire import NULL, hosted_in, usage_in

_ENCRYPTED = "reasoning.encrypted_content"
_EVENT = b"event: response."
_NEXT = b"\n\n" + _EVENT
_DELTA = b".delta\ndata: "
_RUNNING = frozenset(("response.created", "response.in_progress", "response.queued"))
_ENDED = frozenset(("response.completed", "response.incomplete"))
_FAILED = frozenset(("error", "response.error", "response.failed", "response.cancelled"))
_EMPTY = _RUNNING | {"response.content_part.added", "response.reasoning_summary_part.added"}
"""Events before any output of the model."""
SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,15})(?!\d)')
_SILENT = frozenset(("type", "response", "sequence_number"))
"""The usual members of an event with a response; none of them names the vendor."""
_NEEDED = frozenset(("type", "response", "item", "output", "status"))
_FALSE = msgspec.Raw(b"false")
_COUNT = 1 << 53


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    object: str = ""
    error: msgspec.Raw = NULL


class _Typed(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int | None = None
    response: msgspec.Raw = NULL
    item: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response, float_hook=number).decode
_decode_typed = msgspec.json.Decoder(_Typed).decode
_decode_names = msgspec.json.Decoder(list[str] | None).decode


def prepare(
    fields: Fields,
    model: str,
    stream: bool,
    *,
    family: str = "",
    marks: TurnMarks | None = None,
) -> bytes:
    """The upstream's body: the caller's members, the upstream's model, nothing stored.

    Reasoning that the upstream cannot read is removed (`signatures`).
    """
    out = {**fields, "model": msgspec.Raw(encode(model)), "store": _FALSE}
    if reasons(family or model):
        try:
            names = _decode_names(fields.get("include", NULL)) or []
        except UNREADABLE:
            names = [_ENCRYPTED]  # the upstream refuses it with a reason
        if _ENCRYPTED not in names:
            out["include"] = msgspec.Raw(encode([*names, _ENCRYPTED]))
    if "input" in out:
        out["input"] = without_unreadable_reasoning(out["input"], marks)
    return encode(out)


def _failed_in(seen: _Response, data: bytes) -> Failed | None:
    """The failure that a response object reports; None without one."""
    if seen.status in ("failed", "cancelled") or says_error(seen.error):
        return failed_by(data)
    if seen.status == "incomplete" and stop_of(_word(seen)) == "failed":
        return interrupted(_word(seen))
    return None


def _word(seen: _Response) -> str | None:
    """The reason of an incomplete response."""
    return seen.incomplete_details.reason if seen.incomplete_details is not None else None


class ResponsesRelay:
    """Passes one Responses stream through."""

    __slots__ = (
        "_done",
        "_editor",
        "_following",
        "_id",
        "_joiner",
        "_last",
        "_line",
        "_numbering",
        "_output_size",
        "_started",
        "_sure",
        "answer",
        "complete",
        "content",
        "usage",
    )

    enough = estimated = False

    def __init__(
        self, fields: Fields, requested_model: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.answer = b""
        self._output_size = OutputSize()
        self._editor = ResponsesEditor(requested_model, echo, disclose=disclose)
        self._joiner = CharacterJoiner()
        self._id = b""
        """The response's first id: some clients rely on it."""
        self._numbering = ItemNumbering()
        self._started = b""
        """The response at its start, for the final event of a failure."""
        self._line = b"\0"
        """The bytes before the data of the last ordinary event."""
        self._sure = False
        """Whether the last decoded event was a valid delta, so that more may follow."""
        self._done: list[msgspec.Raw] = []
        self._following = 0
        self._last = b""
        """Deltas passed on since the last event with a known number."""

    @property
    def output_size(self) -> int:
        """Bytes of generated text so far."""
        return self._output_size.bytes

    def relay(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        bare = BACKSLASH not in block
        if (
            self._sure
            and block.startswith(self._line)
            and block.endswith(b"}\n\n")
            and block.count(b"\n") == 3
            and (bare or not may_have_lone(block))
        ):
            self._last = block
            size = self._output_size
            start = block.find(size.opening) + size.length
            end = block.find(b'"', start)
            if not bare and block[end - 1] == BACKSLASH:
                end = closing_quote(block, start)
            if end > start >= size.length:
                size.bytes += end - start if bare else unescaped(block[start:end])
            else:
                size.add(block, 1, bare)
            return block
        if not (bare and self._sure):
            block = self._joiner.join(block)
            self._sure = self._sure and not self._joiner.held
        if (
            self._sure
            and block.startswith(_EVENT)
            and block.endswith(b"}\n\n")
            and (events := block.count(_DELTA)) == block.count(b"}\n\n")
            and block.count(b"\n") == 3 * events  # so each line is one of these
            and (events == 1 or block.count(_NEXT) == events - 1)  # and begins as they do
        ):
            self._last = block
            self._output_size.add(block, events, bare)
            if events == 1:
                self._line = block[: block.index(_DELTA) + len(_DELTA)]
            return block
        if not _is_one(block):
            out = each_event(block, self._event)
        else:
            try:
                out = self._event(block)
            except UNREADABLE:  # bytes that are no UTF-8, not decoded before
                raise UpstreamError("a frame cannot be read") from None
        self._sure = self._sure and not self._joiner.held
        return out

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return b"" if self.complete else without_data(event)
        data, given = parsed.data, event
        try:
            read = _decode_event(data)
            if not read.type.startswith("response.") and (is_done(data) or is_heartbeat(parsed)):
                return b""
        except UNREADABLE:
            if is_done(data) or is_heartbeat(parsed):
                return b""
            try:
                read, data = decode_corrected(_decode_event, data, _NEEDED)
            except UNREADABLE:
                raise UpstreamError.by(broken("a frame is not a Responses event", data)) from None
        read.type = read.type or parsed.name
        if _is_failure(read, parsed.name):
            self._count(read.response)
            raise UpstreamError.by(failed_by(data))
        if read.response is not NULL and bytes(read.response) != b"null":
            event = self._with_response(data, read)
        elif read.type in _ENDED:
            raise UpstreamError.by(broken("the response has no output", data))
        else:
            event = self._between(read, parsed, data, event)
        delta = read.type.endswith(".delta") and event is given
        self._sure = delta and not self._numbering.odd
        if read.sequence_number is not None:
            self._following = max(self._following, min(max(0, read.sequence_number), _COUNT) + 1)
            self._last = b""
        return event

    def _between(self, read: _Event, parsed: sse.Event, data: bytes, event: bytes) -> bytes:
        """Handle an event without a response; note output of the model."""
        try:
            ours = self._numbering.event(read.type, read.item, data)
            if ours is None:
                return b""
            if self._editor.tells(ours):
                ours = encode(self._reported(decode_fields(ours)))
        except UNREADABLE:
            raise UpstreamError.by(broken("an item cannot be read", data)) from None
        if ours is not parsed.data:
            event = sse.encode(ours, read.type if read.type.isprintable() else "")
        if read.type == "response.output_item.added":
            if not self.content:
                self.content = _type_of(read.item) not in ("message", "reasoning")
        elif read.type == "response.output_item.done":
            self.content = True
            self._done.append(_decode_event(ours).item)
            if hosted := hosted_in(bytes(read.item)):
                self.usage = self.usage or Usage()
                self.usage.hosted += hosted
        elif read.type.startswith("response.") and read.type not in _EMPTY:
            self.content = True
            if read.type.endswith(".delta"):
                self._output_size.add(event, 1)
        return event

    def _reported(self, members: Fields) -> Fields:
        """An event, and the item in it, without members that name the vendor."""
        item = members.get("item", NULL)
        out = self._editor.open(members)
        if bytes(item) != b"null":
            out["item"] = msgspec.Raw(encode(self._editor.open(decode_fields(item))))
        return out

    def _count(self, response: msgspec.Raw) -> None:
        """Read the usage of a response, if it is valid."""
        try:
            seen = _decode_response(response)
        except UNREADABLE:
            return
        self.usage = usage_in(seen) or self.usage

    def _with_response(self, data: bytes, read: _Event) -> bytes:
        try:
            members = decode_fields(data)
            seen, raw = _seen(bytes(read.response))
            response = self._editor.response(raw)
        except UNREADABLE:
            raise UpstreamError.by(broken("a frame holds no response", data)) from None
        if (usage := _counted(seen, raw)) is not None:
            usage.hosted = max(usage.hosted, self.usage.hosted if self.usage else 0)
            self.usage = usage
        failed = _failed_in(seen, data)
        if failed is not None:
            raise UpstreamError.by(failed)
        if not self._id:
            id_ = bytes(response.get("id", NULL))
            self._id = id_ if id_.startswith(b'"') else encode(f"resp_{uuid4().hex}")
        response["id"] = msgspec.Raw(self._id)
        before = b""
        if read.type in _ENDED:
            before = self._end(response, seen, data)
            if before:
                members["sequence_number"] = msgspec.Raw(encode(self._following))
        elif not self._started:
            self._started = encode(response)
        if not _SILENT.issuperset(members):
            members = self._editor.open(members)
        members["response"] = msgspec.Raw(encode(response))
        return before + sse.encode(encode(members), read.type if read.type.isprintable() else "")

    def _end(self, response: Fields, seen: _Response, data: bytes) -> bytes:
        """Correct a finished response; return events for items not sent yet."""
        try:
            output, late = self._numbering.finish(items_of(response))
        except UNREADABLE:
            raise UpstreamError.by(broken("an item cannot be read", data)) from None
        if not output:
            if not self._done and bytes(seen.output) == b"null":
                raise UpstreamError.by(broken("the response has no output", data))
            output = self._done
        response["output"] = msgspec.Raw(encode(output))
        editing.put_right(response, _word(seen))
        self.complete = self.content = True
        self.answer = encode(response)
        self._started = b""
        self._done.clear()
        if not late:
            return b""
        numbered = EventNumbering(self._next())
        events = b"".join(numbered.event(*pair) for pair in late)
        self._following, self._last = numbered.following, b""
        return events

    def relay_end(self) -> bytes:
        """End the stream; only a finished response is a good end."""
        rest = self._joiner.rest()
        out = each_event(rest, self._event) if rest else b""
        if self.complete:
            return out
        broke = UpstreamError("the stream ended before its response did")
        broke.passed = out
        raise broke

    def _next(self) -> int:
        """The number of the next event."""
        seen = SEQUENCE_NUMBER.findall(self._last)
        return max(self._following, int(seen[-1]) + 1) if seen else self._following

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """An error event, then the failed response with the finished items."""
        return failing(EventNumbering(self._next()), content, self._failed)

    def _failed(self, code: str, message: str) -> bytes:
        if not self._started:  # some clients need a response object to fail
            caller = Caller(
                model=self._editor.requested_model,
                id=uuid4().hex,
                created=int(time()),
                echo=self._editor.echo,
            )
            return ResponseObject(caller).failed((), code, message)
        response = decode_fields(self._started)
        changed = {
            "status": "failed",
            "output": self._done,
            "error": {"code": code, "message": message},
        }
        return encode({**response, **changed})


def _is_one(block: bytes) -> bool:
    """Whether a block is one event of name and data only, the usual case."""
    return (
        block.startswith(b"event:")
        and block.endswith(b"\n\n")
        and block.count(b"\n") == 3
        and b"\ndata:" in block
        and sse.CR not in block
    )


def _is_failure(event: _Event, name: str) -> bool:
    """Whether an event reports a failure. name: of its `event:` line."""
    return (
        event.type in _FAILED
        or event.type in ("", "message")
        or event.type.endswith("_error")
        or name == "error"
        or (event.error is not NULL and says_error(event.error))
    )


def _type_of(item: msgspec.Raw) -> str:
    try:
        return _decode_typed(item).type
    except UNREADABLE:
        return ""


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The caller's body and the usage of an unstreamed answer."""
    standard = finish_standard(body, requested_model, echo)
    if standard is not None:
        return standard
    editor = ResponsesEditor(requested_model, echo, disclose=disclose)
    try:
        seen, body = _seen(body)
        ours = editor.response(body)
        output = items_of(ours)
    except UNREADABLE as error:
        raise UpstreamError(f"the answer is not a response: {error}") from None
    failed = _failed_in(seen, body)
    if failed is not None:
        raise UpstreamError.by(failed)
    if not output and bytes(seen.output) == b"null":
        raise UpstreamError.by(failed_by(body))
    if seen.status in ("queued", "in_progress"):
        raise UpstreamError.by(broken("the answer is not a finished response", body))
    editing.put_right(ours, _word(seen))
    return encode(ours), _counted(seen, body)


def _seen(response: bytes) -> tuple[_Response, bytes]:
    """Decode a response object; correct its bytes if necessary. Raises one of UNREADABLE."""
    try:
        return _decode_response(response), response
    except UNREADABLE:
        return decode_corrected(_decode_response, response, _NEEDED)


def _counted(seen: _Response, response: bytes) -> Usage | None:
    usage, hosted = usage_in(seen), hosted_in(response)
    if hosted:
        usage = usage or Usage()
        usage.hosted = hosted
    return usage


def output_size(body: bytes) -> int:
    """Bytes of generated text in an unstreamed answer."""
    return size_of_events(read(body))


DIALECT = PassthroughCodec(
    prepare=prepare,
    relay=ResponsesRelay,
    finish_body=finish_body,
    output_size=output_size,
    ping=KEEP_ALIVE,
)
