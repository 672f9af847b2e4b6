"""Choose the dialect of a request by its own shape, at paths of several dialects.

Theory of operation. Each step decides if it has signs of one vendor only; signs of both, or none,
leave the decision to the next step.

    1. headers that only Anthropic's clients send, such as `anthropic-version`
    2. names of members: `system` is Anthropic's, `max_completion_tokens` is OpenAI's
    3. messages: roles and members that only OpenAI has, such as "tool" and `tool_calls`
    4. forms of tools and content: `input_schema`, blocks such as `tool_use`
    5. headers of OpenAI's clients, and user agents that name a vendor
    6. the preference of the path

The body is stronger than a user agent: SDKs send any body to any URL. Members come before forms,
because Cursor sends Anthropic's tools and blocks in a body of Chat Completions, and reads an answer
of Chat Completions. A body with `input` and without `messages` is one of Responses, whatever else
it has; where the path is that of Chat Completions, that endpoint reads it (`misdirected_body`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from edge.endpoints import Endpoint, PathRules
from middlewares.asgi import Header
from middlewares.exchange import Dialect

from .body_limits import PIECE
from .misdirected_body import speaks_responses
from .regex_windows import found

Fields = Mapping[str, msgspec.Raw]
Vendor = Literal["openai", "anthropic"]

ANTHROPIC_MEMBERS: Final = frozenset(
    (
        "anthropic_beta",
        "anthropic_version",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "output_config",
        "stop_sequences",
        "system",
    )
)
"""Members of a body that only Anthropic's dialect has."""
OPENAI_MEMBERS: Final = frozenset(
    (
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "min_p",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
        "web_search_options",
    )
)
"""Members of a body that only Chat Completions has, at its vendor or at other servers. `thinking`,
`top_k` and `metadata` are in neither list: both dialects have them."""
_ROLES = frozenset((b'"system"', b'"developer"', b'"tool"', b'"function"'))
"""Roles of messages that only Chat Completions has."""
_BLOCKS = frozenset(
    (
        b'"tool_use"',
        b'"tool_result"',
        b'"thinking"',
        b'"redacted_thinking"',
        b'"server_tool_use"',
        b'"web_search_tool_result"',
        b'"search_result"',
        b'"container_upload"',
    )
)
"""Types of content that only Anthropic's dialect has, beside blocks with a `source`."""
_OPENAI_BLOCKS = frozenset(
    (
        b'"image_url"',
        b'"input_audio"',
        b'"input_file"',
        b'"input_image"',
        b'"input_text"',
        b'"refusal"',
    )
)
"""Types of content that only OpenAI's dialects have; Chat Completions takes those of Responses."""
_CHOICES = frozenset((b'"auto"', b'"any"', b'"tool"', b'"none"'))
"""Types of `tool_choice` as an object, in Anthropic's dialect."""
_DATED = re.compile(rb'_[0-9]{8}"$')
"""Types of tools that Anthropic runs: "web_search_20250305"."""
_ANTHROPIC_FORM = re.compile(
    rb'"type"\s*:\s*(?:' + b"|".join(sorted(_BLOCKS)) + rb')|"source"\s*:\s*\{'
)
_OPENAI_FORM = re.compile(
    rb'"type"\s*:\s*(?:'
    + b"|".join(sorted(_OPENAI_BLOCKS))
    + rb')|"(?:image_url|input_audio|file)"\s*:\s*\{'
)
"""The same signs in content that is too long to be decoded in one call. Inside of a text the quotes
would be escaped."""

_ABSENT = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    role: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT
    tool_calls: msgspec.Raw = _ABSENT
    tool_call_id: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT


class _Part(msgspec.Struct):
    type: msgspec.Raw = _ABSENT
    source: msgspec.Raw = _ABSENT
    image_url: msgspec.Raw = _ABSENT
    input_audio: msgspec.Raw = _ABSENT
    file: msgspec.Raw = _ABSENT


class _Tool(msgspec.Struct):
    type: msgspec.Raw = _ABSENT
    input_schema: msgspec.Raw = _ABSENT
    function: msgspec.Raw = _ABSENT
    custom: msgspec.Raw = _ABSENT
    parameters: msgspec.Raw = _ABSENT


_messages_of = msgspec.json.Decoder(list[_Message]).decode
_parts_of = msgspec.json.Decoder(list[_Part]).decode
_tools_of = msgspec.json.Decoder(list[_Tool]).decode
_tool_of = msgspec.json.Decoder(_Tool).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def dialect_of_headers(headers: Iterable[Header], rules: PathRules) -> Dialect:
    """The dialect of a request whose body is not read yet, for its refusals."""
    vendor, _ = header_signs(headers)
    return _fitting(rules, vendor, turns=False)


