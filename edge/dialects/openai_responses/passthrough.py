"""OpenAI Responses, passed through.

Nothing depends on the state of the vendor: what a request refers to has been put in its place
(`edge.responses`), so it is sent with `store: false`, and models that think are asked for their
reasoning in its encrypted form, which the caller or the gateway sends back.

Theory of operation of `ResponsesRelay`. Whole response objects stand in the events that begin and
end a stream; in these `model` is renamed and the members that this gateway decided are put right
(`echo`). Everything between is passed on as it came, deltas after one look at the block. The
numbers of the events go on when a stream has to end with an error of ours.
"""

import re
from time import time
from typing import Any
from uuid import uuid4

import msgspec

from edge.dialects.failures import broken, failed_by
from edge.dialects.openai_models import reasons
from edge.dialects.passthrough import (
    KEEP_ALIVE,
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Dialect,
    Echo,
    Fields,
    UpstreamBroke,
    decode_fields,
    encode,
    event_by_event,
)
from edge.dialects.said import Said, said_by
from edge.dialects.sides import Caller
from middlewares import sse
from middlewares.exchange import Usage

from .failure import Numbered, failing
from .read_answer import read
from .response_object import ResponseObject
from .seals import without_seals
from .wire import NULL, hosted_in, usage_in

_ENCRYPTED = "reasoning.encrypted_content"
_DELTA = b".delta\ndata: "
_RUNNING = frozenset(("response.created", "response.in_progress", "response.queued"))
_ENDED = frozenset(("response.completed", "response.incomplete"))
_FAILED = frozenset(("error", "response.error", "response.failed", "response.cancelled"))
_EMPTY = _RUNNING | {"response.content_part.added", "response.reasoning_summary_part.added"}
"""Events that come before the model has made anything."""
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_FALSE = msgspec.Raw(b"false")
_COUNT = 1 << 53


class _Response(msgspec.Struct):
    status: str | None = None
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
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_typed = msgspec.json.Decoder(_Typed).decode
_decode_names = msgspec.json.Decoder(list[str] | None).decode


def prepare(fields: Fields, model: str, stream: bool, *, family: str = "") -> bytes:
    """The upstream's body: the caller's members as they came, another model, no state there.

    Reasoning that only another vendor can read stays behind (`seals`).
    """
    out = {**fields, "model": msgspec.Raw(encode(model)), "store": _FALSE}
    if reasons(family or model):
        try:
            names = _decode_names(fields.get("include", NULL)) or []
        except UNREADABLE:
            names = [_ENCRYPTED]  # the upstream tells what is wrong with it
        if _ENCRYPTED not in names:
            out["include"] = msgspec.Raw(encode([*names, _ENCRYPTED]))
    if "input" in out:
        out["input"] = without_seals(out["input"])
    return encode(out)


def _ours(response: bytes, asked: str, echo: Echo) -> bytes:
    """A response object with the caller's model name and what this gateway decided."""
    members = decode_fields(response)
    if "model" in members:
        members["model"] = msgspec.Raw(encode(asked))
    for name, value in echo.items():
        members[name] = msgspec.Raw(encode(value))
    return encode(members)


