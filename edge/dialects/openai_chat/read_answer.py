"""Decode answers of a Chat Completions upstream into events.

Theory of operation. At most one block is open: a text (of one of three kinds) or a tool call. Text
and thinking close as soon as anything else arrives. A call closes only when its arguments are
complete: servers interleave fragments of parallel calls, and a block must not open twice. Anything
that arrives before that is queued, in the order of its first fragment.

    open        comes                    then
    nothing     text, thinking           open it
                part of a call           open the call once its name and an argument are known
    text        the same kind            more of it
                anything else            close, open the other
    call        its own fragment         more of it; complete and others queued: close, next
                anything else            complete: close, open it; incomplete: it is queued

A finish reason is noted, since usage may follow it. The end is `[DONE]`, or the end of input after
a finish reason; then everything queued is passed on. An upstream that stops without either has
broken off.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from edge.dialects import errors
from edge.dialects.conversation import Citation, Origin, Signature
from edge.dialects.errors import says_error
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    RefusalDelta,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from edge.dialects.heartbeats import is_heartbeat
from edge.dialects.lenient_json import decode_leniently, repaired_json
from edge.dialects.passthrough import UNREADABLE
from edge.dialects.sse_reader import SseReader
from edge.dialects.stop_reasons import interrupted, stop_of
from edge.dialects.text_template import TextTemplate
from edge.untyped_json import decode_any
from middlewares import sse
from middlewares.exchange import Usage

from .failures import NEEDED, failure_of, failure_of_bare, is_done
from .signatures import call_signature, pack_call_signature
from .tool_calls import CallTracker, PendingCall
from .wire import NULL, Annotation, CallFragment, Choice, Chunk, Delta, Part, decode_chunk, usage_in

Kind = Literal["text", "refusal", "thinking"]

_DELTA: dict[Kind, type[TextDelta] | type[RefusalDelta] | type[ThinkingDelta]] = {
    "text": TextDelta,
    "refusal": RefusalDelta,
    "thinking": ThinkingDelta,
}
_WHOLE: tuple[Stop | None, ...] = (None, "end", "stop_sequence", "tool_use")
"""Reasons that another choice's reason overrides."""
_ORIGIN = Origin("openai")
_APART = 20
"""Bits that separate the call numbers of different choices."""
_LEGACY = -1  # the index of the one call of `function_call`

_encode = msgspec.json.Encoder().encode


