"""The seam of the translators: what a dialect offers as the caller's and as the upstream's.

    caller    ClientSide     fields -> Conversation      events -> bytes
    upstream  UpstreamSide   Conversation -> Sent        bytes -> events

No side does I/O, and none knows which other side it is joined with (`crossing` joins them). A new
dialect is one package with these two, and its goldens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import force_setattr

from .neutral import Conversation, Event, Reply
from .passthrough import Fields

Spelled = Callable[[], Mapping[str, str]]
"""Gives the caller's member for each of the upstream's. Only a refusal needs it."""


class TargetModel(Struct, frozen=True, kw_only=True):
    """What is known of the model that will be asked.

    model: its name at the upstream. family: a name that tells what it is, from the catalog where
        the name at the upstream does not; that name unless given.
    max_output and context: tokens, from the catalog.
    origin: `opaque.fingerprint` of dialect and model: whose opaque data it will take back.
    """

    model: str
    family: str = ""
    max_output: int | None = None
    context: int | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if not self.family:
            force_setattr(self, "family", self.model)


class WrittenRequest(Struct, kw_only=True):
    """A request for an upstream, and what has to be taken back in the answer to it.

    names: by the tool's name as sent, the tool as the caller defined it; those that were sent
        under another name, custom ones, and those in a namespace.
    wrapped: names, as sent, of tools whose schema was put inside {"value": ...}.
    answer_tool: name of the tool whose arguments are the structured answer, "" without one.
    answer_wrapped: the structured answer was asked for inside {"value": ...}.
    fenced: JSON was asked for in words, so that a code fence around it must go.
    stops: stop strings that the upstream was not told, to be enforced here.
    dropped: what had no place, each in a few words.
    """

    body: bytes
    names: dict[str, "WrittenTool"] = {}
    wrapped: frozenset[str] = frozenset()
    answer_tool: str = ""
    answer_wrapped: bool = False
    fenced: bool = False
    stops: tuple[str, ...] = ()
    dropped: list[str] = []


class WrittenTool(Struct, frozen=True):
    """A tool's own name, behind the name it was sent by."""

    name: str
    custom: bool = False
    namespace: str = ""


class Caller(Struct, frozen=True, kw_only=True):
    """What the writer of an answer needs to know of its request.

    model: the name the caller wrote. id: hexadecimal, one for each request. created: Unix seconds.
    fields: members of the caller's body. echo: members of a Responses object that state decided.
    estimate: input tokens, for those who read them before the upstream has counted.
    owner: id of the principal, for what is sealed to it.
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
    """One answer on its way to the caller. An instance per attempt."""

    answer: bytes
    """The finished answer as the object that is stored (Responses only), b"" before and else."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """The bytes of a stream for the next events; b"" for nothing.

        Each SSE event is whole. `Failed` does not come here.
        """
        ...

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        ...

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a stream that broke: `content` is `Problem.content`."""
        ...


class AnswerDecoder(Protocol):
    """One upstream stream, read into events. An instance per attempt.

    What is not as the dialect promises is a `Failed` event, never an exception; after `Failed` or
    `Stopped` nothing comes any more, whatever the upstream still says.
    """

    def decode(self, block: bytes) -> list[Event]:
        """The events in a block of whole SSE events."""
        ...

    def decode_end(self) -> list[Event]:
        """The upstream has ended: [] after the end of the reply, else what is left of it."""
        ...


class ClientSide(Struct, frozen=True):
    """A dialect as callers speak it.

    read: (members of the body) -> Conversation. Raises Problem that names the field by its path.
    writer: a Writer for one request.
    ping: what keeps a silent stream alive between two events.
    """

    read: Callable[[Fields], Conversation]
    writer: Callable[[Caller], Writer]
    ping: bytes


class UpstreamSide(Struct, frozen=True):
    """A dialect as an upstream speaks it.

    write: (conversation, aim) -> Sent. Raises Problem, with the caller's path, for what this
        dialect cannot say. Deterministic: the same conversation gives the same bytes.
    reader: a Reader for one streamed answer.
    read: a whole unstreamed answer as events.
    """

    write: Callable[[Conversation, TargetModel], WrittenRequest]
    reader: Callable[[], AnswerDecoder]
    read: Callable[[bytes], list[Event]]
