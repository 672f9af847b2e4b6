"""Relay of streams whose events have a `type`: images, speech and transcripts.

Events pass as the bytes they came in, without members that name the vendor. Comments, ids and
retry times of the upstream do not pass.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from middlewares import sse
from middlewares.exchange import Usage

from .disclosure import tells, undisclosed
from .errors import broken, claims_failure, failed_by, says_error
from .heartbeats import is_heartbeat
from .media_usage import usage_of
from .openai_chat.failures import is_done
from .passthrough import (
    KEEP_ALIVE,
    UNREADABLE,
    Fields,
    UpstreamError,
    decode_fields,
    each_event,
    encode,
    without_data,
)

_decode_text = msgspec.json.Decoder(str).decode


class TypedEventRelay:
    """A `Relay` for one stream.

    content: types of events with a part of the answer. finals: types that end a part; the stream is
    complete after `parts` of them. model: the caller's name of the model.
    disclose: whether the answer may name its vendor.
    """

    enough = False
    answer = b""
    output_size = 0
    estimated = False

    def __init__(
        self,
        content: Collection[str],
        finals: Collection[str],
        model: str,
        *,
        parts: int = 1,
        disclose: bool = False,
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.content = False
        self.ended = 0
        """Number of parts that have ended."""
        self._content = content
        self._finals = finals
        self._model = model
        self._parts = parts
        self._disclose = disclose

    def encode_failure(self, content: dict[str, Any]) -> None:
        """None: events have no numbers."""

    def relay(self, block: bytes) -> bytes:
        """See `Relay`."""
        return each_event(block, self._event)

    def relay_end(self) -> bytes:
        """See `Relay`. A stream of fewer parts than were asked for is complete after one."""
        if not self.ended:
            raise UpstreamError("the stream ended before the answer did")
        self.complete = True
        return b""

    def _event(self, event: bytes) -> bytes:
        parsed = sse.parse(event)
        if parsed is None:
            return without_data(event)
        if is_done(parsed.data):
            return event
        if is_heartbeat(parsed):
            return KEEP_ALIVE
        try:
            fields = decode_fields(parsed.data)
        except UNREADABLE:
            raise UpstreamError.by(broken("an event is no JSON object", parsed.data)) from None
        kind = text_of(fields.get("type")) or parsed.name
        failing = kind.endswith(("error", ".failed"))
        if failing or says_error(fields.get("error", b"null")):
            raise UpstreamError.by(failed_by(parsed.data))
        if kind in self._content:
            self.content = True
            self.take_content(kind, fields)
        elif kind in self._finals:
            self.content = True
            self.end_part(fields)
        elif claims_failure(fields):
            raise UpstreamError.by(failed_by(parsed.data))
        if self._disclose or not (b'"model' in parsed.data or tells(parsed.data)):
            return event
        return sse.encode(encode(undisclosed(fields, self._model)), parsed.name)

    def take_content(self, kind: str, fields: Fields) -> None:
        """Read an event with a part of the answer. kind: its type. fields: its members."""

    def end_part(self, fields: Fields) -> None:
        """Count a part that has ended. fields: the members of its event."""
        self.ended += 1
        usage = usage_of(fields)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.plus(usage)
        if self.ended >= self._parts:
            self.complete = True


def text_of(raw: msgspec.Raw | None) -> str:
    """The string of a member, "" if it is none."""
    try:
        return "" if raw is None else _decode_text(raw)
    except UNREADABLE:
        return ""