class ResponsesRelay:
    """One Responses stream on its way to the caller."""

    __slots__ = (
        "_asked",
        "_done",
        "_echo",
        "_following",
        "_last",
        "_made",
        "_started",
        "answer",
        "complete",
        "content",
        "usage",
    )

    enough = estimated = False

    def __init__(
        self, fields: Fields, asked: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.answer = b""
        self._made = Said()
        self._asked = asked
        self._echo = echo
        self._started = b""
        """The response as it was at the beginning, for one that fails."""
        self._done: list[msgspec.Raw] = []
        self._following = 0
        self._last = b""
        """Deltas passed on since the last event whose number is known."""

    @property
    def said(self) -> int:
        """Bytes of text that the model made so far."""
        return self._made.bytes

    def feed(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        if (
            self.content
            and not self.complete
            and block.startswith(b"event: response.")
            and block.endswith(b"}\n\n")
            and (events := block.count(_DELTA)) == block.count(b"}\n\n")
            and block.count(b"\n") == 3 * events  # so each line is one of these
        ):
            self._last = block
            self._made.add(block, events)
            return block
        return event_by_event(block, self._event)

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return KEEP_ALIVE if event.lstrip().startswith(b":") and not self.complete else b""
        data = parsed.data
        if data.startswith(b"[DONE]"):
            return b""
        try:
            read = _decode_event(data)
        except UNREADABLE:
            raise UpstreamBroke.by(broken("a frame is not a Responses event", data)) from None
        read.type = read.type or parsed.name
        if read.type in _FAILED or bytes(read.error) != b"null":
            self._count(read.response)
            raise UpstreamBroke.by(failed_by(data))
        if read.response is not NULL and bytes(read.response) != b"null":
            event = self._with_response(data, read)
        else:
            self._between(read, event)
        if read.sequence_number is not None:
            self._following = min(max(0, read.sequence_number), _COUNT) + 1
            self._last = b""
        return event

    def _between(self, read: _Event, event: bytes) -> None:
        """Look whether an event shows that the model has made something."""
        if read.type == "response.output_item.added":
            if not self.content:
                self.content = _type_of(read.item) not in ("message", "reasoning")
        elif read.type == "response.output_item.done":
            self.content = True
            self._done.append(read.item)
            if hosted := hosted_in(bytes(read.item)):
                self.usage = self.usage or Usage()
                self.usage.hosted += hosted
        elif read.type.startswith("response.") and read.type not in _EMPTY:
            self.content = True
            if read.type.endswith(".delta"):
                self._made.add(event, 1)

    def _count(self, response: msgspec.Raw) -> None:
        """Take the usage that a response tells, if it can be read."""
        try:
            seen = _decode_response(response)
        except UNREADABLE:
            return
        self.usage = usage_in(seen) or self.usage

    def _with_response(self, data: bytes, read: _Event) -> bytes:
        try:
            members = decode_fields(data)
            seen = _decode_response(read.response)
            response = _ours(read.response, self._asked, self._echo)
        except UNREADABLE:
            raise UpstreamBroke.by(broken("a frame holds no response", data)) from None
        if (usage := _counted(seen, bytes(read.response))) is not None:
            usage.hosted = max(usage.hosted, self.usage.hosted if self.usage else 0)
            self.usage = usage
        if seen.status in ("failed", "cancelled"):
            raise UpstreamBroke.by(failed_by(data))
        if read.type in _ENDED:
            self.complete = self.content = True
            self.answer = response
            self._started = b""
            self._done.clear()
        elif not self._started:
            self._started = response
        members["response"] = msgspec.Raw(response)
        return sse.encode(encode(members), read.type if read.type.isprintable() else "")

    def end(self) -> bytes:
        """Only a response that has ended ends a stream."""
        if self.complete:
            return b""
        raise UpstreamBroke("the stream ended before its response did")

    def failure(self, content: dict[str, Any]) -> bytes:
        """An error event, then the response as failed with the items that are done."""
        seen = _NUMBER.findall(self._last)
        return failing(
            Numbered(int(seen[-1]) + 1 if seen else self._following), content, self._failed
        )

    def _failed(self, code: str, message: str) -> bytes:
        if not self._started:  # some clients hear of a failure only by an object that failed
            caller = Caller(
                model=self._asked, id=uuid4().hex, created=int(time()), echo={**self._echo}
            )
            return ResponseObject(caller).failed((), code, message)
        response = decode_fields(self._started)
        changed = {
            "status": "failed",
            "output": self._done,
            "error": {"code": code, "message": message},
        }
        return encode({**response, **changed})


def _type_of(item: msgspec.Raw) -> str:
    try:
        return _decode_typed(item).type
    except UNREADABLE:
        return ""


def finish_plain(
    body: bytes,
    asked: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The caller's body and the usage of an unstreamed answer."""
    try:
        seen = _decode_response(body)
        ours = _ours(body, asked, echo)
    except UNREADABLE as error:
        raise UpstreamBroke(f"the answer is not a response: {error}") from None
    failed = seen.status in ("failed", "cancelled") or bytes(seen.error) != b"null"
    if failed or seen.object != "response":
        raise UpstreamBroke.by(failed_by(body))
    return ours, _counted(seen, body)


def _counted(seen: _Response, response: bytes) -> Usage | None:
    usage, hosted = usage_in(seen), hosted_in(response)
    if hosted:
        usage = usage or Usage()
        usage.hosted = hosted
    return usage


def said(body: bytes) -> int:
    """Bytes of text in an unstreamed answer."""
    return said_by(read(body))


DIALECT = Dialect(
    prepare=prepare,
    relay=ResponsesRelay,
    finish_plain=finish_plain,
    said=said,
    ping=KEEP_ALIVE,
)