class ChatReader(SseReader):
    """Decodes one streamed answer. See `codec.AnswerDecoder`."""

    __slots__ = (
        "_calls",
        "_citations",
        "_counted",
        "_has_output",
        "_line",
        "_open",
        "_ordinary",
        "_reason",
        "_reasoning",
        "_sequence",
        "_speaker",
        "_spoke",
        "_started",
        "_usage",
    )

    def __init__(self) -> None:
        super().__init__()
        self._calls = CallTracker()
        self._citations: list[Citation] = []
        self._counted = False
        self._line: deque[PendingCall | _Held] = deque()
        self._open: Kind | PendingCall | None = None
        self._ordinary = TextTemplate(b'"content"')
        self._reason: Stop | None = None
        self._reasoning = ""
        """The reasoning member that is read: servers fill several with the same text."""
        self._has_output = False
        self._sequence: str | None = None
        self._speaker = 0
        """The number of the choice whose text is read."""
        self._spoke = False
        """Whether there was any."""
        self._started = False
        self._usage: Usage | None = None

    def decode_end(self) -> list[Event]:
        """The events at the end of input, queued ones included."""
        out: list[Event] = []
        if not self._over:
            self._stop(out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """The events of an unstreamed answer. The decoder is used up."""
        out: list[Event] = []
        try:
            answer = decode_chunk(body)
        except UNREADABLE:
            try:
                body = repaired_json(body)
                answer = decode_leniently(decode_chunk, body, NEEDED)
            except UNREADABLE:
                return [errors.broken("the answer is not a chat completion", body)]
        failed = failure_of(answer, body)
        if failed is not None:
            return [failed]
        choices = answer.choices or []
        if not any(choice.message is not None for choice in choices):
            return [errors.failed_by(body)]
        for choice in choices:
            calls = choice.message.tool_calls if choice.message is not None else None
            for at, call in enumerate(calls or ()):
                call.index = at  # each entry is its own call, whatever its id
        self._read(answer, body, out)
        if not self._over:
            if self._has_output or self._line:
                self._reason = self._reason or "end"  # a body is complete
            self._stop(out)
        return out

    def decode_text(self, block: bytes) -> str:
        """See `codec.AnswerDecoder`."""
        return self._ordinary.text(block) if self._open == "text" else ""

    def _read_event(self, event: bytes, out: list[Event]) -> None:
        if self._open == "text" and (text := self._ordinary.text(event)):
            out.append(TextDelta(text))
            return
        parsed = sse.parse(event)
        if parsed is None:
            return
        data = parsed.data
        try:
            chunk = decode_chunk(data)
        except UNREADABLE:
            self._odd(parsed, out)
            return
        if (
            not chunk.choices
            or chunk.error is not NULL
            or chunk.base_resp is not NULL
            or parsed.name
        ) and self._is_over(chunk, parsed, out):
            return
        self._read(chunk, data, out)
        if self._ordinary.lessons and self._open == "text" and (text := _text_of(chunk)):
            self._ordinary.learn(event, text)

    def _odd(self, event: sse.Event, out: list[Event]) -> None:
        """Handle an event that is no valid chunk: the end, a heartbeat, or an irregular chunk."""
        if is_done(event.data):
            self._stop(out)
            return
        if is_heartbeat(event):
            return
        try:
            data = repaired_json(event.data)
            chunk = decode_leniently(decode_chunk, data, NEEDED)
        except UNREADABLE:
            self._fail(errors.broken("a frame is not a chat chunk", event.data), out)
            return
        if not self._is_over(chunk, event._replace(data=data), out):
            self._read(chunk, data, out)

    def _is_over(self, chunk: Chunk, event: sse.Event, out: list[Event]) -> bool:
        """Whether `chunk` reports a failure."""
        failed = failure_of(chunk, event.data, event.name)
        if failed is None and not chunk.choices and bytes(chunk.usage) == b"null":
            known = chunk.choices is not None or chunk.object is not None
            failed = failure_of_bare(event, known=known)
        if failed is not None:
            self._fail(failed, out)
        return failed is not None

    def _read(self, chunk: Chunk, data: bytes, out: list[Event]) -> None:
        """Handle a chunk. Its `Raw` members have not been decoded before."""
        try:
            self._take(chunk, data, out)
        except UNREADABLE:
            self._fail(errors.broken("a frame cannot be read", data), out)

    def _take(self, chunk: Chunk, data: bytes, out: list[Event]) -> None:
        choices = chunk.choices or ()
        if not self._started:
            if not choices and bytes(chunk.usage) == b"null":
                return
            self._started = True
            out.append(Started())
        if len(choices) > 1:
            _number(choices)
        for choice in choices:
            if choice.error is not NULL and says_error(choice.error):
                self._fail(errors.failed_by(bytes(choice.error)), out)
                return
            delta = choice.delta or choice.message
            if delta is not None and (choice.index or self._speaker):
                self._fold(choice.index or 0, delta)
            if delta is not None:
                if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
                    self._think(delta, out)
                content = delta.content
                if content:
                    if isinstance(content, str):
                        self._text("text", content, out)
                    else:
                        self._parts(content, out)
                if delta.refusal:
                    self._text("refusal", delta.refusal, out)
                if delta.annotations:
                    self._cite(delta.annotations)
                if delta.tool_calls:
                    for fragment in delta.tool_calls:
                        self._call(fragment, out)
                if delta.function_call is not None:
                    self._call(CallFragment(index=_LEGACY, function=delta.function_call), out)
            if choice.finish_reason:
                self._finished(choice, out)
                if self._over:
                    return
        if chunk.usage is not NULL and not self._over:
            usage = usage_in(chunk)
            if usage is not None and usage.tokens:
                self._usage = usage
                self._counted = False
                if self._open is None:
                    self._count(out)

    def _fold(self, number: int, delta: Delta) -> None:
        """Fold a choice of another number into the one requested.

        Some servers put the text into one choice and each call into another. Only the first
        choice's text is read.
        """
        if delta.content and number != self._speaker:
            if self._spoke:
                delta.content = None
            else:
                self._speaker = number
        for fragment in delta.tool_calls or ():
            if fragment.index is not None:
                fragment.index += number << _APART

    def _finished(self, choice: Choice, out: list[Event]) -> None:
        reason = stop_of(choice.finish_reason)
        if reason == "failed":
            self._fail(interrupted(choice.finish_reason), out)
            return
        if reason is not None and self._reason in _WHOLE:
            self._reason = reason
        for raw in (choice.stop_reason, choice.matched_stop):
            if bytes(raw).startswith(b'"'):
                self._sequence = decode_any(raw)

    # Blocks --------------------------------------------------------------------------------------

    def _text(self, kind: Kind, text: str, out: list[Event]) -> None:
        if self._open != kind and not self._turn_to(_Held(kind, text), out):
            return
        out.append(_DELTA[kind](text))

    def _turn_to(self, held: "_Held", out: list[Event]) -> bool:
        """Close the open block and open `held`; False if it is queued."""
        if isinstance(self._open, PendingCall) or self._line:
            last = self._line[-1] if self._line else None
            if isinstance(last, _Held) and last.kind == held.kind and last.signature is None:
                last.add(held)
            else:
                self._line.append(held)
            self._advance(out)
            return False
        self._close(out)
        self._open = held.kind
        self._has_output = True
        self._spoke = self._spoke or held.kind == "text"
        return True

    def _call(self, fragment: CallFragment, out: list[Event]) -> None:
        call, new = self._calls.find(fragment)
        if fragment.extra_content is not NULL:
            call.signature = call.signature or call_signature(fragment.extra_content)
        if new:
            self._line.append(call)
        if call is self._open:
            self._pass(call, out)
        if self._line:
            self._advance(out)

    def _advance(self, out: list[Event], *, ending: bool = False) -> None:
        """Open queued blocks, as far as the open block allows."""
        while self._line:
            if isinstance(self._open, PendingCall) and not (ending or self._open.whole()):
                return
            first = self._line[0]
            if isinstance(first, PendingCall):
                must_open = len(self._line) > 1 or ending
                if not first.name or not (first.fragments or must_open):
                    if not ending:
                        return
                    self._line.popleft()
                    if first.fragments:
                        self._fail(errors.broken("a tool call without a name"), out)
                        return
                    continue
                self._close(out)
                self._sign_call(first, out, behind=False)
                self._open = first
                first.opened = self._has_output = True
                out.append(ToolOpened(first.id, first.name, first.custom))
                self._pass(first, out)
            else:
                self._close(out)
                first.flush(out)
                self._open = first.kind if first.signature is None else None
                self._has_output = True
                if first.signature is not None:
                    out.append(Closed())
            self._line.popleft()

    def _pass(self, call: PendingCall, out: list[Event]) -> None:
        out.extend(map(ToolDelta, call.waiting))
        call.waiting.clear()

    def _close(self, out: list[Event]) -> None:
        if self._open is None:
            return
        if self._open == "text" and self._citations:
            out.extend(map(Cited, self._citations))
            self._citations.clear()
        closed, self._open = self._open, None
        out.append(Closed())
        if isinstance(closed, PendingCall):
            self._sign_call(closed, out, behind=True)
        self._count(out)

    def _count(self, out: list[Event]) -> None:
        """Emit new usage: between blocks, or before a failure."""
        if not self._counted and self._usage is not None:
            self._counted = True
            out.append(Counted(self._usage))

    # Particular members --------------------------------------------------------------------------

    def _think(self, delta: Delta, out: list[Event]) -> None:
        details = delta.reasoning_details or ()
        for member, text in (
            ("reasoning_content", delta.reasoning_content),
            ("reasoning", delta.reasoning if isinstance(delta.reasoning, str) else ""),
            ("reasoning_details", "".join(_detail_text(detail) for detail in details)),
        ):
            if text and self._reasoning in ("", member):
                self._reasoning = member
                self._text("thinking", text, out)
        for detail in details:
            if detail.get("signature") or detail.get("data"):
                self._sign(detail, out)

    def _sign(self, detail: dict[str, Any], out: list[Event]) -> None:
        """Keep a reasoning detail without its text, to send it back to the server unchanged."""
        rest = {key: value for key, value in detail.items() if key not in ("text", "summary")}
        signature = Signature(
            origin=_ORIGIN,
            data=_encode(rest).decode(),
            id=detail["id"] if isinstance(detail.get("id"), str) else "",
            redacted="data" in detail and self._open != "thinking",
        )
        if self._open == "thinking" or self._turn_to(_Held("thinking", "", signature), out):
            out.append(Signed(signature))
            self._close(out)

    def _sign_call(self, call: PendingCall, out: list[Event], *, behind: bool) -> None:
        """Emit the signature of `call` as a thinking block: other dialects' calls cannot carry it.

        behind: it arrived when the call was already open.
        """
        if call.signature:
            packed = Signature(
                origin=_ORIGIN, data=pack_call_signature(call.signature, behind=behind), id=call.id
            )
            call.signature = b""
            out += (Signed(packed), Closed())

    def _parts(self, parts: list[Part], out: list[Event]) -> None:
        for part in parts:
            if part.thinking:
                inner = part.thinking
                text = inner if isinstance(inner, str) else "".join(p.text or "" for p in inner)
                if text:
                    self._text("thinking", text, out)
            if part.text:
                self._text("text", part.text, out)
            if part.refusal:
                self._text("refusal", part.refusal, out)

    def _cite(self, annotations: list[Annotation]) -> None:
        for annotation in annotations:
            cited = annotation.url_citation
            if cited is not None:
                self._citations.append(
                    Citation(
                        cited.url,
                        cited.title or "",
                        cited.content or "",
                        cited.start_index,
                        cited.end_index,
                    )
                )

    # Endings -------------------------------------------------------------------------------------

    def _stop(self, out: list[Event]) -> None:
        """End the answer; without a finish reason it has failed."""
        self._advance(out, ending=True)
        if self._over:
            return
        reason = self._reason
        if reason is None:
            self._fail(errors.broken("the stream ended before its finish reason"), out)
            return
        self._close(out)
        self._over = True
        if reason == "end" and self._sequence is not None:
            reason = "stop_sequence"
        out.append(Stopped(reason, self._sequence, usage=self._usage))

    def _fail(self, failed: Failed, out: list[Event]) -> None:
        self._over = True
        self._count(out)
        out.append(failed)


class _Held:
    """A queued text or signature, until the open call is complete."""

    __slots__ = ("kind", "signature", "texts")

    def __init__(self, kind: Kind, text: str, signature: Signature | None = None) -> None:
        self.kind = kind
        self.texts = [text] if text else []
        self.signature = signature

    def add(self, more: "_Held") -> None:
        self.texts += more.texts
        if more.signature is not None:
            self.signature = replace(more.signature, redacted=False)

    def flush(self, out: list[Event]) -> None:
        out.extend(map(_DELTA[self.kind], self.texts))
        if self.signature is not None:
            out.append(Signed(self.signature))


def _number(choices: Sequence[Choice]) -> None:
    """Number choices without an index by their position."""
    for at, choice in enumerate(choices):
        if choice.index is None:
            choice.index = at


def _text_of(chunk: Chunk) -> str:
    """The text of a chunk without other content."""
    if not chunk.choices or len(chunk.choices) > 1 or bytes(chunk.usage) != b"null":
        return ""
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or not isinstance(delta.content, str) or choice.finish_reason:
        return ""
    must_open = (delta.reasoning_content, delta.reasoning, delta.reasoning_details, delta.refusal)
    if any(must_open) or delta.tool_calls or delta.function_call is not None or delta.annotations:
        return ""
    return delta.content


def _detail_text(detail: dict[str, Any]) -> str:
    for member in ("text", "summary"):
        text = detail.get(member)
        if isinstance(text, str):
            return text
    return ""


def read(body: bytes) -> list[Event]:
    """Decode a whole unstreamed answer into events."""
    return ChatReader().whole(body)
