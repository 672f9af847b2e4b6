"""Translation from one dialect to another, through the neutral form.

request     fields -> ClientSide.read -> Conversation -> UpstreamSide.write -> WrittenRequest
stream      block -> AnswerDecoder.decode -> events -> ResponseRestorer.restore -> events
            -> Writer.encode -> bytes
unstreamed  body -> UpstreamSide.read -> events -> ResponseRestorer.restore -> fold
            -> Writer.encode_body
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import time
from typing import Any

import msgspec

from edge.billing.token_estimate import Estimates, Estimator, Weight
from edge.dialects.codec import (
    AnswerDecoder,
    Caller,
    ClientSide,
    Spelled,
    TargetModel,
    UpstreamSide,
    Writer,
)
from edge.dialects.conversation import Conversation, Origin
from edge.dialects.events import (
    CONTENT,
    Counted,
    Event,
    Failed,
    Stopped,
    TextDelta,
    fold,
)
from edge.dialects.foreign_signatures import without_foreign_signatures
from edge.dialects.output_size import size_of, size_of_events
from edge.dialects.passthrough import BACKSLASH, Fields, Relay, UpstreamError
from edge.dialects.restore import ResponseRestorer
from edge.dialects.split_characters import CharacterJoiner
from edge.dialects.token_counts import is_plausible, output_tokens, plausible_usage, settle_usage
from edge.endpoints import CONVERSATIONS
from middlewares.exchange import Dialect, Exchange, Usage
from middlewares.problem import Problem

from .written_turns import written_once

_EQUIVALENT_MEMBERS = (
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
"""Members of different dialects with the same meaning."""
_WEB_SEARCH = b'"web_search_options"'
"""The member of a chat that offers web search, as JSON."""
MOST_WITHHELD = 64 << 20
"""Bytes of a stream that may come without anything to pass on: they are kept until it is known what
they are.
"""


class Translation:
    """Translates one attempt from one dialect to another."""

    def __init__(
        self,
        exchange: Exchange,
        fields: Fields,
        read: Callable[[Fields], Conversation],
        client: ClientSide,
        upstream: UpstreamSide,
        dialect: Dialect,
        target_model: TargetModel,
        estimator: Estimator,
        max_answer: int,
        foreign: int,
    ) -> None:
        fields, missing = without_foreign_signatures(fields, dialect, foreign)
        try:
            decoded, sent = written_once(exchange, fields, read, client, upstream, target_model)
            conversation, weight = decoded.conversation, decoded.weight
        except RecursionError:  # reading needs less depth than writing
            raise Problem("invalid_request", message="The body is nested too deeply.") from None
        principal = exchange.principal
        own = estimator.for_principal("" if principal is None else principal.id)
        estimate = own.estimate(exchange.catalog_id, weight)
        offered = any(tool.kind == "hosted" for tool in conversation.tools)
        hosted = int(offered and dialect == "openai" and _WEB_SEARCH in sent.body)
        id_ = exchange.request_id.replace("-", "")
        self.dialect = dialect
        self.path = CONVERSATIONS[dialect].upstream_path
        self._body, sent.body = sent.body, b""
        self.ping = client.ping
        self.dropped = [*missing, *conversation.dropped, *sent.dropped]
        self.spelled: Spelled | None = partial(_member_names, exchange.fields)
        self._upstream = upstream
        self._max_answer = max_answer
        self._count = _UsageCount(exchange, weight, estimate, own, target_model.context, hosted)
        self._writer = client.writer(_caller(exchange, id_, estimate))
        self._restorer = ResponseRestorer(
            sent,
            caller=exchange.dialect,
            seed=id_,
            taken=decoded.calls(),
            origin=Origin(dialect, target_model.origin),
        )

    def take_body(self) -> bytes:
        """The body that `UpstreamSide.write` made."""
        body, self._body = self._body, b""
        return body

    def relay(self) -> Relay:
        """A relay of reader, restorer and writer."""
        return TranslatedRelay(
            self._upstream.reader(), self._restorer, self._writer, self._count, self._max_answer
        )

    def settle(self, relay: Relay) -> tuple[Usage | None, bool]:
        """Usage that was settled at the stop event, which the caller sees too."""
        if relay.complete:
            return relay.usage, not relay.estimated
        return relay.usage and self._count.plausible_usage(relay.usage), False

    def finish_body(self, body: bytes) -> tuple[bytes, Usage, bool]:
        """The fold of the answer's events."""
        read = self._upstream.read(body)
        events = self._restorer.restore(read)
        reply = fold(events)
        if reply.failed is not None:
            raise UpstreamError.by(reply.failed)
        usage, cut = reply.usage, _is_cut_at_stop(events, read)
        if usage is not None and not cut and self._count.is_plausible(usage):
            return self._writer.encode_body(reply), usage, True
        reply.usage, measured = self._count.settle_usage(usage, size_of_events(events), cut=cut)
        return self._writer.encode_body(reply), reply.usage, measured


def _is_cut_at_stop(events: Sequence[Event], read: Sequence[Event]) -> bool:
    """Whether `events`, restored from `read`, end at a stop string unknown to the upstream."""
    ours, theirs = events[-1], read[-1]
    return isinstance(ours, Stopped) and not (
        isinstance(theirs, Stopped) and ours.sequence == theirs.sequence
    )


def _caller(exchange: Exchange, id_: str, estimate: int) -> Caller:
    principal = exchange.principal
    return Caller(
        model=exchange.model,
        id=id_,
        created=int(time()),
        fields=exchange.fields,
        echo=exchange.response_overrides,
        estimate=estimate,
        stream=exchange.stream,
        owner="" if principal is None else principal.id,
    )


