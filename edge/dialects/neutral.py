"""The neutral form: a conversation, and a reply as a sequence of events.

It is no vendor's shape. A dialect's decoders make it, its encoders use it, and neither knows the
other's dialect. Text is `str`; JSON that passes through untouched (arguments of tool calls) is the
text it came as.

Theory of operation of a reply. A decoder gives these events, in this order and nothing else:

    reply     Started  (Counted | block)*  Stopped        or, anywhere after Started: Failed
    block     TextDelta+ Cited* Closed
              RefusalDelta+ Closed
              ThinkingDelta* Signed? Closed               at least one of the two
              ToolOpened ToolDelta* Closed

One block is open at a time; `Closed` ends it, before the next begins and before `Stopped`. Deltas
are never empty. Exactly one of `Stopped` and `Failed` comes, and it is the last event. A figure of
usage replaces those before it (`Counted`, `Stopped.usage`); figures are never added.

An unstreamed body is the `fold` of such a sequence, so a stream and its unstreamed twin cannot
differ.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from middlewares.exchange import Usage

# What is said ------------------------------------------------------------------------------------


class Cache(Struct, frozen=True):
    """A mark up to which the prompt may be cached. ttl: "5m", "1h", or None for the default."""

    ttl: str | None = None


class Citation(Struct, frozen=True):
    """Where a text comes from. start and end: offsets in characters of the whole text, if known."""

    url: str = ""
    title: str = ""
    quoted: str = ""
    start: int | None = None
    end: int | None = None


class Text(Struct, kw_only=True):
    """Text, of the user, of the system or of the model."""

    text: str
    cache: Cache | None = None
    citations: tuple[Citation, ...] = ()


class Refusal(Struct, kw_only=True):
    """Text by which the model declined."""

    text: str


class Image(Struct, kw_only=True):
    """A picture: `data` (base64) with its `media_type`, or `url`, or a vendor's `file_id`.

    at: path of the block in the caller's request, for errors.
    """

    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    detail: str = ""
    cache: Cache | None = None
    at: str = ""


class Document(Struct, kw_only=True):
    """A file: `data` (base64) with its `media_type`, `url`, `file_id`, plain `text`, or `blocks`.

    at: path of the block in the caller's request, for errors.
    """

    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    text: str = ""
    blocks: tuple["Text | Image", ...] = ()
    name: str = ""
    context: str = ""
    cache: Cache | None = None
    at: str = ""


class Audio(Struct, kw_only=True):
    """Sound: base64 and its format ("wav", "mp3")."""

    data: str
    format: str
    at: str = ""


class Origin(Struct, frozen=True):
    """Who made something that only its maker can read back.

    dialect: "anthropic", "responses" or "openai". model: `opaque.fingerprint` of the upstream's
    model, or "" for what came in the vendor's own form, whose model nobody told us.
    """

    dialect: str
    model: str = ""


class Opaque(Struct, frozen=True, kw_only=True):
    """What a vendor put beside its thinking to recognise it by; replayed to its maker only.

    data: Anthropic's signature, or the data of redacted thinking; OpenAI's encrypted content.
    id: the item it belongs to (Responses). redacted: there never was a text to it.
    """

    origin: Origin
    data: str
    id: str = ""
    redacted: bool = False


class Thinking(Struct, kw_only=True):
    """Reasoning the model showed. The text may be empty while `opaque` is not."""

    text: str = ""
    opaque: Opaque | None = None


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


class ToolCall(Struct, kw_only=True):
    """The model calls a tool. arguments: JSON text of an object; raw text when `custom`."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    namespace: str = ""
    cache: Cache | None = None

    @property
    def full_name(self) -> str:
        """As `PromptTool.full_name`."""
        return _full_name(self.namespace, self.name)


class ToolResult(Struct, kw_only=True):
    """What the tool gave back for the call `id`."""

    id: str
    content: tuple["Text | Image | Document", ...] = ()
    failed: bool = False
    custom: bool = False
    cache: Cache | None = None


Block = Text | Refusal | Image | Document | Audio | Thinking | ToolCall | ToolResult


class Turn(Struct):
    """One speaker's blocks, in order. Tool results are the user's.

    "system" is an instruction in the middle of a conversation; those before it are
    `ConversationKey.system`.
    """

    role: Literal["user", "assistant", "system"]
    blocks: list[Block]


