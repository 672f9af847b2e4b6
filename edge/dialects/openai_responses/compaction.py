"""POST /v1/responses/compact for upstreams without compaction.

The model is asked for a summary of the conversation. The caller gets a compaction item with the
summary encrypted (`edge.dialects.sealing`). When it is sent back as input, it is replaced by a
message with the summary before the request is decoded (`revealed`).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from edge.dialects.codec import Caller, ClientSide
from edge.dialects.conversation import (
    Conversation,
    Text,
    ToolChoice,
    Turn,
)
from edge.dialects.errors import failed_by
from edge.dialects.events import Reply
from edge.dialects.passthrough import (
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    Relay,
    UpstreamError,
    encode,
)
from edge.dialects.sealing import MARK
from edge.requests.known_turns import TurnMarks, has_mark
from edge.untyped_json import number
from edge.vendors.errors.redact import redacted
from middlewares.exchange import Usage
from middlewares.problem import Problem, invalid_value

from .editing import ResponsesEditor
from .response_object import usage_of
from .wire import NULL, usage_in

_ASK = (
    "Your context is nearly used up. Write down what is needed to go on with this conversation "
    "without having seen it: what the user wants and has decided, what was done and found, files, "
    "names, commands and figures word for word where they matter, what failed and why, and what "
    "comes next. Call no tool. Answer with these notes and nothing else."
)
PURPOSE = "compaction"
_BEFORE = "Notes on the conversation so far, which was shortened:\n\n"

Sealer = Callable[[str, bytes], str]
"""(owner, payload) -> text that only this gateway can decrypt."""
Opener = Callable[[str, str], bytes | None]
"""(owner, text) -> payload; None if the text is not ours or not this owner's."""


def client(read: Callable[[Fields], Conversation], sealer: Sealer) -> ClientSide:
    """The caller's side of compaction. read: of the Responses dialect."""

    def read_compaction(fields: Fields) -> Conversation:
        conversation = read({name: raw for name, raw in fields.items() if name != "text"})
        conversation.turns.append(Turn("user", [Text(text=_ASK)]))
        if conversation.tools:
            conversation.tool_choice = ToolChoice(mode="none")
        return conversation

    return ClientSide(
        read=read_compaction, writer=lambda caller: CompactionWriter(caller, sealer), ping=b""
    )


class CompactionWriter:
    """Encodes a summary as a compaction object (OpenAI API, "Compact a response"); no stream."""

    answer = b""

    def __init__(self, caller: Caller, sealer: Sealer) -> None:
        self._caller = msgspec.structs.replace(caller, fields={})  # a request can be megabytes
        self._sealer = sealer

    def encode(self, events: object) -> bytes:
        """Compaction is not streamed."""
        raise NotImplementedError("a compaction is not streamed")

    def encode_text(self, text: str) -> bytes:
        """Compaction is not streamed."""
        raise NotImplementedError("a compaction is not streamed")

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """Compaction is not streamed."""
        raise NotImplementedError("a compaction is not streamed")

    def encode_body(self, reply: Reply) -> bytes:
        """The object. Raises UpstreamError if the reply has no summary."""
        summary = "".join(block.text for block in reply.blocks if isinstance(block, Text)).strip()
        if not summary:
            raise UpstreamError(f"no summary came; the reply stopped with {redacted(reply.stop)}")
        caller = self._caller
        item = {
            "id": f"cmp_{caller.id}",
            "type": "compaction",
            "encrypted_content": self._sealer(caller.owner, summary.encode()),
        }
        return encode(
            {
                "id": f"resp_{caller.id}",
                "object": "response.compaction",
                "created_at": caller.created,
                "output": [item],
                "usage": usage_of(reply.usage or Usage()),
            }
        )


def prepare(
    fields: Fields,
    model: str,
    stream: bool,
    *,
    family: str = "",
    marks: TurnMarks | None = None,
) -> bytes:
    """The body for an upstream with its own compaction: only the model changes."""
    kept = {name: raw for name, raw in fields.items() if name not in ("store", "stream")}
    return encode({**kept, "model": msgspec.Raw(encode(model))})


def relay(fields: Fields, requested_model: str, echo: Echo, *, disclose: bool = False) -> Relay:
    """A compaction is not streamed."""
    raise NotImplementedError("a compaction is not streamed")


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The upstream's compaction, whose content only the upstream reads."""
    editor = ResponsesEditor(requested_model, NO_ECHO, disclose=disclose)
    try:
        answer = _decode_answer(body)
        if answer.object != "response.compaction" or not answer.output:
            raise UpstreamError.by(failed_by(body))
        if editor.tells(body):
            body = encode(editor.response(body))
    except UNREADABLE as error:
        raise UpstreamError(f"the answer is not a compaction: {error}") from None
    return body, usage_in(answer)


def output_size(body: bytes) -> int:
    """Bytes of the encrypted text in a compaction."""
    try:
        items = [_decode_item(item) for item in _decode_answer(body).output]
    except UNREADABLE:
        return 0
    return sum(len(item.encrypted_content or "") * 3 // 4 for item in items)


DIALECT = PassthroughCodec(
    prepare=prepare, relay=relay, finish_body=finish_body, output_size=output_size, ping=b""
)


def may_hold_compaction(fields: Fields, marks: TurnMarks | None = None) -> bool:
    """Whether `input` may contain a compaction: a search of its bytes."""
    given = fields.get("input")
    return given is not None and has_mark(given, b'"compaction', marks)


def revealed(fields: Fields, owner: str, opener: Opener) -> Fields:
    """`fields` with each of our compaction items in `input` replaced by its summary.

    Other items stay: they may be the upstream's own. Raises Problem for an item with our mark that
    cannot be decrypted: it is another caller's, or altered, and no upstream can read it.
    """
    if not may_hold_compaction(fields):
        return fields
    try:
        items = _decode_items(fields["input"])
    except UNREADABLE:
        return fields
    found = [_revealed(item, owner, opener, f"input[{at}]") for at, item in enumerate(items)]
    return {**fields, "input": msgspec.Raw(encode(found))}


def _revealed(item: msgspec.Raw, owner: str, opener: Opener, path: str) -> msgspec.Raw:
    try:
        known = _decode_item(item)
    except UNREADABLE:
        return item
    if known.type not in ("compaction", "compaction_summary") or not known.encrypted_content:
        return item
    summary = opener(owner, known.encrypted_content)
    if summary is None:
        if known.encrypted_content.startswith(MARK):
            raise _unopened(path)
        return item
    text = _BEFORE + summary.decode()
    message = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
    return msgspec.Raw(encode(message))


def _unopened(path: str) -> Problem:
    field = f"{path}.encrypted_content"
    issue = "expected a compaction that was made for this key"
    return invalid_value(field, issue, issue=issue)


class _Answer(msgspec.Struct):
    object: str = ""
    output: list[msgspec.Raw] = []
    usage: msgspec.Raw = NULL
    service_tier: Any = None


class _Item(msgspec.Struct):
    type: str = ""
    encrypted_content: str | None = None


_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_answer = msgspec.json.Decoder(_Answer, float_hook=number).decode
_decode_item = msgspec.json.Decoder(_Item).decode
