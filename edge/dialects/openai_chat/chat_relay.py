"""Relay of streamed Chat Completions.

Theory of operation. A stream is thousands of chunks that differ in a few letters.
There are four paths, the quickest first:

* The block begins and ends like the last ordinary text chunk, with no quote, backslash or line end
  in between. It differs from that chunk in the inside of one JSON string only, so it is treated
  alike: its two ends are replaced by the caller's.
* Events have the shape of an earlier ordinary chunk (`event_shapes`), any number in one block.
* Each event is one `data:` line with the learned spelling of the model, and the block has no usage,
  error or finish reason: one `bytes.replace`. What else has to be replaced is learned from events
  that were decoded (`disclosure.Spellings`).
* Everything else (first chunk, finish, usage, `[DONE]`, comments, anything irregular) is decoded
  event by event.

Ordinary chunks of the last two paths become shapes. Usage in a chunk of a shape is decoded when it
is asked for.
"""

import re
from collections.abc import Callable
from copy import copy
from typing import Any

from edge.dialects.disclosure import TELLING, Spellings, finder, tells
from edge.dialects.errors import says_error
from edge.dialects.event_shapes import EventShape, EventShapes
from edge.dialects.events import Failed
from edge.dialects.heartbeats import is_heartbeat
from edge.dialects.output_size import OutputSize, is_string, unescaped
from edge.dialects.passthrough import (
    BACKSLASH,
    NO_ECHO,
    QUOTE,
    UNREADABLE,
    Echo,
    Fields,
    UpstreamError,
    each_event,
    encode,
    spelling_of_model,
    without_data,
)
from edge.dialects.split_characters import CharacterJoiner, may_have_lone
from edge.dialects.stop_reasons import stop_of
from middlewares import sse
from middlewares.exchange import Usage

from .answer_members import (
    NAMED,
    Answer,
    Choice,
    decode_answer,
    decode_repaired,
    interruption,
    is_filled,
    wants_usage,
)
from .editing import ChatEditor, asks_for_several, is_odd
from .failures import failure_of, failure_of_bare, is_done
from .wire import NULL, usage_in
from .write_answer import DONE

_NULL_USAGE = b',"usage":null'
_SPACED_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')
_NEVER = 1 << 62
_MOST_DECODED = 8
"""Events of a block that are decoded one by one between others of a known shape."""
_END = sse.Event("", b"[DONE]")

_CHOICES = b'"choices"'
_STRANGE = (
    *('error"', r'finish_reason"(?!\s*:\s*null)', r'logprobs"(?!\s*:\s*null)'),
    *(r'index"\s*:\s*(?!0[,}\s])', r'choices"\s*:\s*(?:\[\s*\]|null)'),
)


def _odd(*, strip: bool, disclose: bool) -> Callable[[bytes], re.Match[bytes] | None]:
    usage = 'usage"' if strip else r'usage"(?!\s*:\s*null)'
    return finder((*_STRANGE, usage, *(() if disclose else TELLING)))


_ODD = {
    (strip, disclose): _odd(strip=strip, disclose=disclose)
    for strip in (False, True)
    for disclose in (False, True)
}
"""Searches for members that require decoding a block event by event: by whether usage is stripped,
and whether the upstream may be named.
"""


