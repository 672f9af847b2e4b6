"""Streams from an upstream to a client.

Frames are held until the first content; from then on each read of the upstream becomes at most one
`send`. The relay makes the bytes to send (`edge.dialects.passthrough.Relay`).
"""

from asyncio import get_running_loop, sleep
from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from edge.dialects.errors import failed_by
from edge.dialects.passthrough import Relay, UpstreamError
from edge.dialects.token_counts import TOKEN, output_tokens
from edge.upstreams import CHUNKED, FRAMING, Header, Response, UpstreamFailure, pump
from edge.upstreams.bodies import BOM
from middlewares.asgi import SENT, Message, Rest, Scope, Send
from middlewares.exchange import Exchange, FailureEncoder, cost_of
from middlewares.pricing import decimal
from middlewares.problem import Problem
from middlewares.send_layer import SendLayer, direct_send
from middlewares.sse import Overflow, Splitter, before_last, comment

from .translate import Translator
from .watchdog import Watchdog

STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_MAX_HELD = 1 << 20
_MAX_BLOCK = 16 << 10
"""Bytes of a read that are handled in one turn of the event loop: in the worst case, eight
thousand blank lines, they take 20 ms."""
_LAST_ASKED = ("type", "http_version", "method", "path", "state")
"""Members of the scope that the end of a request asks for."""
_BUDGET_USED_UP = "The budget is used up; the answer ends here."


class _Complete(Exception):
    """The client has its whole answer; the upstream need not go on."""


class ResponseStream:
    """One stream from an upstream to a client."""

    __slots__ = (
        "_committed",
        "_cost_sent",
        "_direct",
        "_direct_size",
        "_disconnected",
        "_held",
        "_layers",
        "_now",
        "_relay",
        "_relay_block",
        "_scope",
        "_send",
        "_splitter",
        "_translator",
        "_watchdog",
        "exchange",
        "started",
    )

    def __init__(
        self, exchange: Exchange, scope: Scope, translator: Translator, send: Send
    ) -> None:
        self.exchange = exchange
        self._scope = scope
        self.started = exchange.headers_sent_early
        self._committed = False
        self._disconnected = False
        self._held = b""
        self._translator = translator
        self._relay: Relay = translator.relay()
        self._relay_block = self._relay.relay
        exchange.failure_encoder = self._relay
        self._send = self._direct = send
        self._direct_size = 0
        self._layers: tuple[SendLayer, ...] = ()
        self._now = get_running_loop().time
        self._splitter = Splitter()
        self._cost_sent = False

    def on_disconnect(self) -> None:
        """Discard the rest, when the client disconnects and the upstream is drained."""
        self._disconnected = True
        self._report_direct()
        self._layers = ()  # what is discarded from now on is not counted
        self._send = self._direct = _discard
        if not self._committed:
            self.exchange.outcome = "hung_up"  # also if the drain is cut short

    async def _start(self) -> None:
        self.started = True
        headers = list(STREAM_HEADERS)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def ping(self) -> None:
        """Send a keep-alive, after the head if that is not sent yet; none after the end."""
        if self._relay.complete:
            return
        if not self.started:
            self.exchange.headers_sent_early = True
            await self._start()
        await self._send(_body(self._translator.ping))

    async def run(self, response: Response, watchdog: Watchdog) -> None:
        """Hold frames until the first content, then send each read at once."""
        self._watchdog = watchdog
        response.headers = _framing(response.headers)
        relay = self._relay
        try:
            await pump(response, self._on_read)
            rest = self._splitter.rest()
            if not self._held and rest.removeprefix(BOM).lstrip().startswith(b"{"):
                failed = failed_by(rest.removeprefix(BOM))  # an error labelled as a stream
                raise UpstreamError.by(failed)
            last = relay.relay(rest + b"\n\n") if rest else b""
            last += relay.relay_end()
            if not self._committed:
                if not relay.content:
                    raise UpstreamError("the stream ended without content")
                self._held += last  # content that the relay withheld
                await self._commit()
            elif last:
                await self._send_block(last)
        except _Complete:
            pass
        except UpstreamFailure:
            # After its end marker a stream with content is complete.
            if not (relay.complete and self._committed):
                raise
        except Overflow as overflow:
            raise UpstreamError(str(overflow)) from None
        except UpstreamError as broke:
            if broke.passed and self.exchange.first_content:
                await self._send(_body(broke.passed))
            raise
        finally:
            self._report_direct()
            exchange = self.exchange
            if not self._committed and self._held:
                exchange.failure_encoder = _HeldFailureEncoder(self._held.removeprefix(BOM), relay)
            exchange.usage, measured = self._translator.settle(relay)
            exchange.output_estimate = min(output_tokens(relay.output_size), exchange.max_output)
            if relay.complete and self._committed:  # however the connection ends
                exchange.usage_reported = measured
                exchange.outcome = "hung_up" if self._disconnected else "completed"

    def _on_read(self, chunk: bytes) -> Awaitable[None] | None:
        """Handle a read of the upstream. This is the hot path of the program."""
        if len(chunk) > _MAX_BLOCK:
            return self._read_in_pieces(chunk)
        splitter = self._splitter
        if splitter.tail or chunk[-2:] != b"\n\n":
            chunk = splitter.split(chunk)
            if not chunk:
                return None
        block = self._relay_block(chunk)
        relay = self._relay
        if self._committed:
            if not block:
                return None
            if relay.complete:
                return self._send_block(block)
            self._watchdog.last_beat = self._now()
            self._direct_size += len(block)
            steps = self._direct(
                {"type": "http.response.body", "body": block, "more_body": True}
            ).__await__()
            waits_for = next(steps, SENT)  # `middlewares.asgi.offer`, without its call
            return None if waits_for is SENT else Rest(steps, waits_for)
        self._held += block
        if relay.content:
            return self._commit()
        if len(self._held) > _MAX_HELD:
            raise UpstreamError(f"{_MAX_HELD} bytes came and no content")
        return None

    async def _read_in_pieces(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), _MAX_BLOCK):
            rest = self._on_read(chunk[at : at + _MAX_BLOCK])
            if rest is not None:
                await rest
            await sleep(0)

    async def _commit(self) -> None:
        """Send the held frames at the first content, after the head if that is not sent yet."""
        self._committed = True
        exchange = self.exchange
        release_request(exchange)
        if exchange.row.answer == "json" and not exchange.trace_id:  # else links or spans need them
            _forget_request(self._scope)
        exchange.first_content = now = perf_counter()
        exchange.upstream_seconds = now - exchange.attempts[0].started
        self._watchdog.content_started()
        if exchange.health_report is not None:
            exchange.health_report.answered()
        if not self.started:
            await self._start()
        exchange.headers_sent_early = False
        self._direct, self._layers = direct_send(self._send)
        held, self._held = self._held.removeprefix(BOM), b""
        await self._send_block(held)

    def _report_direct(self) -> None:
        """Report what was sent past the layers."""
        size, self._direct_size = self._direct_size, 0
        for layer in self._layers:
            layer.passed_over(size)

    async def _send_block(self, block: bytes) -> None:
        """Send a block. The answer is stored before its last block is sent."""
        relay = self._relay
        if relay.complete and relay.answer and self.exchange.answer_record is not None:
            await self.exchange.answer_record.save(relay.answer)
        self._watchdog.beat()
        if relay.complete and not self._cost_sent:
            self._cost_sent = True
            if cost := self._cost_comment():
                block = before_last(block, cost)
        await self._send(_body(block))
        if relay.enough:
            raise _Complete

    def _cost_comment(self) -> bytes:
        """The cost of the answer as an SSE comment, which readers ignore."""
        usage, measured = self._translator.settle(self._relay)
        if usage is None or not measured:
            return b""
        cost = cost_of(self.exchange, usage)
        if cost is None:
            return b""
        return comment("x-credits-used " + decimal(cost))

    async def finish(self) -> None:
        """End the client's stream after the upstream completed."""
        self.exchange.outcome = "hung_up" if self._disconnected else "completed"
        await self._send({"type": "http.response.body", "body": b""})