# What is asked -----------------------------------------------------------------------------------


class Tool(Struct, kw_only=True):
    """A tool the model may call.

    kind: "function" has `schema`, the JSON Schema of its arguments; "custom" takes free text, by
        the grammar `format` if there is one (as OpenAI writes it); "hosted" is run by the vendor
        whose definition stands in `raw`: nothing of it crosses to another one.
    schema: None when the caller gave none.
    namespace: group it belongs to (Responses); its full name is then "namespace__name".
    """

    name: str
    kind: Literal["function", "custom", "hosted"] = "function"
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None
    namespace: str = ""
    raw: dict[str, Any] | None = None
    cache: Cache | None = None

    @property
    def full_name(self) -> str:
        """The name by which a target without namespaces knows it."""
        return _full_name(self.namespace, self.name)

    @property
    def guide(self) -> str:
        """The description for a target without free-text tools: with the grammar of the text."""
        grammar = self.format or {}
        inner = grammar.get("grammar", grammar)
        definition = inner.get("definition") if isinstance(inner, dict) else None
        if not definition:
            return self.description
        syntax = inner.get("syntax") or "grammar"
        rule = f"The input must match this {syntax} grammar:\n{definition}"
        return f"{self.description}\n\n{rule}" if self.description else rule


class ToolChoice(Struct, frozen=True, kw_only=True):
    """mode "one": the tool `name` must be called. allowed: full names of the only tools offered."""

    mode: Literal["auto", "any", "none", "one"] = "auto"
    name: str = ""
    allowed: tuple[str, ...] | None = None


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Reasoning(Struct, frozen=True, kw_only=True):
    """How much to think.

    effort: one of EFFORTS. mode and budget (tokens): as Anthropic's `thinking` says them.
    shown: whether the caller wants to see it; None: it did not say.
    """

    effort: str | None = None
    mode: Literal["", "enabled", "adaptive", "between_tools", "disabled"] = ""
    budget: int | None = None
    shown: bool | None = None


class OutputFormat(Struct, frozen=True, kw_only=True):
    """A structured answer. `schema` only with kind "json_schema".

    path: where the schema stands in the caller's body.
    """

    kind: Literal["json_object", "json_schema"]
    name: str = "output"
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    path: str = "response_format"


class Conversation(Struct, kw_only=True):
    """What a caller asks, in no vendor's words. None and empty mean: not said.

    system: the instructions at the beginning, in order.
    tier: "auto", "default", "priority" or "flex" (OpenAI's words).
    user: id of the caller's own user. session: a stable id of the conversation, for caches.
    metadata: what the caller attached, in its own words.
    large: as in `Exchange`. legacy_functions: the caller speaks `functions`, and is answered with
        `function_call`.
    bag: members of the caller's body that only its own vendor knows, as they came.
    dropped: what had no place in the target, each in a few words; for the log.
    """

    turns: list[Turn]
    system: list[Text] = []
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: Reasoning | None = None
    output: OutputFormat | None = None
    verbosity: str | None = None
    tier: str | None = None
    user: str = ""
    session: str = ""
    metadata: dict[str, Any] | None = None
    top_logprobs: int | None = None
    stream: bool = False
    large: bool = False
    legacy_functions: bool = False
    cache: Cache | None = None
    bag: dict[str, msgspec.Raw] = {}
    dropped: list[str] = []

    def calls(self) -> Iterator[ToolCall]:
        """Every tool call of the history."""
        for turn in self.turns:
            for block in turn.blocks:
                if isinstance(block, ToolCall):
                    yield block


# What is answered --------------------------------------------------------------------------------

Stop = Literal["end", "stop_sequence", "length", "tool_use", "refusal", "pause"]


class Started(Struct, gc=False):
    """The model has begun."""


class TextDelta(Struct, gc=False):
    """More of the answer."""

    text: str


class RefusalDelta(Struct, gc=False):
    """More of the words by which the model declines."""

    text: str


class Cited(Struct, gc=False):
    """A source of the open text."""

    citation: Citation


class ThinkingDelta(Struct, gc=False):
    """More of the thinking."""

    text: str


class Signed(Struct, gc=False):
    """What its maker will recognise the open thinking by; just before its Closed.

    The origin's model is "": the crossing knows it.
    """

    opaque: Opaque


