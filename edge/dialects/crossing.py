"""How one attempt gets from the caller's dialect to the upstream's, and its answer back.

    Passthrough   both speak the same: bytes pass, the model's name is spliced
    Translation   they do not: through the neutral form

`cross` chooses. What it gives is good for one attempt: it makes the upstream's body, then either a
`relay` for a stream or `finish_plain` for a whole answer.

    request   fields -> ClientSide.read -> Conversation -> UpstreamSide.write -> Sent
    stream    block -> Reader -> events -> Undo -> events -> Writer -> bytes
    whole     body -> UpstreamSide.read -> events -> Undo -> fold -> Writer.body
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from time import time
from typing import Any, Protocol

import msgspec

from edge.estimate import Estimates, Estimator, Weight, weigh
from middlewares.exchange import Dialect as DialectName
from middlewares.exchange import Exchange, Usage
from middlewares.problem import Problem

from . import anthropic_messages, openai_chat, openai_completions, openai_responses
from .anthropic_messages import passthrough as messages_passthrough
from .counts import believable, choices_asked, made, settled
from .embeddings import DIALECT as EMBEDDINGS
from .foreign import without_foreign
from .halves import Halves
from .neutral import (
    CONTENT,
    Conversation,
    Counted,
    Event,
    Failed,
    Origin,
    Stopped,
    fold,
)
from .opaque import fingerprint
from .openai_chat import passthrough as chat_passthrough
from .openai_responses import passthrough as responses_passthrough
from .openai_responses.compaction import DIALECT as COMPACTION
from .passthrough import UNREADABLE, Dialect, Fields, Relay, UpstreamBroke
from .said import said_by
from .sides import Aim, Caller, ClientSide, Reader, UpstreamSide, Writer
from .undo import Undo

PASSTHROUGH: Mapping[str, Dialect] = {
    "openai": chat_passthrough.DIALECT,
    "anthropic": messages_passthrough.DIALECT,
    "responses": responses_passthrough.DIALECT,
}
"""By dialect: how bytes pass where caller and upstream speak the same."""

_WAYS: Mapping[str, Dialect] = {"responses.compact": COMPACTION, "embeddings": EMBEDDINGS}
"""By endpoint, where it is not the dialect alone that says how bytes pass."""

CLIENTS: Mapping[str, ClientSide] = {
    "chat.completions": openai_chat.CLIENT,
    "completions": openai_completions.CLIENT,
    "responses": openai_responses.CLIENT,
    "messages": anthropic_messages.CLIENT,
}
"""By endpoint: how its callers speak."""

UPSTREAMS: Mapping[DialectName, UpstreamSide] = {
    "openai": openai_chat.UPSTREAM,
    "responses": openai_responses.UPSTREAM,
    "anthropic": anthropic_messages.UPSTREAM,
}
"""By dialect, the one to prefer first when an upstream speaks several."""

_NATIVE: Mapping[str, DialectName] = {
    "chat.completions": "openai",
    "responses": "responses",
    "messages": "anthropic",
    "responses.compact": "responses",
}
_SAME = (
    ("messages", "input", "prompt"),
    ("system", "instructions", "messages"),
    ("max_completion_tokens", "max_tokens", "max_output_tokens"),
    ("tools", "functions"),
    ("tool_choice", "function_call"),
    ("stop", "stop_sequences"),
    ("response_format", "text", "output_config", "output_format"),
    ("reasoning_effort", "reasoning", "thinking", "output_config"),
    ("temperature",),
    ("top_p",),
    ("top_k",),
)
"""Members of different dialects that say the same."""
_SEARCH = "web_search_options"
"""The member of a chat that offers web search: no answer tells how often it searched."""
_STATE = ("previous_response_id", "conversation", "background", "prompt")
"""Members of Responses by which a request means more than it says."""
_BLOCK = re.compile(rb'"type"\s*:\s*"tool_(?:use|result)"')
"""A call or a result as Anthropic writes it; inside of text the quotes are escaped."""
_decode_tools = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_PREFIXES = 4096
"""Tokens that a server of embeddings may put before its inputs."""
_MOST_WITHHELD = 64 << 20
"""Bytes of a stream that may come without anything to pass on: they are kept until it is known what
they are.
"""


class Crossing(Protocol):
    """One attempt's way across."""

    dialect: DialectName
    """The upstream's."""
    endpoint: str
    """Where the request goes there."""
    ping: bytes
    """What keeps the caller's stream alive between two events."""
    dropped: list[str]
    """What of the request had no place there, each in a few words."""
    spelled: Mapping[str, str] | None
    """The caller's member for each of the upstream's, where the two differ."""

    def take_body(self) -> bytes:
        """The upstream's request. Called once: it can be megabytes, and is not kept here."""
        ...

    def relay(self) -> Relay:
        """The way of a streamed answer. Called once."""
        ...

    def finish_plain(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The caller's body, what it used, and whether the upstream counted all of that.

        Raises UpstreamBroke.
        """
        ...

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """The same two of a stream: as far as the upstream has told, if it is not complete."""
        ...


def cross(
    exchange: Exchange,
    spoken: Collection[DialectName],
    *,
    model: str,
    family: str = "",
    estimator: Estimator | Estimates,
    clients: Mapping[str, ClientSide] = CLIENTS,
    passing: bool = True,
    max_output: int | None = None,
    context: int | None = None,
    max_answer: int = 256 << 20,
    foreign: int = 0,
    disclose: bool = False,
) -> Crossing | None:
    """The way for `exchange` to an upstream that speaks `spoken`; None when there is none.

    model: the upstream's name of it. family: a name that tells what it is, see `sides.Aim`.
    max_output, context: tokens, from the catalog.
    clients: by endpoint, how its callers speak. passing: False if bytes must not pass, because the
        upstream has shown that it lacks the endpoint.
    max_answer: bytes that are read of a translated stream.
    foreign: see `Place`.
    disclose: whether an answer that passes may name who made it.

    Raises Problem for what the upstream's dialect cannot say, or what is wrong with the request.
    """
    endpoint = exchange.endpoint
    if endpoint == "embeddings":
        able = "openai" in spoken or "responses" in spoken
        # A batch may have any number of inputs, each as long as the context.
        if not able:
            return None
        # Many inputs may each fill the model's context; none has more tokens than bytes.
        most = 2 * exchange.size + exchange.estimate + _PREFIXES
        return Passthrough(exchange, "openai", model, context=most, disclose=disclose)
    chat = endpoint == "chat.completions"
    borrowed = chat and speaks_responses(exchange.fields)
    passing = passing and not (chat and (borrowed or _mixes(exchange.fields)))
    native = _NATIVE.get(endpoint)
    if native is not None and native in spoken and passing:
        return Passthrough(
            exchange,
            native,
            model,
            foreign=foreign,
            context=context,
            family=family,
            disclose=disclose,
        )
    client = clients.get(endpoint)
    if client is None:
        return None
    read = _read_responses if borrowed else client.read
    written = "responses" if borrowed else native
    for dialect, upstream in UPSTREAMS.items():
        if dialect in spoken:
            aim = Aim(
                model=model,
                family=family,
                max_output=max_output,
                context=context,
                origin=fingerprint(dialect, model),
            )
            # Of another dialect, nothing is sent on that does not name its maker.
            return Translation(
                exchange,
                read,
                client,
                upstream,
                dialect,
                aim,
                estimator,
                max_answer,
                foreign if dialect == written else 0,
            )
    return None


def speaks_responses(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Some clients send the body of another endpoint to the chat path (Cursor does)."""
    return "input" in fields and "messages" not in fields


def _mixes(fields: Fields) -> bool:
    """Others write Anthropic's tools, calls and results in a chat (Cursor again). Chat upstreams
    refuse them, so such a chat is read and written anew.
    """
    messages = bytes(fields.get("messages", b""))
    if b'"tool_' in messages and _BLOCK.search(messages):
        return True
    tools = fields.get("tools", b"")
    if b'"input_schema"' not in bytes(tools):
        return False
    try:
        return any("input_schema" in tool for tool in _decode_tools(tools))
    except UNREADABLE:
        return False


def _read_responses(fields: Fields) -> Conversation:
    """That body, which refers to nothing: what is kept is not looked up on the chat path."""
    for name in _STATE:
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
    """Bytes through; see `edge.dialects.passthrough`."""

    def __init__(
        self,
        exchange: Exchange,
        dialect: DialectName,
        model: str,
        *,
        foreign: int = 0,
        context: int | None = None,
        family: str = "",
        disclose: bool = False,
    ) -> None:
        way = _WAYS.get(exchange.endpoint) or PASSTHROUGH[dialect]
        fields, dropped = without_foreign(exchange.fields, dialect, foreign)
        self.dialect = dialect
        self.endpoint = exchange.endpoint
        self._body = way.prepare(fields, model, exchange.stream, family=family)
        self.ping = way.ping
        self.dropped: list[str] = dropped
        self.spelled: Mapping[str, str] | None = None
        self._way = way
        self._exchange = exchange
        self._disclose = disclose
        self._context = context
        # Vectors are no output, whatever their server counts.
        self._choices = 0 if exchange.endpoint == "embeddings" else choices_asked(fields)
        self._hosted = int(dialect == "openai" and bytes(fields.get(_SEARCH, b"null")) != b"null")

    def take_body(self) -> bytes:
        """The caller's members as they came, another model."""
        body, self._body = self._body, b""
        return body

    def relay(self) -> Relay:
        """The dialect's own."""
        exchange = self._exchange
        return self._way.relay(
            exchange.fields, exchange.model, exchange.echo, disclose=self._disclose
        )

    def finish_plain(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The dialect's own."""
        exchange = self._exchange
        ours, told = self._way.finish_plain(
            body,
            exchange.model,
            exchange.echo,
            fields=exchange.fields,
            disclose=self._disclose,
        )
        return ours, *self._settled(told, 0, ours)

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """What the upstream told, as far as it is believed."""
        if relay.complete:
            return self._settled(relay.usage, relay.said, relay.answer)
        told = relay.usage
        runs = self._exchange.runs
        return told and believable(told, self._context, self._choices, runs), False

    def _settled(self, told: Usage | None, said: int, answer: bytes) -> tuple[Usage, bool]:
        """answer: whole, where there is one; it is read only if nobody counted the output."""
        context, choices, runs = self._context, self._choices, self._exchange.runs
        if answer and (told is None or not believable(told, context, choices, runs).output):
            said = max(said, self._way.said(answer))
        return settled(
            told,
            given=self._exchange.estimate,
            said=said,
            context=context,
            choices=choices,
            runs=runs,
            hosted=self._hosted,
        )


class Translation:
    """From one dialect to another."""

    def __init__(
        self,
        exchange: Exchange,
        read: Callable[[Fields], Any],
        client: ClientSide,
        upstream: UpstreamSide,
        dialect: DialectName,
        aim: Aim,
        estimator: Estimator | Estimates,
        max_answer: int,
        foreign: int,
    ) -> None:
        fields, missing = without_foreign(exchange.fields, dialect, foreign)
        try:
            conversation = read(fields)
            conversation.stream = exchange.stream
            sent = upstream.write(conversation, aim)
            weight = weigh(conversation)
        except RecursionError:  # what could just be read can be too deep to write
            raise Problem("invalid_request", message="The body is nested too deeply.") from None
        estimate = estimator.estimate(exchange.entry, weight)
        offered = any(tool.kind == "hosted" for tool in conversation.tools)
        hosted = int(offered and dialect == "openai" and _SEARCH.encode() in sent.body)
        id_ = exchange.request_id.replace("-", "")
        self.dialect = dialect
        self.endpoint = upstream.endpoint
        self._body, sent.body = sent.body, b""
        self.ping = client.ping
        self.dropped = [*missing, *conversation.dropped, *sent.dropped]
        self.spelled: Mapping[str, str] | None = _spelled(exchange.fields)
        self._upstream = upstream
        self._max_answer = max_answer
        self._count = _Count(
            exchange.entry, weight, estimate, estimator, aim.context, exchange.runs, hosted
        )
        self._writer = client.writer(
            Caller(
                model=exchange.model,
                id=id_,
                created=int(time()),
                fields=exchange.fields,
                echo=exchange.echo,
                estimate=estimate,
                stream=exchange.stream,
                owner=exchange.principal.id if exchange.principal is not None else "",
            )
        )
        self._undo = Undo(
            sent,
            caller=exchange.dialect,
            seed=id_,
            taken=[call.id for call in conversation.calls()],
            origin=Origin(dialect, aim.origin),
        )

    def take_body(self) -> bytes:
        """What `UpstreamSide.write` made."""
        body, self._body = self._body, b""
        return body

    def relay(self) -> Relay:
        """Reader, undo and writer, one behind the other."""
        return TranslatedRelay(
            self._upstream.reader(), self._undo, self._writer, self._count, self._max_answer
        )

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """Settled when the stream stopped, for the caller to be told the same."""
        if relay.complete:
            return relay.usage, not relay.estimated
        return relay.usage and self._count.believable(relay.usage), False

    def finish_plain(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The fold of the answer's events."""
        read = self._upstream.read(body)
        events = self._undo.feed(read)
        reply = fold(events)
        if reply.failed is not None:
            raise UpstreamBroke.by(reply.failed)
        cut = _is_cut(events, read)
        reply.usage, measured = self._count.settled(reply.usage, said_by(events), cut=cut)
        return self._writer.body(reply), reply.usage, measured


def _is_cut(events: Sequence[Event], read: Sequence[Event]) -> bool:
    """Whether `events`, made of `read`, end at a stop string of which the upstream knew nothing."""
    ours, theirs = events[-1], read[-1]
    return isinstance(ours, Stopped) and not (
        isinstance(theirs, Stopped) and ours.sequence == theirs.sequence
    )


def _spelled(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for same in _SAME:
        ours = next((name for name in same if name in fields), None)
        if ours is not None:
            for name in same:
                found.setdefault(name, ours)
    return found


class _Count:
    """What the upstream counted, where that is believed, or else what it must have been."""

    __slots__ = ("_context", "_entry", "_estimate", "_estimator", "_hosted", "_runs", "_weight")

    def __init__(
        self,
        entry: str,
        weight: Weight,
        estimate: int,
        estimator: Estimator | Estimates,
        context: int | None,
        runs: int,
        hosted: int,
    ) -> None:
        self._context = context
        self._runs = runs
        self._hosted = hosted
        self._entry = entry
        self._weight = weight
        self._estimate = estimate
        self._estimator = estimator

    def believable(self, told: Usage) -> Usage:
        """See `counts.believable`."""
        return believable(told, self._context, runs=self._runs)

    def settled(self, told: Usage | None, said: int, *, cut: bool = False) -> tuple[Usage, bool]:
        """What is charged for `told` and `said` bytes of text, and whether it was counted.

        The estimator learns from an input that was. cut: the upstream was not heard out, so that
        its count of the output is only a beginning.
        """
        if told is not None:
            sure = self.believable(told)
            counted = sure.input + sure.cache_read + sure.cache_write
            if counted:
                self._estimator.learn(self._entry, self._weight, counted)
        usage, measured = settled(
            told,
            given=self._estimate,
            said=said,
            context=self._context,
            runs=self._runs,
            hosted=self._hosted,
        )
        if cut:
            usage = msgspec.structs.replace(usage, output=max(usage.output, made(said)))
        return usage, measured and not cut


class TranslatedRelay:
    """A `Relay` through the neutral form. most: bytes that are read of the upstream's stream."""

    __slots__ = (
        "_count",
        "_halves",
        "_left",
        "_left_withheld",
        "_reader",
        "_undo",
        "_writer",
        "complete",
        "content",
        "enough",
        "estimated",
        "said",
        "usage",
    )

    def __init__(
        self, reader: Reader, undo: Undo, writer: Writer, count: _Count, most: int
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.enough = False
        self.estimated = False
        self.said = 0
        self._reader = reader
        self._undo = undo
        self._writer = writer
        self._count = count
        self._halves = Halves()
        self._left = most
        self._left_withheld = _MOST_WITHHELD

    @property
    def answer(self) -> bytes:
        """The finished answer as an object, where the caller's dialect has one."""
        return self._writer.answer

    def failure(self, content: dict[str, Any]) -> bytes:
        """The end of a stream that broke."""
        return self._writer.failure(content)

    def feed(self, block: bytes) -> bytes:
        """Translate a block of whole events."""
        self._left -= len(block)
        if self._left < 0:
            raise UpstreamBroke("the stream is longer than an answer may be")
        if b"\\u" in block or self._halves.held:
            block = self._halves.feed(block)
        out = self._pass(self._reader.feed(block))
        if not out:
            self._left_withheld -= len(block)
            if self._left_withheld < 0:
                raise UpstreamBroke("the stream holds too much that cannot be passed on yet")
        return out

    def end(self) -> bytes:
        """What is left when the upstream has ended. Raises UpstreamBroke on a cut."""
        rest = self._halves.rest()
        out = self._pass(self._reader.feed(rest)) if rest else b""
        if self.complete:
            return out
        left = self._reader.end()
        if not left:
            raise UpstreamBroke("the stream ended before the answer did")
        return out + self._pass(left)

    def _pass(self, read: list[Event]) -> bytes:
        if self.complete or not read:
            return b""
        events = self._undo.feed(read)
        if not events:
            return b""
        if not self.content:
            self.content = any(isinstance(event, CONTENT) for event in events)
        self.said += said_by(events)
        for event in events:
            if isinstance(event, Counted):
                self.usage = event.usage
            elif isinstance(event, Failed):
                broke = UpstreamBroke.by(event)
                broke.passed = self._writer.write(events[:-1])
                raise broke
            elif isinstance(event, Stopped):
                self.complete = True
                self.enough = _is_cut(events, read)
                self.usage, measured = self._count.settled(event.usage, self.said, cut=self.enough)
                event.usage = self.usage
                self.estimated = not measured
        return self._writer.write(events)
