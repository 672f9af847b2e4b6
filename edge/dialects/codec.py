"""Protocol of a dialect's codec: the caller's side and the upstream's side.

    caller    ClientSide     fields -> Conversation            events -> bytes
    upstream  UpstreamSide   Conversation -> WrittenRequest    bytes -> events

No side does I/O, and none knows the side it is joined with (`edge.proxy.translation` joins them). A
new dialect is a package with these two sides, its golden files, and its name in the places that
docs/architecture.md lists under "add a dialect".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import force_setattr

from .conversation import Conversation, Text, Turn
from .events import Event, Reply
from .passthrough import Fields

Spelled = Callable[[], Mapping[str, str]]
"""Returns the caller's member for each of the upstream's. Called only for a refusal."""


class TargetModel(Struct, frozen=True, kw_only=True):
    """The upstream's model that a request is written for.

    model: its name at the upstream. family: the name its capabilities are read from; from the
        catalog, `model` by default.
    max_output, context: tokens, from the catalog.
    origin: `signatures.fingerprint` of dialect and model: whose signatures it accepts.
    drop_params: members that it refuses, casefolded.
    modalities: what it takes as input, from the catalog; None if the catalog does not say.
    """

    model: str
    family: str = ""
    max_output: int | None = None
    context: int | None = None
    origin: str = ""
    drop_params: frozenset[str] = frozenset()
    modalities: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not self.family:
            force_setattr(self, "family", self.model)


class WrittenRequest(Struct, kw_only=True):
    """A request for an upstream, and the changes that `restore` reverts in its answer.

    names: by a tool's name as sent, the tool as the caller defined it: renamed ones, custom ones,
        and those in a namespace.
    wrapped: names, as sent, of tools whose schema was wrapped in {"value": ...}.
    answer_tool: name of the tool whose arguments are the structured answer, "" without one.
    answer_wrapped: the structured answer is wrapped in {"value": ...}.
    fenced: JSON was requested in words, so a code fence around it is removed.
    stops: stop strings that were not sent and are enforced here.
    dropped: what the dialect cannot express, each in a few words.
    """

    body: bytes
    names: dict[str, "WrittenTool"] = {}
    wrapped: frozenset[str] = frozenset()
    answer_tool: str = ""
    answer_wrapped: bool = False
    fenced: bool = False
    stops: tuple[str, ...] = ()
    dropped: list[str] = []


class WrittenTurns(Struct, frozen=True):
    """Turns at the beginning of a conversation, as an upstream gets them.

    messages: entries of the upstream's array as JSON, with commas between them, in some pieces.
    calls: ids of the calls in them. dropped: as in `WrittenRequest`.
    system: instructions that stood before the first turn in the caller's array of turns.
    """

    messages: tuple[bytes, ...] = ()
    calls: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    system: tuple[Text, ...] = ()

    def __add__(self, other: "WrittenTurns") -> "WrittenTurns":
        new = tuple(note for note in other.dropped if note not in self.dropped)
        return WrittenTurns(
            self.messages + other.messages,
            self.calls + other.calls,
            self.dropped + new,
            self.system + other.system,
        )


WriteTurns = Callable[[Conversation, TargetModel, Sequence[Turn]], WrittenTurns | None]
"""Writes turns at the beginning of a conversation that need no repair; None if what they are
written as depends on turns behind them. Of the conversation only tools and settings are read."""


class WrittenTool(Struct, frozen=True):
    """The caller's own name and kind of a tool that was sent under another name."""

    name: str
    custom: bool = False
    namespace: str = ""


class Caller(Struct, frozen=True, kw_only=True):
    """The request's facts that the writer of an answer needs.

    model: the name the caller wrote. id: hexadecimal, unique per request. created: Unix seconds.
    fields: members of the caller's body. echo: members of a Responses object that the gateway sets.
    estimate: input tokens, for answers that report them before the upstream has.
    owner: id of the principal, for payloads encrypted to it.
    """

    model: str
    id: str
    created: int
    fields: Fields = {}
    echo: dict[str, Any] = {}
    estimate: int = 0
    stream: bool = True
    owner: str = ""


class Writer(Protocol):
    """Encodes one answer for the caller. One instance per attempt."""

    answer: bytes
    """The finished answer as it is stored (Responses only); b"" before, and for other dialects."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The bytes of a stream for the next events; b"" for nothing.

        Each SSE event is whole. `Failed` does not come here.
        """
        ...

    def encode_text(self, text: str) -> bytes:
        """`encode` for one TextDelta after another."""
        ...

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        ...

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a stream that broke: `content` is `Problem.content`."""
        ...


class AnswerDecoder(Protocol):
    """Decodes one upstream stream into events. One instance per attempt.

    A violation of the dialect is a `Failed` event, never an exception. Nothing follows `Failed` or
    `Stopped`, whatever the upstream still sends.
    """

    def decode(self, block: bytes) -> list[Event]:
        """The events in a block of whole SSE events."""
        ...

    def decode_text(self, block: bytes) -> str:
        """The text if `decode` would return one TextDelta, and that is known at once; else "",
        and `block` is still to be decoded. Called only after a TextDelta."""
        ...

    def decode_end(self) -> list[Event]:
        """The events at the end of input; [] if the reply has ended already."""
        ...


class ClientSide(Struct, frozen=True):
    """A dialect as callers speak it.

    read: (members of the body) -> Conversation. Raises Problem that names the field by its path.
    writer: a Writer for one request.
    ping: the bytes that keep a silent stream alive between two events.
    turns: the member of which `read` makes a turn of each entry, but instructions of those at the
        beginning; None if there is none.
    """

    read: Callable[[Fields], Conversation]
    writer: Callable[[Caller], Writer]
    ping: bytes
    turns: str | None = None


class UpstreamSide(Struct, frozen=True):
    """A dialect as an upstream speaks it.

    write: (conversation, target) -> WrittenRequest. Raises Problem with the caller's path for
        what the dialect cannot express. Deterministic: a conversation always gives the same bytes.
    reader: an AnswerDecoder for one streamed answer.
    read: a whole unstreamed answer as events.
    write_turns, write_after: write the first turns of a conversation, and a request whose other
        turns come after those, with the bytes that `write` gives. The first of these is the
        assistant's, with a text or a call. None if the dialect writes all turns together.
    """

    write: Callable[[Conversation, TargetModel], WrittenRequest]
    reader: Callable[[], AnswerDecoder]
    read: Callable[[bytes], list[Event]]
    write_turns: WriteTurns | None = None
    write_after: Callable[[Conversation, TargetModel, WrittenTurns], WrittenRequest] | None = None
