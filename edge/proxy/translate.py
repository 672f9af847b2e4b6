"""Translators between the caller's dialect and the upstream's.

    Passthrough   the same dialect: bytes pass, the model's name is replaced
    Translation   another dialect: through the neutral form (`translation`)

`translator_for` chooses. A translator serves one attempt: it makes the upstream's body, then
either a `relay` for a stream or `finish_body` for a whole answer.
"""

import re
from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from edge.billing.token_estimate import Estimator
from edge.dialects import anthropic_messages, openai_chat, openai_completions, openai_responses
from edge.dialects.anthropic_messages import passthrough as messages_passthrough
from edge.dialects.codec import ClientSide, Spelled, TargetModel, UpstreamSide
from edge.dialects.conversation import Conversation
from edge.dialects.foreign_signatures import without_foreign_signatures
from edge.dialects.openai_chat import passthrough as chat_passthrough
from edge.dialects.openai_embeddings import DIALECT as EMBEDDINGS
from edge.dialects.openai_responses import passthrough as responses_passthrough
from edge.dialects.openai_responses.compaction import DIALECT as COMPACTION
from edge.dialects.passthrough import UNREADABLE, Fields, PassthroughCodec, Relay
from edge.dialects.plain_json import DIALECT as OBJECTS
from edge.dialects.signatures import fingerprint
from edge.dialects.token_counts import (
    is_plausible,
    plausible_usage,
    requested_choices,
    settle_usage,
)
from edge.endpoints import SERVED_BY, Codec, Endpoint
from edge.media.forms import FormBody
from edge.requests.known_turns import TurnMarks
from edge.requests.misdirected_body import speaks_responses
from edge.requests.regex_windows import found
from edge.upstreams import RequestBody
from middlewares.exchange import Dialect, Exchange, Usage
from middlewares.pricing import Price
from middlewares.problem import Problem

from .media_passthrough import media_passthrough
from .transcription import TranscriptTranslator
from .translation import Translation

PASSTHROUGH: Mapping[str, PassthroughCodec] = {
    "openai": chat_passthrough.DIALECT,
    "anthropic": messages_passthrough.DIALECT,
    "responses": responses_passthrough.DIALECT,
}
"""Passthrough by dialect, if caller and upstream speak the same."""

_PASSTHROUGH_BY_CODEC: Mapping[Codec | None, PassthroughCodec] = {
    "compaction": COMPACTION,
    "embeddings": EMBEDDINGS,
    "object": OBJECTS,
}
"""Passthrough by codec, if the dialect has several."""

CLIENTS: Mapping[Codec, ClientSide] = {
    "chat": openai_chat.CLIENT,
    "completions": openai_completions.CLIENT,
    "responses": openai_responses.CLIENT,
    "messages": anthropic_messages.CLIENT,
}
"""The caller's side of each codec."""

UPSTREAMS: Mapping[Dialect, UpstreamSide] = {
    "openai": openai_chat.UPSTREAM,
    "responses": openai_responses.UPSTREAM,
    "anthropic": anthropic_messages.UPSTREAM,
}
"""The upstream's side of each dialect, preferred ones first."""

_WEB_SEARCH = "web_search_options"
"""The member of a chat that offers web search; answers do not count the searches."""
_STATE_MEMBERS = ("previous_response_id", "conversation", "background", "prompt")
"""Members of the Responses API that refer to stored state."""
_TOOL_BLOCKS = (b'"tool_use"', b'"tool_result"')
_TOOL_BLOCK = re.compile(rb'"type"\s*:\s*"tool_(?:use|result)"')
"""A call or a result as Anthropic writes it; within text the quotes would be escaped."""
_decode_tools = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_MAX_PREFIX = 4096
"""Tokens that a server may put before the inputs of a batch."""


class Translator(Protocol):
    """Translates one attempt."""

    dialect: Dialect
    """The upstream's."""
    path: bytes
    """Path of the upstream request, below the base URL."""
    ping: bytes
    """Bytes that keep the caller's stream alive between two events."""
    dropped: list[str]
    """What the upstream's dialect cannot express, for the log."""
    spelled: Spelled | None
    """Names of members where the two dialects differ."""

    def take_body(self) -> bytes:
        """The upstream's request body. Called once: it can be megabytes, and is not kept here."""
        ...

    def relay(self) -> Relay:
        """The translator of a streamed answer. Called once."""
        ...

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The caller's body, its usage, and whether the upstream reported all of that.

        Raises UpstreamError.
        """
        ...

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """Usage of a stream, and whether the upstream reported all of it; partial if incomplete."""
        ...


@runtime_checkable
class FilesTranslator(Protocol):
    """Translates one attempt whose body holds files, to an upstream that takes them in JSON."""

    def with_files(self, body: bytes) -> RequestBody:
        """`body`, a JSON object, with the files of the request."""
        ...


@runtime_checkable
class FormTranslator(Translator, Protocol):
    """Translates one attempt of a multipart endpoint."""

    def take_form(self) -> FormBody | None:
        """The upstream's request body as a form; None: `take_body` has it as JSON."""
        ...


