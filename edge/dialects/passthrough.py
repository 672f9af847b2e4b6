"""Passing bytes through in any dialect: protocols of a relay, and renaming the model.

Only the model's name is rewritten. A rename never touches text: a name inside a JSON string is
escaped (`\\"model\\"`), so the unescaped member is always structure. Where a body has several such
members, the object is decoded and encoded again, with every other value as the bytes it came in
(`msgspec.Raw`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import msgspec

from edge.requests.known_turns import TurnMarks
from middlewares import sse
from middlewares.exchange import Usage

from .events import Failed

Fields = dict[str, msgspec.Raw]
Echo = Mapping[str, Any]
"""Members of an answer that the gateway sets (`Exchange.response_overrides`)."""
NO_ECHO: Echo = {}
NO_FIELDS: Fields = {}


encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(Fields).decode
decode_text = msgspec.json.Decoder(str).decode

KEEP_ALIVE = sse.comment("keep-alive")
"""The heartbeat of dialects without an event for it.

It also replaces an upstream's own comments, in which some servers name themselves."""

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


QUOTE, BACKSLASH = b'"\\'
"""As integers, like `sse.LF`."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions that a decoder raises for bytes that it cannot read."""


class UpstreamError(Exception):
    """An upstream's answer breaks its dialect's rules, or reports a failure.

    kind: of the Problem for the caller. reason: for the log; it may hold upstream text. passed:
    bytes that the client still gets of the block that failed. upstream_message, wait: see `Failed`.
    """

    def __init__(
        self,
        reason: str,
        kind: str = "upstream_error",
        *,
        upstream_message: str = "",
        wait: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.upstream_message = upstream_message
        self.wait = wait
        self.passed = b""

    @classmethod
    def by(cls, failed: Failed) -> Self:
        """The error for a `Failed` event."""
        message = failed.upstream_message
        return cls(failed.reason, failed.kind, upstream_message=message, wait=failed.wait)


class Relay(Protocol):
    """Passes one upstream stream on to one client. One instance per attempt."""

    complete: bool
    """Whether the stream has announced a good end."""
    content: bool
    """Whether any output of the model has arrived. Pings and role frames do not count."""

    @property
    def usage(self) -> Usage | None:
        """The usage reported so far; of a complete translated answer, the usage it is charged
        by."""
        ...

    @property
    def output_size(self) -> int:
        """Bytes of generated text so far: for answers without reported usage."""
        ...

    @property
    def estimated(self) -> bool:
        """Whether `usage` is not the upstream's own count."""
        ...

    @property
    def enough(self) -> bool:
        """Whether the caller's answer is complete while the upstream still sends."""
        ...

    @property
    def answer(self) -> bytes:
        """The finished answer as an object, for dialects that store answers; else b""."""
        ...

    def encode_failure(self, content: dict[str, Any]) -> bytes | None:
        """The end of a broken stream. content: `Problem.content`.

        None where events have no numbers: the dialect's own error event ends the stream.
        """
        ...

    def relay(self, block: bytes) -> bytes:
        """What the client gets for a block of whole events; b"" for nothing.

        Raises UpstreamError.
        """
        ...

    def relay_end(self) -> bytes:
        """The client's bytes at the end of input. Raises UpstreamError if the stream was cut."""
        ...


class Prepare(Protocol):
    """The upstream's body.

    model: its name at the upstream. family: see `codec.TargetModel`. marks: of the turns of the
    body, if they are known.
    """

    def __call__(
        self,
        fields: Fields,
        model: str,
        stream: bool,
        *,
        family: str = "",
        marks: TurnMarks | None = None,
    ) -> bytes: ...


class OpenRelay(Protocol):
    """Opens the relay of a streamed answer. disclose: the answer may name its vendor."""

    def __call__(
        self, fields: Fields, requested_model: str, echo: Echo, *, disclose: bool = False
    ) -> Relay: ...


class FinishBody(Protocol):
    """The client's body and the usage of a whole answer. Raises UpstreamError.

    fields: of the request. disclose: the answer may name its vendor.
    """

    def __call__(
        self,
        body: bytes,
        requested_model: str,
        echo: Echo,
        *,
        fields: Fields = NO_FIELDS,
        disclose: bool = False,
    ) -> tuple[bytes, Usage | None]: ...


class PassthroughCodec(msgspec.Struct, frozen=True):
    """Functions that pass one dialect through unchanged, but for the model's name."""

    prepare: Prepare
    relay: OpenRelay
    finish_body: FinishBody
    output_size: Callable[[bytes], int]
    """Bytes of generated text in a whole answer, the upstream's or the client's."""
    ping: bytes
    """The bytes that keep a silent stream alive between two events."""


def each_event(block: bytes, handle: Callable[[bytes], bytes]) -> bytes:
    """Join `handle` of each event in a block. An UpstreamError holds what came before it.

    Comments, ids and retry times of an upstream are not passed on: they identify it, and a client
    that has seen an id takes a comment for an event (openai/openai-python#2722).
    """
    out: list[bytes] = []
    for event in sse.split(block):
        try:
            out.append(handle(sse.bare(event)))
        except UpstreamError as broke:
            broke.passed = b"".join([*out, broke.passed])
            raise
        except UNREADABLE:  # bytes that are no UTF-8, not decoded before
            unreadable = UpstreamError("a frame cannot be read")
            unreadable.passed = b"".join(out)
            raise unreadable from None
    return out[0] if len(out) == 1 else b"".join(out)


def without_data(event: bytes) -> bytes:
    """The client's bytes for an event without data: a heartbeat for a comment."""
    return KEEP_ALIVE if event.lstrip().startswith(b":") else b""


def rename(body: bytes, theirs: str, requested_model: str) -> bytes:
    """Replace the top-level `model` of `body`, a JSON object: `theirs` by `requested_model`."""
    renamed = spliced(body, theirs, requested_model)
    if renamed is not None:
        return renamed
    fields = decode_fields(body)
    fields["model"] = msgspec.Raw(encode(requested_model))
    return encode(fields)


def spliced(body: bytes, theirs: str, requested_model: str) -> bytes | None:
    """The same for a body with one member called `model`; None if there may be more."""
    if body.count(b'"model"') != 1:
        return None
    match = _MODEL.search(body)
    if match is None or not _has_value(match, theirs):
        return None
    start, end = match.span(1)
    return body[:start] + encode(requested_model) + body[end:]


def spelling_of_model(event: bytes, theirs: str) -> bytes:
    """The member `model` as `event` writes it, whose value is `theirs`. Raises UpstreamError."""
    for match in _MODEL.finditer(event):
        if _has_value(match, theirs):
            return match[0]
    raise UpstreamError("the model's name is not where it should be")


def _has_value(member: re.Match[bytes], name: str) -> bool:
    try:
        return decode_text(member[1]) == name
    except UNREADABLE:  # a member deeper down, not decoded before
        return False


class Renamer:
    """Renames the model in the frames of one stream at the speed of `bytes.replace`.

    The exact bytes of the member are learned from the first frame that has it: an upstream may
    answer with a longer name than the requested one, and with any spaces.
    """

    __slots__ = ("member", "ours")

    def __init__(self, requested_model: str) -> None:
        self.member = b""
        """The member as this upstream writes it; b"" until learned."""
        self.ours = b'"model":' + encode(requested_model)

    def learn(self, event: bytes, theirs: str) -> None:
        """Learn the spelling of the member with the value `theirs` from `event`."""
        self.member = spelling_of_model(event, theirs)

    def apply(self, event: bytes) -> bytes:
        """`event` with every occurrence of the learned member replaced."""
        return event.replace(self.member, self.ours) if self.member else event
