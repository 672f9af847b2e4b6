"""The conversation of a request, in no vendor's shape.

A dialect's `read_request` makes a `Conversation` of a caller's body, another dialect's
`write_request` makes an upstream's body of it; neither knows the other dialect. Text is `str`. JSON
that passes through untouched (arguments of tool calls) stays the text it came as.
"""

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Raw, Struct

# Blocks ------------------------------------------------------------------------------------------


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
    """Text of the user, the system or the model."""

    text: str
    cache: Cache | None = None
    citations: tuple[Citation, ...] = ()


class Refusal(Struct, kw_only=True):
    """The text with which the model refused."""

    text: str


class Image(Struct, kw_only=True):
    """A picture: `data` (base64) with its `media_type`, or `url`, or the `file_id` of a file at the
    target's vendor.

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
    """A file: `data` (base64) with its `media_type`, `url`, the `file_id` of a file at the target's
    vendor, plain `text`, or `blocks`.

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
    """The dialect and model that made a signature; only they accept it.

    dialect: "anthropic", "responses" or "openai". model: `signatures.fingerprint` of the upstream's
    model, or "" for a signature in the vendor's own form, whose model is not known.
    """

    dialect: str
    model: str = ""


class Signature(Struct, frozen=True, kw_only=True):
    """A vendor's signature of its thinking, or its encrypted form; sent back to its maker only.

    data: Anthropic's signature, or the data of redacted thinking; OpenAI's encrypted content.
    id: the item it belongs to (Responses). redacted: the thinking has no text.
    """

    origin: Origin
    data: str
    id: str = ""
    redacted: bool = False


class Thinking(Struct, kw_only=True):
    """The model's reasoning. The text may be empty if there is a `signature`."""

    text: str = ""
    signature: Signature | None = None


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


class ToolCall(Struct, kw_only=True):
    """A call of a tool. arguments: JSON text of an object; raw text when `custom`."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    namespace: str = ""
    cache: Cache | None = None

    @property
    def full_name(self) -> str:
        """As `Tool.full_name`."""
        return _full_name(self.namespace, self.name)


class ToolResult(Struct, kw_only=True):
    """The result of the tool call `id`."""

    id: str
    content: tuple["Text | Image | Document", ...] = ()
    failed: bool = False
    custom: bool = False
    cache: Cache | None = None


Block = Text | Refusal | Image | Document | Audio | Thinking | ToolCall | ToolResult


class Turn(Struct):
    """One speaker's blocks, in order. Tool results are the user's.

    "system" is an instruction in the middle of a conversation; those before it are
    `Conversation.system`.
    """

    role: Literal["user", "assistant", "system"]
    blocks: list[Block]


# Settings -----------------------------------------------------------------------------------------


class Tool(Struct, kw_only=True):
    """A tool the model may call.

    kind: "function" has `schema`, the JSON Schema of its arguments; "custom" takes free text, by
        the grammar `format` if there is one (as OpenAI writes it); "hosted" is run by the vendor
        whose definition is in `raw`, and is not translated for another vendor.
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
        """The tool's name for a target without namespaces."""
        return _full_name(self.namespace, self.name)

    @property
    def guide(self) -> str:
        """The description for a target without free-text tools: it includes the grammar."""
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
    """How much the model should think.

    effort: one of EFFORTS. mode, budget (tokens): as in Anthropic's `thinking`.
    shown: whether the caller wants to see the thinking; None if it did not say.
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
    """A caller's request, in no vendor's shape. None and empty mean: not set.

    system: the instructions at the beginning, in order.
    tier: "auto", "default", "priority" or "flex" (OpenAI's words).
    user: id of the caller's own user. session: a stable id of the conversation, for caches.
    metadata: the caller's own members.
    large: long texts are written in pieces (`edge.requests.body_limits`).
    legacy_functions: the caller sends `functions` and is answered with `function_call`.
    bag: members of the caller's body that only its own vendor knows, unchanged.
    dropped: what the target's dialect cannot express, each in a few words; for the log.
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
    bag: dict[str, Raw] = {}
    dropped: list[str] = []

    def calls(self) -> Iterator[ToolCall]:
        """Every tool call of the history."""
        for turn in self.turns:
            for block in turn.blocks:
                if isinstance(block, ToolCall):
                    yield block