def passthrough_for(
    exchange: Exchange,
    dialects: Collection[Dialect],
    target_model: TargetModel,
    fields: Fields,
    foreign: int,
    disclose: bool,
) -> "Passthrough | None":
    """The translator that passes a conversation to an upstream of its own dialect; None where
    `translator_for` finds another. See there."""
    row: Endpoint = exchange.row
    native = row.dialect
    if native not in dialects or native is None or not row.upstream_path or not row.translated:
        return None
    if row.codec == "chat" and (
        speaks_responses(fields) or _has_anthropic_tools(fields, exchange.turn_marks)
    ):
        return None
    return Passthrough(exchange, native, target_model, fields, foreign=foreign, disclose=disclose)


def translator_for(
    exchange: Exchange,
    dialects: Collection[Dialect],
    target_model: TargetModel,
    *,
    estimator: Estimator,
    clients: Mapping[Codec, ClientSide] = CLIENTS,
    allow_passthrough: bool = True,
    max_answer: int = 256 << 20,
    foreign: int = 0,
    disclose: bool = False,
    price: Price | None = None,
    vendor_links: bool = False,
    json_edits: bool = False,
    fields: Fields | None = None,
) -> Translator | None:
    """The translator for an upstream that speaks `dialects`; None if none fits the endpoint.

    target_model: the model there, without its origin.
    clients: the caller's side of each codec.
    allow_passthrough: False for an upstream that lacks the caller's endpoint.
    max_answer: bytes that are read of a translated stream.
    foreign: see `Candidate`.
    disclose: whether a passed answer may name its maker.
    price: of the model, for what is priced beside tokens.
    vendor_links: whether links of the vendor to its images pass.
    json_edits: see `Provider`.
    fields: the members to send, with media prepared for the target; those of `exchange` by default.

    Raises Problem for a request that is invalid, or that the upstream's dialect cannot express.
    """
    row: Endpoint = exchange.row
    if fields is None:
        fields = exchange.fields
    if not row.translated:
        if SERVED_BY[exchange.dialect].isdisjoint(dialects):
            return None
        if row.answer == "transcript":
            return TranscriptTranslator(exchange, target_model, price, disclose=disclose)
        if row.answer != "json":
            return media_passthrough(
                exchange,
                target_model,
                price=price,
                disclose=disclose,
                vendor_links=vendor_links,
                json_edits=json_edits,
            )
        # Many inputs may each fill the model's context; none has more tokens than bytes.
        most = 2 * exchange.size + exchange.estimate + _MAX_PREFIX
        target_model = replace(target_model, context=most)
        return Passthrough(exchange, exchange.dialect, target_model, fields, disclose=disclose)
    if allow_passthrough:
        passing = passthrough_for(exchange, dialects, target_model, fields, foreign, disclose)
        if passing is not None:
            return passing
    borrowed = row.codec == "chat" and speaks_responses(fields)
    native = row.dialect if row.upstream_path else None
    assert row.codec is not None
    client = clients[row.codec]
    read = _read_responses if borrowed else client.read
    written = "responses" if borrowed else native
    for dialect, upstream in UPSTREAMS.items():
        if dialect in dialects:
            # Signatures without a maker are not sent to another dialect.
            return Translation(
                exchange,
                fields,
                read,
                client,
                upstream,
                dialect,
                replace(target_model, origin=fingerprint(dialect, target_model.model)),
                estimator,
                max_answer,
                foreign if dialect == written else 0,
            )
    return None