class BudgetCutOffStream(ResponseStream):
    """A stream that ends when its budget reservation is used up."""

    __slots__ = ()

    def _on_read(self, chunk: bytes) -> Awaitable[None] | None:
        relay = self._relay
        if relay.output_size > self.exchange.cut_off * TOKEN and not relay.complete:
            raise _budget_used_up(self.exchange)
        return super()._on_read(chunk)


def _budget_used_up(exchange: Exchange) -> Problem:
    extra = exchange.cut_off_extra or {}
    message = _BUDGET_USED_UP
    if extra.get("window"):
        message = f"{message} The {extra['window']} window resets at {extra['reset_at']}."
    return Problem("budget_exceeded", message=message, reason="cut off", extra=extra)


def release_request(exchange: Exchange) -> None:
    """Free the request: its answer has begun, so that no other target is tried."""
    exchange.fields = {}
    exchange.turn_marks = None
    exchange.decoded = None
    if exchange.upload is not None:
        exchange.upload.close()


def _forget_request(scope: Scope) -> None:
    """Free what nothing asks for once a stream has begun: its headers, and a kilobyte more."""
    kept = {name: scope[name] for name in _LAST_ASKED if name in scope}
    scope.clear()  # a dictionary gives back no room before
    scope.update(kept, headers=())


def _framing(headers: list[Header]) -> list[Header]:
    """What `headers` say of the form of the body; all headers of some providers are 3 KB."""
    framing = [pair for pair in headers if pair[0] in FRAMING]
    return CHUNKED if framing == CHUNKED else framing


class _HeldFailureEncoder:
    """Encodes the failure of a stream before its first content, after the held frames: where events
    are numbered, the failure continues their numbers."""

    def __init__(self, held: bytes, encoder: FailureEncoder) -> None:
        self._held = held
        self._encoder = encoder

    def encode_failure(self, content: dict[str, Any]) -> bytes | None:
        """See `FailureEncoder`."""
        encoded = self._encoder.encode_failure(content)
        return None if encoded is None else self._held + encoded


async def _discard(message: Message) -> None: ...


def _body(block: bytes) -> Message:
    return {"type": "http.response.body", "body": block, "more_body": True}