def _member_names(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for same in _EQUIVALENT_MEMBERS:
        ours = next((name for name in same if name in fields), None)
        if ours is not None:
            for name in same:
                found.setdefault(name, ours)
    return found


class _UsageCount:
    """What the upstream counted, where that is believed, or else what it must have been."""

    __slots__ = (
        "_context",
        "_entry",
        "_estimate",
        "_estimator",
        "_hosted",
        "_max_output",
        "_runs",
        "_weight",
    )

    def __init__(
        self,
        exchange: Exchange,
        weight: Weight,
        estimate: int,
        estimator: Estimates,
        context: int | None,
        hosted: int,
    ) -> None:
        self._context = context
        self._max_output = exchange.max_output
        self._runs = exchange.runs
        self._hosted = hosted
        self._entry = exchange.catalog_id
        self._weight = weight
        self._estimate = estimate
        self._estimator = estimator

    def plausible_usage(self, reported: Usage) -> Usage:
        """See `edge.dialects.token_counts.plausible_usage`."""
        return plausible_usage(reported, self._context, runs=self._runs)

    def is_plausible(self, reported: Usage) -> bool:
        """Whether `reported` is charged as it is; then the estimator learns from it."""
        if self._hosted or not is_plausible(reported, self._context):
            return False
        counted = reported.input + reported.cache_read + reported.cache_write
        self._estimator.learn(self._entry, self._weight, counted)
        return True

    def settle_usage(
        self, reported: Usage | None, output_size: int, *, cut: bool = False
    ) -> tuple[Usage, bool]:
        """The usage to charge, and whether the upstream counted all of it.

        The estimator learns from an input that was. cut: the upstream was not heard out, so that
        its count of the output is only a beginning.
        """
        sure: Usage | None = None
        if reported is not None and not cut and self.is_plausible(reported):
            return reported, True
        if reported is not None:
            sure = self.plausible_usage(reported)
            counted = sure.input + sure.cache_read + sure.cache_write
            if counted:
                self._estimator.learn(self._entry, self._weight, counted)
        usage, measured = settle_usage(
            reported,
            sure,
            input_tokens=self._estimate,
            output_size=output_size,
            hosted=self._hosted,
            most=self._max_output,
        )
        if cut:
            output = max(usage.output, min(output_tokens(output_size), self._max_output))
            usage = msgspec.structs.replace(usage, output=output)
        return usage, measured and not cut


class TranslatedRelay:
    """A `Relay` through the neutral form. max_bytes: of the upstream's stream."""

    __slots__ = (
        "_bytes_left",
        "_count",
        "_decode_text",
        "_encode_text",
        "_joiner",
        "_reader",
        "_restorer",
        "_withheld_left",
        "_writer",
        "complete",
        "content",
        "enough",
        "estimated",
        "output_size",
        "usage",
    )

    def __init__(
        self,
        reader: AnswerDecoder,
        restorer: ResponseRestorer,
        writer: Writer,
        count: _UsageCount,
        max_bytes: int,
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.enough = False
        self.estimated = False
        self.output_size = 0
        self._reader = reader
        self._restorer = restorer
        self._writer = writer
        self._decode_text = reader.decode_text
        self._encode_text = writer.encode_text
        self._count = count
        self._joiner = CharacterJoiner()
        self._bytes_left = max_bytes
        self._withheld_left = MOST_WITHHELD

    @property
    def answer(self) -> bytes:
        """The finished answer as an object, where the caller's dialect has one."""
        return self._writer.answer

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The end of a stream that broke."""
        return self._writer.encode_failure(content)

    def relay(self, block: bytes) -> bytes:
        """Translate a block of whole events."""
        self._bytes_left -= len(block)
        if self._bytes_left < 0:
            raise UpstreamError("the stream is longer than an answer may be")
        if BACKSLASH not in block and not self._joiner.held:
            # Nearly all are one text after another; the way of all others gives the same bytes.
            if self._restorer.passes_text and (text := self._decode_text(block)):
                self.output_size += len(text) if text.isascii() else size_of(text)
                return self._encode_text(text)
        elif b"\\u" in block or self._joiner.held:
            block = self._joiner.join(block)
        out = self._translate(self._reader.decode(block))
        if not out:
            self._withheld_left -= len(block)
            if self._withheld_left < 0:
                raise UpstreamError("the stream holds too much that cannot be passed on yet")
        return out

    def relay_end(self) -> bytes:
        """What is left when the upstream has ended. Raises UpstreamError on a cut."""
        rest = self._joiner.rest()
        out = self._translate(self._reader.decode(rest)) if rest else b""
        if self.complete:
            return out
        left = self._reader.decode_end()
        if not left:
            raise UpstreamError("the stream ended before the answer did")
        return out + self._translate(left)

    def _translate(self, read: list[Event]) -> bytes:
        if self.complete or not read:
            return b""
        events = self._restorer.restore(read)
        if not events:
            return b""
        if len(events) == 1 and type(only := events[0]) is TextDelta:  # as nearly all are
            text = only.text
            self.output_size += len(text) if text.isascii() else size_of(text)
            self.content = True
            return self._writer.encode(events)
        if not self.content:
            self.content = any(isinstance(event, CONTENT) for event in events)
        self.output_size += size_of_events(events)
        for event in events:
            if isinstance(event, Counted):
                self.usage = event.usage
            elif isinstance(event, Failed):
                broke = UpstreamError.by(event)
                broke.passed = self._writer.encode(events[:-1])
                raise broke
            elif isinstance(event, Stopped):
                self.complete = True
                self.enough = _is_cut_at_stop(events, read)
                self.usage, measured = self._count.settle_usage(
                    event.usage, self.output_size, cut=self.enough
                )
                event.usage = self.usage
                self.estimated = not measured
        return self._writer.encode(events)
