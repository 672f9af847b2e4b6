"""OpenAI Responses, passed through.

Nothing depends on the state of the vendor: what a request refers to has been put in its place
(`edge.responses`), so it is sent with `store: false` and asks for reasoning in its encrypted form,
which the caller or the gateway can send back.

Theory of operation of `ResponsesRelay`. Whole response objects stand in the events that begin and
end a stream; in these `model` is renamed and the members that this gateway decided are put right
(`echo`). Everything between is passed on as it came, deltas after one look at the block. The
numbers of the events go on when a stream has to end with an error of ours.
"""

import re
from typing import Any

import msgspec

from edge.dialects import opaque
from edge.dialects.failures import broken, failed_by
from edge.dialects.openai_models import reasons
from edge.dialects.passthrough import (
    NO_ECHO,
    UNREADABLE,
    Count,
    Dialect,
    Echo,
    Fields,
    UpstreamBroke,
    decode_fields,
    encode,
    event_by_event,
    tokens,
)
from middlewares import sse
from middlewares.exchange import Usage

_ENCRYPTED = "reasoning.encrypted_content"
_MARK = b'"' + opaque.MARK.encode()
_DELTA = b".delta\ndata: "
_RUNNING = frozenset(("response.created", "response.in_progress", "response.queued"))
_ENDED = frozenset(("response.completed", "response.incomplete"))
_OPENING = frozenset(("response.output_item.added", "response.content_part.added"))
_SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_FALSE = msgspec.Raw(b"false")
_NONE = msgspec.Raw(b"null")


class _InputDetails(msgspec.Struct):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Count = None


class ResponseUsage(msgspec.Struct):
    """`usage` of a response; cached tokens are inside `input_tokens`."""

    input_tokens: Count = None
    output_tokens: Count = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def normal(self) -> Usage:
        """The same figures, disjoint."""
        given = tokens(self.input_tokens)
        details = self.input_tokens_details
        read = min(given, tokens(details.cached_tokens)) if details else 0
        written = min(given - read, tokens(details.cache_write_tokens)) if details else 0
        spent = self.output_tokens_details
        return Usage(
            input=given - read - written,
            output=tokens(self.output_tokens),
            cache_read=read,
            cache_write=written,
            reasoning=tokens(spent.reasoning_tokens) if spent else 0,
        )


class _Response(msgspec.Struct):
    status: str | None = None
    usage: ResponseUsage | None = None
    object: str = ""