def _has_anthropic_tools(fields: Fields, marks: TurnMarks | None) -> bool:
    """Whether a chat has tools, calls or results in Anthropic's form, as Cursor sends them. Chat
    upstreams refuse them, so such a chat is translated.
    """
    messages = fields.get("messages")
    if messages is not None:
        if marks is not None and marks.raw is messages:
            if marks.found(_TOOL_BLOCK.pattern, _have_tool_block):
                return True
        elif _have_tool_block(bytes(messages)):
            return True
    tools = fields.get("tools")
    if tools is None or bytes(tools).find(b'"input_schema"') < 0:
        return False
    try:
        return any("input_schema" in tool for tool in _decode_tools(tools))
    except UNREADABLE:
        return False


def _have_tool_block(messages: bytes) -> bool:
    for block in _TOOL_BLOCKS:  # a generator costs more, and each chat comes by
        if messages.find(block) >= 0:
            return found(_TOOL_BLOCK, messages)
    return False


def _read_responses(fields: Fields) -> Conversation:
    """Read a body of the Responses API that came to the chat endpoint. State is refused there."""
    for name in _STATE_MEMBERS:
        if bytes(fields.get(name, b"null")) not in (b"null", b"false"):
            raise Problem(
                "invalid_request",
                message=f"Unsupported parameter: `{name}` is only known at /v1/responses.",
                param=name,
                issue="expected to be left out",
                extra={"code": "unsupported_parameter"},
            )
    return openai_responses.CLIENT.read(fields)


class Passthrough:
    """Passes bytes; see `edge.dialects.passthrough`."""

    def __init__(
        self,
        exchange: Exchange,
        dialect: Dialect,
        target_model: TargetModel,
        fields: Fields,
        *,
        foreign: int = 0,
        disclose: bool = False,
    ) -> None:
        row: Endpoint = exchange.row
        passthrough = _PASSTHROUGH_BY_CODEC.get(row.codec) or PASSTHROUGH[dialect]
        dropped: list[str] = []
        if foreign:
            fields, dropped = without_foreign_signatures(fields, dialect, foreign)
        self.dialect = dialect
        self.path = row.upstream_path
        self._body = passthrough.prepare(
            fields,
            target_model.model,
            exchange.stream,
            family=target_model.family,
            marks=exchange.turn_marks,
        )
        self.ping = passthrough.ping
        self.dropped = dropped
        self.spelled: Spelled | None = None
        self._passthrough = passthrough
        self._exchange = exchange
        self._disclose = disclose
        self._context = target_model.context
        # Vectors are no output, whatever their server counts.
        self._choices = requested_choices(fields) if row.bounds else 0
        self._hosted = 0
        if _WEB_SEARCH in fields and dialect == "openai" and bytes(fields[_WEB_SEARCH]) != b"null":
            self._hosted = 1

    def take_body(self) -> bytes:
        """The caller's members unchanged, with the target's model."""
        body, self._body = self._body, b""
        return body

    def relay(self) -> Relay:
        """The dialect's own."""
        exchange = self._exchange
        return self._passthrough.relay(
            exchange.fields, exchange.model, exchange.response_overrides, disclose=self._disclose
        )

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The dialect's own."""
        exchange = self._exchange
        ours, reported = self._passthrough.finish_body(
            body,
            exchange.model,
            exchange.response_overrides,
            fields=exchange.fields,
            disclose=self._disclose,
        )
        if (
            reported is not None
            and self._choices
            and not self._hosted
            and is_plausible(reported, self._context)
        ):
            return ours, reported, True
        usage, measured = self._settle(reported, 0, ours)
        return ours, usage, measured

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """The usage that the upstream reported, as far as it is plausible."""
        if relay.complete:
            return self._settle(relay.usage, relay.output_size, relay.answer)
        reported = relay.usage
        runs = self._exchange.runs
        return reported and plausible_usage(reported, self._context, self._choices, runs), False

    def _settle(
        self, reported: Usage | None, output_size: int, answer: bytes
    ) -> tuple[Usage, bool]:
        """answer: the whole answer, if any; read only if the output was not reported."""
        context, choices, runs = self._context, self._choices, self._exchange.runs
        if (
            reported is not None
            and choices
            and not self._hosted
            and is_plausible(reported, context)
        ):
            return reported, True
        plausible = None if reported is None else plausible_usage(reported, context, choices, runs)
        if answer and (plausible is None or not plausible.output):
            output_size = max(output_size, self._passthrough.output_size(answer))
        input_tokens, most = self._exchange.estimate, self._exchange.max_output
        return settle_usage(
            reported,
            plausible,
            input_tokens=input_tokens,
            output_size=output_size,
            hosted=self._hosted,
            most=most,
        )