def row_of(rules: PathRules, headers: Iterable[Header], fields: Fields) -> Endpoint:
    """The endpoint of a request with these members, at a path with `rules`. Never fails."""
    rows = rules.rows
    if len(rows) > 1:
        vendor, certain = header_signs(headers)
        if not certain:
            if speaks_responses(fields):
                if "responses" in rows:
                    return rows["responses"]
                vendor = "openai"
            else:
                vendor = body_signs(fields) or vendor
        return rows[_fitting(rules, vendor, turns="messages" in fields)]
    return next(iter(rows.values()))


def _fitting(rules: PathRules, vendor: Vendor | None, *, turns: bool) -> Dialect:
    """The dialect of the path that fits the signs. turns: whether the body has `messages`."""
    dialect: Dialect = vendor or rules.prefer
    if turns and dialect == "responses":
        dialect = "openai"
    elif not turns and dialect == "openai" and rules.prefer == "responses":
        dialect = "responses"
    return dialect if dialect in rules.rows or not rules.rows else rules.prefer


def header_signs(headers: Iterable[Header]) -> tuple[Vendor | None, bool]:
    """The vendor that the headers are signs of, and whether no body can overrule them.

    `x-stainless-*` are of the SDKs of both vendors, but Anthropic's always send its version too.
    """
    agent = b""
    vendors_sdk = False
    for name, value in headers:
        if name.startswith(b"anthropic-"):
            return "anthropic", True
        if name == b"user-agent":
            agent = value.lower()
        elif name.startswith((b"openai-", b"x-stainless-")):
            vendors_sdk = True
    named = _only(
        anthropic=b"anthropic" in agent or agent.startswith(b"claude-"),
        openai=b"openai" in agent or agent.startswith(b"codex"),
    )
    return named or ("openai" if vendors_sdk else None), False


def body_signs(fields: Fields) -> Vendor | None:
    """The vendor that a body with `messages` is a sign of. Never fails."""
    named = _only(
        anthropic=not ANTHROPIC_MEMBERS.isdisjoint(fields),
        openai=not OPENAI_MEMBERS.isdisjoint(fields),
    )
    if named is not None:
        return named
    messages = _messages(fields)
    if any(map(_is_openai, messages)):
        return "openai"
    seen = set(_forms(fields, messages))
    return _only(anthropic="anthropic" in seen, openai="openai" in seen)


def _only(*, anthropic: bool, openai: bool) -> Vendor | None:
    """The one that there are signs of; None of both or neither."""
    if anthropic == openai:
        return None
    return "anthropic" if anthropic else "openai"


def _messages(fields: Fields) -> list[_Message]:
    raw = fields.get("messages")
    if raw is None:
        return []
    try:
        return _messages_of(raw)
    except _UNREADABLE:
        return []


def _is_openai(message: _Message) -> bool:
    return (
        message.tool_calls is not _ABSENT
        or message.tool_call_id is not _ABSENT
        or message.function_call is not _ABSENT
        or bytes(message.role) in _ROLES
    )


def _forms(fields: Fields, messages: Iterable[_Message]) -> Iterator[Vendor]:
    """The signs in tools, in the choice of a tool, and in content."""
    if "tools" in fields:
        yield from _forms_of_tools(fields["tools"])
    if "tool_choice" in fields:
        yield from _form_of_choice(fields["tool_choice"])
    for message in messages:
        if _starts_with(message.content, b"["):
            yield from _forms_of_content(message.content)


def _forms_of_tools(raw: msgspec.Raw) -> Iterator[Vendor]:
    try:
        tools = _tools_of(raw)
    except _UNREADABLE:
        return
    for tool in tools:
        if tool.input_schema is not _ABSENT or _DATED.search(bytes(tool.type)):
            yield "anthropic"
        elif any(one is not _ABSENT for one in (tool.function, tool.custom, tool.parameters)):
            yield "openai"


def _form_of_choice(raw: msgspec.Raw) -> Iterator[Vendor]:
    if _starts_with(raw, b'"'):
        yield "openai"
    elif _starts_with(raw, b"{"):
        try:
            yield "anthropic" if bytes(_tool_of(raw).type) in _CHOICES else "openai"
        except _UNREADABLE:
            return


def _forms_of_content(raw: msgspec.Raw) -> Iterator[Vendor]:
    if len(raw) > PIECE:
        if found(_ANTHROPIC_FORM, raw):
            yield "anthropic"
        if found(_OPENAI_FORM, raw):
            yield "openai"
        return
    try:
        parts = _parts_of(raw)
    except _UNREADABLE:
        return
    for part in parts:
        if part.source is not _ABSENT or bytes(part.type) in _BLOCKS:
            yield "anthropic"
        elif bytes(part.type) in _OPENAI_BLOCKS or any(
            one is not _ABSENT for one in (part.image_url, part.input_audio, part.file)
        ):
            yield "openai"


def _starts_with(raw: msgspec.Raw, first: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == first