class _Typed(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = _NONE
    item: _Typed | None = None


class _Reasoning(msgspec.Struct):
    type: str = ""
    encrypted_content: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item = msgspec.json.Decoder(_Reasoning).decode
_decode_names = msgspec.json.Decoder(list[str] | None).decode


def prepare(fields: Fields, model: str, stream: bool) -> bytes:
    """The upstream's body: the caller's members as they came, another model, no state there."""
    out = {**fields, "model": msgspec.Raw(encode(model)), "store": _FALSE}
    if reasons(model):
        try:
            names = _decode_names(fields.get("include", _NONE)) or []
        except UNREADABLE:
            names = [_ENCRYPTED]  # the upstream tells what is wrong with it
        if _ENCRYPTED not in names:
            out["include"] = msgspec.Raw(encode([*names, _ENCRYPTED]))
    given = fields.get("input")
    if given is not None and _MARK in bytes(given):
        out["input"] = _without_foreign(given)
    return encode(out)


def _without_foreign(given: msgspec.Raw) -> msgspec.Raw:
    """`input` less the reasoning that another vendor's model made; the rest as it came."""
    try:
        items = _decode_items(given)
    except UNREADABLE:
        return given
    return msgspec.Raw(encode([item for item in items if not _foreign(item)]))


def _foreign(item: msgspec.Raw) -> bool:
    try:
        known = _decode_item(item)
    except UNREADABLE:
        return False
    sealed = known.encrypted_content
    return known.type == "reasoning" and sealed is not None and sealed.startswith(opaque.MARK)


def _ours(response: msgspec.Raw | bytes, asked: str, echo: Echo) -> bytes:
    """A response object with the caller's model name and what this gateway decided."""
    members = decode_fields(response)
    if "model" in members:
        members["model"] = msgspec.Raw(encode(asked))
    for name, value in echo.items():
        members[name] = msgspec.Raw(encode(value))
    return encode(members)


class ResponsesRelay:
    """One Responses stream on its way to the caller."""

    __slots__ = ("_asked", "_echo", "_last", "_started", "answer", "complete", "content", "usage")

    enough = False

    def __init__(self, fields: Fields, asked: str, echo: Echo = NO_ECHO) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.answer = b""
        self._asked = asked
        self._echo = echo
        self._last = b""
        self._started = b""

    def feed(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        if (
            self.content
            and not self.complete
            and block.startswith(b"event: response.")
            and block.count(_DELTA) == block.count(b"\n\n")
        ):
            self._last = block
            return block
        return event_by_event(block, self._event)

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return event if event.lstrip().startswith(b":") and not self.complete else b""
        data = parsed.data
        if data.startswith(b"[DONE]"):
            return b""
        try:
            read = _decode_event(data)
        except UNREADABLE:
            raise _broke(broken("a frame is not a Responses event", data)) from None
        kind = read.type
        if kind in ("error", "response.failed", "response.cancelled"):
            raise _broke(failed_by(data))
        if bytes(read.response) != b"null":
            event = self._with_response(data, read)
        elif kind in _OPENING:
            started = read.item is not None and read.item.type not in ("message", "reasoning")
            self.content = self.content or started
        elif kind.startswith("response.") and kind not in _RUNNING:
            self.content = True
        self._last = event
        return event

    def _with_response(self, data: bytes, read: _Event) -> bytes:
        try:
            seen = _decode_response(read.response)
            response = _ours(read.response, self._asked, self._echo)
        except UNREADABLE:
            raise _broke(broken("a frame holds no response", data)) from None
        if seen.usage is not None:
            self.usage = seen.usage.normal()
        if read.type in _ENDED:
            self.complete = self.content = True
            self.answer = response
            self._started = b""
        elif not self._started:
            self._started = response
        members = decode_fields(data)
        members["response"] = msgspec.Raw(response)
        return sse.encode(encode(members), read.type)

    def end(self) -> bytes:
        """Only a response that has ended ends a stream."""
        if self.complete:
            return b""
        raise UpstreamBroke("the stream ended before its response did")

    def failure(self, content: dict[str, Any]) -> bytes:
        """An error event, then the response as failed, numbered on."""
        seen = _SEQUENCE.findall(self._last)
        number = int(seen[-1]) + 1 if seen else 0
        error = {name: content["error"][name] for name in ("type", "code", "message", "param")}
        flat = {name: error[name] for name in ("code", "message", "param")}
        event = {"type": "error", "sequence_number": number, **flat, "error": error}
        out = sse.encode(encode(event), "error")
        if not self._started:
            return out
        response = {
            **decode_fields(self._started),
            "status": "failed",
            "error": {"code": error["code"], "message": error["message"]},
        }
        event = {"type": "response.failed", "sequence_number": number + 1, "response": response}
        return out + sse.encode(encode(event), "response.failed")


def _broke(failed: Any) -> UpstreamBroke:
    return UpstreamBroke(failed.reason, failed.kind)


def finish_plain(body: bytes, asked: str, echo: Echo = NO_ECHO) -> tuple[bytes, Usage | None]:
    """The caller's body and the usage of an unstreamed answer."""
    try:
        seen = _decode_response(body)
        ours = _ours(body, asked, echo)
    except UNREADABLE as error:
        raise UpstreamBroke(f"the answer is not a response: {error}") from None
    if seen.object != "response" or seen.status in ("failed", "cancelled"):
        raise _broke(failed_by(body))
    return ours, seen.usage.normal() if seen.usage is not None else None


DIALECT = Dialect(
    prepare=prepare,
    relay=ResponsesRelay,
    finish_plain=finish_plain,
    ping=sse.comment("keep-alive"),
)