class ChatRelay:
    """Passes one Chat stream through. disclose: the answer may name its vendor."""

    __slots__ = (
        "_around",
        "_counts",
        "_disclose",
        "_editor",
        "_finished",
        "_head",
        "_joiner",
        "_odd",
        "_ordinary",
        "_our_head",
        "_our_tail",
        "_ours",
        "_output_size",
        "_requested_model",
        "_shapes",
        "_spellings",
        "_strip",
        "_tail",
        "_tier",
        "_usage",
        "complete",
        "content",
    )

    enough = estimated = False
    answer = b""

    def __init__(
        self, fields: Fields, requested_model: str, echo: Echo = NO_ECHO, *, disclose: bool = False
    ) -> None:
        self._head = self._tail = self._our_head = self._our_tail = b""
        self._around = _NEVER
        """Bytes of a text chunk around its text."""
        self._ordinary = False
        """Whether others like the event that was decoded last need no decoding."""
        self._counts = False
        """Whether that event reports usage."""
        self._usage: Usage | None = None
        self.complete = False
        self.content = False
        self._output_size = OutputSize()
        self._shapes = EventShapes(self._output_size)
        self._tier: Any = None
        self._requested_model = requested_model
        self._disclose = disclose
        self._editor = ChatEditor(
            "delta", requested_model, several=asks_for_several(fields), disclose=disclose
        )
        self._finished = False
        self._joiner = CharacterJoiner()
        self._ours = b""
        """The model's member as the client gets it; b"" until the upstream's is learned."""
        self._spellings = Spellings()
        self._strip = not wants_usage(fields)
        self._odd = _ODD[self._strip, disclose]
        if self._strip:
            self._spellings.add(_NULL_USAGE, b"")

    @property
    def output_size(self) -> int:
        """Bytes of generated text so far."""
        return self._output_size.bytes

    @property
    def usage(self) -> Usage | None:
        """The usage that the upstream has reported so far."""
        last, self._shapes.last = self._shapes.last, b""
        parsed = sse.parse(last) if last else None
        if parsed is not None:
            chunk = decode_answer(parsed.data)
            chunk.service_tier = self._tier
            self._usage = usage_in(chunk) or self._usage
        return self._usage

    def encode_failure(self, content: dict[str, Any]) -> None:
        """None: events have no numbers."""

    def relay(self, block: bytes) -> bytes:
        """Pass a block of whole events on."""
        text = block.removeprefix(self._head).removesuffix(self._tail)
        if len(block) - len(text) == self._around:
            if (
                QUOTE not in text
                and BACKSLASH not in text
                and sse.LF not in text
                and sse.CR not in text
            ):
                self._output_size.bytes += len(text)
                return self._our_head + text + self._our_tail
            if is_string(text) and not may_have_lone(text):
                self._output_size.bytes += unescaped(text)
                return self._our_head + text + self._our_tail
        if self.complete:
            return b""
        if self._joiner.held or sse.CR in block:
            return self._joined(block)
        escaped = BACKSLASH in block
        return self._shapes.match_one(block, escaped) or self._in_parts(block, escaped)

    def _joined(self, block: bytes) -> bytes:
        """Pass a block on that may have halves of characters."""
        block = self._joiner.join(block)
        if self._joiner.held:
            self._forget()  # the next event must not overtake the held one
        return self._passed(block)

    def _in_parts(self, block: bytes, escaped: bool) -> bytes:
        """Pass a block on: events of known shapes together, others one by one."""
        out: list[bytes] = []
        shapes = self._shapes
        at, end, decoded = 0, len(block), 0
        while (at := shapes.match(block, at, out, escaped)) < end:
            cut = block.find(b"\n\n", at) + 2
            decoded += 1
            if cut < 2 or decoded > _MOST_DECODED or not shapes.may_learn:
                cut = end
            shapes.current = None
            try:
                part = block[at:cut]
                if escaped and may_have_lone(part):
                    cut = end
                    out.append(self._joined(block[at:]))
                else:
                    out.append(self._passed(part))
            except UpstreamError as broke:
                broke.passed = b"".join([*out, broke.passed])
                raise
            at = end if self.complete else cut
        self._use(shapes.current)
        return out[0] if len(out) == 1 else b"".join(out)

    def _passed(self, block: bytes) -> bytes:
        """Pass a block on, and learn the shape of an ordinary event."""
        out = self._renamed(block)
        if out is not None:
            events = out.count(self._ours)
            self._output_size.add(block, events)
            if events == 1:
                self._learn(block, out)
            return out
        self._ordinary = False
        out = each_event(block, self._event)
        if self._ordinary and block.find(b"\n\n") == len(block) - 2:
            shape = self._learn(block, out)
            if shape is not None:
                shape.counts = self._counts
                shape.strict = self._renamed(block) is None
        return out

    def _renamed(self, block: bytes) -> bytes | None:
        """The client's bytes for a block of ordinary events; None if it has to be decoded."""
        if not (self.content and self._ours) or sse.CR in block:
            return None
        out = self._spellings.apply(block)
        if (
            out.count(b"\n") == 2 * (events := out.count(self._ours))
            and events == out.count(NAMED) == out.count(_CHOICES)
            and out.startswith(b"data:")
            and out.endswith(b"\n\n")
            and (events == 1 or out.count(b"\n\ndata:") == events - 1)
            and self._odd(out) is None
        ):
            return out
        return None

    def _learn(self, event: bytes, answer: bytes) -> EventShape | None:
        return self._shapes.learn(event, answer, self._spellings.apply, self._answer_to)

    def _answer_to(self, event: bytes) -> bytes:
        """The answer to an ordinary event, without an effect."""
        relay = copy(self)
        relay._output_size = OutputSize()
        relay._shapes = EventShapes(relay._output_size)
        relay._shapes.stop_learning()
        relay._spellings = Spellings()
        relay._spellings.pairs = [*self._spellings.pairs]
        try:
            return relay._passed(event)
        except UpstreamError:
            return b""

    def _use(self, shape: EventShape | None) -> None:
        """Let events of `shape` take the quickest path, if it is for them."""
        ends = shape.ends() if shape is not None else None
        if ends is None:
            self._around = _NEVER
            return
        self._head, self._tail, self._our_head, self._our_tail = ends
        self._around = len(self._head) + len(self._tail)

    def _forget(self) -> None:
        self._shapes.forget()
        self._use(None)

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None or self.complete:
            return b"" if self.complete else without_data(event)
        if is_done(parsed.data):
            if not self._finished:
                raise UpstreamError("the stream ended before its finish reason")
            self._close()
            return event if parsed == _END else DONE
        try:
            chunk, data = decode_answer(parsed.data), parsed.data
        except UNREADABLE as error:
            if is_heartbeat(parsed):
                return b""
            chunk, data = decode_repaired(parsed.data, f"a frame is not a chat chunk: {error}")
            event = sse.encode(data)
        failed = failure_of(chunk, data, parsed.name)
        if failed is not None:
            raise UpstreamError.by(failed)
        if not chunk.choices and bytes(chunk.usage) == b"null":
            known = chunk.choices is not None or chunk.object is not None
            failed = failure_of_bare(sse.Event(parsed.name, data), known=known)
            if failed is not None:
                raise UpstreamError.by(failed)
            if not known:
                return b""
        out = self._chunk(chunk, data, event)
        self._ordinary = self._ordinary and data is parsed.data
        return out

    def _chunk(self, chunk: Answer, data: bytes, event: bytes) -> bytes:
        choices = chunk.choices or []
        changed = folds = self._editor.folds(choices[0].index if choices else None, len(choices))
        if not folds:
            self._output_size.add(event, 1)
        self._counts = bytes(chunk.usage) != b"null"
        interrupted: Failed | None = None
        for choice in choices:
            if choice.finish_reason is not None:
                ending = stop_of(choice.finish_reason)
                changed = changed or is_odd(choice.finish_reason)
                if ending == "failed" or says_error(choice.error):
                    interrupted = interruption(choice)
                elif ending is not None:
                    self._finished = self.content = True
            elif says_error(choice.error):
                interrupted = interruption(choice)
            self.content = self.content or _has_content(choice)
        drop = ("error",) if bytes(chunk.error) != b"null" else ()
        self._ordinary = (
            self.content
            and len(choices) == 1
            and not (changed or drop)
            and choices[0].finish_reason is None
            and choices[0].error is NULL
        )
        if chunk.service_tier is not None:
            self._tier = chunk.service_tier
        if self._counts:
            chunk.service_tier = self._tier
            before = self.usage
            self._usage = usage_in(chunk) or before
            if self._strip:
                if not choices:
                    return b""
                drop = (*drop, "usage")
        elif self._strip and b'"usage"' in event:
            event, data = (_SPACED_NULL_USAGE.sub(b"", part) for part in (event, data))
        if interrupted is not None:
            broke = UpstreamError.by(interrupted)
            if any(map(_has_content, choices)):
                broke.passed = self._edited(data, choices=True, drop=drop, folds=folds)
            raise broke
        event, known = self._named(chunk, event)
        named = not self._disclose and (tells(event) or event.count(NAMED) > known)
        if changed or drop or named:
            if not self._disclose:
                self._spellings.learn(event, self._requested_model)
            return self._edited(data, choices=changed, drop=drop, folds=folds)
        return event

    def _edited(self, data: bytes, *, choices: bool, drop: tuple[str, ...], folds: bool) -> bytes:
        """folds: the size counts the folded choice only: the others were not requested."""
        out = sse.encode(self._editor.edit(data, choices=choices, drop=drop))
        if folds:
            self._output_size.add(out, 1)
        return out

    def _named(self, chunk: Answer, event: bytes) -> tuple[bytes, int]:
        """`event` with the caller's name of the model, and the number of such members in it.

        A new spelling of the member is learned.
        """
        if chunk.model is None:
            return event, 0
        out = self._spellings.apply(event)
        if not self._ours or self._ours not in out:
            try:
                theirs = spelling_of_model(event, chunk.model)
            except UpstreamError:  # a number, or an escaped name
                return event, -1
            self._ours = b'"model":' + encode(self._requested_model)
            self._spellings.add(theirs, self._ours)
            out = self._spellings.apply(event)
        return out, 1

    def _close(self) -> None:
        self.complete = True
        self._forget()

    def relay_end(self) -> bytes:
        """End the stream. It may lack `[DONE]`, but not a finish reason."""
        if self.complete:
            return b""
        out = each_event(self._joiner.rest(), self._event)
        if self._finished:
            self._close()
            return out + DONE
        broke = UpstreamError("the stream ended before its finish reason")
        broke.passed = out
        raise broke


def _has_content(choice: Choice) -> bool:
    """Whether `choice` holds output of the model."""
    return bool(choice.text) or is_filled(choice.delta or {})