class ToolOpened(Struct, gc=False):
    """A tool call begins. id: "" when the upstream gave none."""

    id: str
    name: str
    custom: bool = False
    namespace: str = ""


class ToolDelta(Struct, gc=False):
    """More of the open call's arguments: JSON text, or raw text of a custom tool."""

    text: str


class Closed(Struct, gc=False):
    """The open block is complete."""


class Counted(Struct, gc=False):
    """Tokens as far as the upstream has told."""

    usage: Usage


class Stopped(Struct, gc=False):
    """The reply is complete.

    sequence: the stop string, when that is the reason and it is known.
    explanation: of a refusal, in the model's words. usage: None when the upstream never told.
    """

    reason: Stop
    sequence: str | None = None
    explanation: str | None = None
    usage: Usage | None = None


class Failed(Struct, gc=False):
    """The upstream broke off.

    kind: of `middlewares.problem.KINDS`; reason: for the log. said: the upstream's own words, for
    callers to whom it is disclosed. wait: seconds for which it asked to be left alone.
    """

    reason: str
    kind: str = "upstream_error"
    said: str = ""
    wait: int | None = None


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | Cited
    | ThinkingDelta
    | Signed
    | ToolOpened
    | ToolDelta
    | Closed
    | Counted
    | Stopped
    | Failed
)

CONTENT = (TextDelta, RefusalDelta, ThinkingDelta, Signed, ToolOpened, Stopped)
"""The events that show that the model has made something. (Stopped: that it made nothing.)"""


class Reply(Struct):
    """A whole answer. failed is set when the sequence broke off, and what came before it stands."""

    blocks: list[Text | Refusal | Thinking | ToolCall]
    stop: Stop = "end"
    sequence: str | None = None
    explanation: str | None = None
    usage: Usage | None = None
    failed: Failed | None = None


def fold(events: Iterable[Event]) -> Reply:
    """The reply that `events` make up."""
    reply = Reply(blocks=[])
    text: list[str] = []
    cited: list[Citation] = []
    open_: Text | Refusal | Thinking | ToolCall | None = None
    for event in events:
        match event:
            case TextDelta():
                open_ = open_ or Text(text="")
                text.append(event.text)
            case RefusalDelta():
                open_ = open_ or Refusal(text="")
                text.append(event.text)
            case ThinkingDelta():
                open_ = open_ or Thinking()
                text.append(event.text)
            case ToolDelta():
                text.append(event.text)
            case Cited() if isinstance(open_, Text):
                cited.append(event.citation)
            case Signed():
                open_ = open_ if isinstance(open_, Thinking) else Thinking()
                open_.opaque = event.opaque
            case ToolOpened():
                open_ = ToolCall(
                    id=event.id, name=event.name, custom=event.custom, namespace=event.namespace
                )
            case Closed() if open_ is not None:
                if isinstance(open_, ToolCall):
                    open_.arguments = "".join(text)
                else:
                    open_.text = "".join(text)
                if cited:
                    if isinstance(open_, Text):
                        open_.citations = tuple(cited)
                    cited.clear()
                reply.blocks.append(open_)
                open_ = None
                text.clear()
            case Counted():
                reply.usage = event.usage
            case Stopped():
                reply.stop, reply.sequence = event.reason, event.sequence
                reply.explanation = event.explanation
                reply.usage = event.usage or reply.usage
            case Failed():
                reply.failed = event
            case _:
                pass
    return reply


def unfold(reply: Reply) -> Iterator[Event]:
    """The shortest sequence of events whose `fold` is `reply`."""
    yield Started()
    for block in reply.blocks:
        match block:
            case Text():
                if not block.text:
                    continue
                yield TextDelta(block.text)
                for citation in block.citations:
                    yield Cited(citation)
            case Refusal():
                if not block.text:
                    continue
                yield RefusalDelta(block.text)
            case Thinking():
                if not (block.text or block.opaque):
                    continue
                if block.text:
                    yield ThinkingDelta(block.text)
                if block.opaque is not None:
                    yield Signed(block.opaque)
            case ToolCall():
                yield ToolOpened(block.id, block.name, block.custom, block.namespace)
                if block.arguments:
                    yield ToolDelta(block.arguments)
        yield Closed()
    if reply.failed is not None:
        yield reply.failed
        return
    yield Stopped(reply.stop, reply.sequence, reply.explanation, reply.usage)
