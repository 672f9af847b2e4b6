"""What passing bytes through needs in any dialect: splice one value, rename one model.

The model's name is the only thing rewritten. A rename never touches text: a name inside a JSON
string is escaped (`\\"model\\"`), so the unescaped member can only be structure; where more than
one such member stands in a body, the object is taken apart and put together again with every other
value as the bytes it came in (`msgspec.Raw`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import msgspec

from middlewares import sse
from middlewares.exchange import Usage

from .neutral import Failed

Fields = dict[str, msgspec.Raw]
Echo = Mapping[str, Any]
"""Members of an answer that this gateway decided, not the upstream
(`Exchange.response_overrides`)."""
NO_ECHO: Echo = {}
NO_FIELDS: Fields = {}


encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(Fields).decode
decode_text = msgspec.json.Decoder(str).decode

KEEP_ALIVE = sse.comment("keep-alive")
"""A sign of life in the dialects that have no event for it; also in place of an upstream's own
comments, in which some write who they are."""

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


QUOTE, BACKSLASH = b'"\\'
"""As numbers, as `sse.LF` is."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not the JSON they should be."""


class UpstreamBroke(Exception):
    """The upstream's bytes are not what its dialect promises, or say that it failed.

    `kind` is the Problem kind it amounts to; `reason` is for the log: it may hold upstream text.
    `passed` is what the client still gets of the block in which it happened. said, wait: as in
    `Failed`.
    """

    def __init__(
        self,
        reason: str,
        kind: str = "upstream_error",
        *,
        said: str = "",
        wait: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.said = said
        self.wait = wait
        self.passed = b""

    @classmethod
    def by(cls, failed: Failed) -> Self:
        """As `failed` says."""
        return cls(failed.reason, failed.kind, said=failed.said, wait=failed.wait)


class Relay(Protocol):
    """One upstream stream on its way to one client. An instance per attempt."""

    complete: bool
    """Whether the stream has said that it ends well."""
    content: bool
    """Whether anything the model made has been seen. Pings and role frames do not count."""

    @property
    def usage(self) -> Usage | None:
        """Tokens as far as the upstream has told; of a translated answer that is complete, what it
        is charged by."""
        ...

    @property
    def said(self) -> int:
        """Bytes of text that the model made so far: for answers that nobody counted."""
        ...

    @property
    def estimated(self) -> bool:
        """Whether `usage` is not the upstream's own count."""
        ...

    @property
    def enough(self) -> bool:
        """Whether the caller has all it asked for while the upstream still goes on."""
        ...

    @property
    def answer(self) -> bytes:
        """The finished answer as an object, for dialects that keep answers; else b""."""
        ...

    def encode_failure(self, content: dict[str, Any]) -> bytes | None:
        """The end of a stream that broke, given `Problem.content`; None where no event is numbered,
        so that the dialect's usual one will do."""
        ...

    def relay(self, block: bytes) -> bytes:
        """What the client gets for a block of whole events; b"" for nothing.

        Raises UpstreamBroke.
        """
        ...

    def relay_end(self) -> bytes:
        """The upstream has ended: what the client still gets. Raises UpstreamBroke on a cut."""
        ...


class Prepare(Protocol):
    """The upstream's body.

    model: its name at the upstream. family: a name that tells what it is, see `sides.Aim`.
    """

    def __call__(self, fields: Fields, model: str, stream: bool, *, family: str = "") -> bytes: ...


class OpenRelay(Protocol):
    """The relay of a streamed answer. disclose: the answer may name who made it."""

    def __call__(
        self, fields: Fields, asked: str, echo: Echo, *, disclose: bool = False
    ) -> Relay: ...


class FinishPlain(Protocol):
    """The client's body and the usage of a whole answer. Raises UpstreamBroke.

    fields: of the request. disclose: the answer may name who made it.
    """

    def __call__(
        self,
        body: bytes,
        asked: str,
        echo: Echo,
        *,
        fields: Fields = NO_FIELDS,
        disclose: bool = False,
    ) -> tuple[bytes, Usage | None]: ...


class Dialect(msgspec.Struct, frozen=True):
    """How one dialect passes through. `asked` is the name the client reads as `model`."""

    prepare: Prepare
    relay: OpenRelay
    finish_plain: FinishPlain
    said: Callable[[bytes], int]
    """Bytes of text that the model made in a whole answer, as the upstream or the client has it."""
    ping: bytes
    """What keeps a silent stream alive between two events."""


def event_by_event(block: bytes, handle: Callable[[bytes], bytes]) -> bytes:
    """`handle` over each event of a block; what came before a failure is not lost with it.

    Comments, ids and retry times of an upstream go no further: they say who it is, and a client
    that has seen an id takes a comment for an event (openai/openai-python#2722).
    """
    out: list[bytes] = []
    for event in sse.split(block):
        try:
            out.append(handle(sse.bare(event)))
        except UpstreamBroke as broke:
            broke.passed = b"".join([*out, broke.passed])
            raise
        except UNREADABLE:  # bytes that are no UTF-8, where nobody has looked before
            unreadable = UpstreamBroke("a frame cannot be read")
            unreadable.passed = b"".join(out)
            raise unreadable from None
    return out[0] if len(out) == 1 else b"".join(out)


def without_data(event: bytes) -> bytes:
    """What the client gets for an event without data: a sign of life for a comment."""
    return KEEP_ALIVE if event.lstrip().startswith(b":") else b""


def rename(body: bytes, theirs: str, asked: str) -> bytes:
    """`body`, a JSON object whose top-level `model` is `theirs`, with `asked` in its place."""
    renamed = spliced(body, theirs, asked)
    if renamed is not None:
        return renamed
    fields = decode_fields(body)
    fields["model"] = msgspec.Raw(encode(asked))
    return encode(fields)


def spliced(body: bytes, theirs: str, asked: str) -> bytes | None:
    """The same of a body in which nothing else is called `model`; None where something may be."""
    if body.count(b'"model"') != 1:
        return None
    match = _MODEL.search(body)
    if match is None or not _says(match, theirs):
        return None
    start, end = match.span(1)
    return body[:start] + encode(asked) + body[end:]


def spelling_of_model(event: bytes, theirs: str) -> bytes:
    """The member `model` as `event` writes it, whose value is `theirs`. Raises UpstreamBroke."""
    for match in _MODEL.finditer(event):
        if _says(match, theirs):
            return match[0]
    raise UpstreamBroke("the model's name is not where it should be")


def _says(member: re.Match[bytes], name: str) -> bool:
    try:
        return decode_text(member[1]) == name
    except UNREADABLE:  # a member deeper down, which nobody has decoded before
        return False


class Renamer:
    """Rename the model in frame after frame of one stream at the speed of `bytes.replace`.

    The exact bytes of the member are learnt from the first frame that has it, since an upstream
    may answer with a longer name than it was asked for, and spaces as it likes.
    """

    __slots__ = ("member", "ours")

    def __init__(self, asked: str) -> None:
        self.member = b""
        """The member as this upstream writes it; b"" until learnt."""
        self.ours = b'"model":' + encode(asked)

    def learn(self, event: bytes, theirs: str) -> None:
        """Take the spelling of the member whose value is `theirs` from `event`."""
        self.member = spelling_of_model(event, theirs)

    def apply(self, event: bytes) -> bytes:
        """`event` with every spelling of the learnt member replaced."""
        return event.replace(self.member, self.ours) if self.member else event
