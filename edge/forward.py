"""The forwarder: the ASGI app at the bottom of the chain.

Theory of operation. A forwarded exchange goes through these phases:

    connecting   `Upstream.open` until the head is there
    holding      frames are read but not sent, until the first content; a failure here still has
                 its true status and leaves no trace
    streaming    the head has left; each upstream read becomes at most one `send`; a failure is an
                 error event and then the end
    ended        one way or another, the upstream response is closed in one `finally`

If nothing has come after `hold` seconds the head leaves early with a ping, and holding goes on
behind it. A client that leaves ends any phase (see `watch`). Which bytes go up and which come down
is the crossing's to say (`edge.dialects.crossing`).
"""

from collections.abc import Awaitable, Iterable, Mapping
from time import perf_counter, time

from middlewares._asgi import Message, Receive, Scope, Send, offer
from middlewares.exchange import Attempt, Exchange, Target
from middlewares.problem import Problem
from middlewares.sse import Overflow, Splitter

from .catalog import Catalog, Model
from .dialects.crossing import CLIENTS, Crossing, cross
from .dialects.passthrough import Relay, UpstreamBroke
from .dialects.sides import ClientSide
from .estimate import Estimator
from .upstreams import (
    ConnectFailed,
    Header,
    Request,
    Response,
    TimedOut,
    UpstreamFailure,
    pump,
)
from .upstreams.provider import Provider, passed_on
from .upstreams.refusal import problem_of, redacted
from .watch import ClientGone, NoContent, Watch

_STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_JSON: Header = (b"content-type", b"application/json")
_NO_ENDPOINT = (404, 405, 501)
"""What an upstream answers that lacks an endpoint."""
_REFUSAL_BYTES = 64 << 10
_HELD_BYTES = 1 << 20
_REASON = 1000
"""Characters of what an upstream said that a log line may hold."""


class Forwarder:
    """Answer an exchange from the model's target.

    hold: seconds the status line of a stream is held for its first content.
    keep_alive: seconds of silence on a stream after which a ping is sent.
    max_answer: bytes an unstreamed answer may have, and what is read of a translated stream.
    clients: by endpoint, how its callers speak.
    estimator: of input tokens, for answers that must tell them before the upstream does.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        providers: Mapping[str, Provider],
        clients: Mapping[str, ClientSide] = CLIENTS,
        estimator: Estimator | None = None,
        hold: float = 10.0,
        keep_alive: float = 12.0,
        max_answer: int = 256 << 20,
    ) -> None:
        self._catalog = catalog
        self._providers = providers
        self._clients = clients
        self._estimator = estimator or Estimator()
        self._hold = hold
        self._keep_alive = keep_alive
        self._max_answer = max_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        model = self._catalog.find(exchange.model)
        if model is None:
            raise Problem("model_not_found", reason="the catalog changed under the request")
        target = model.targets[0]
        exchange.served = model.id
        exchange.entry = model.entry
        try:
            await self._attempt(exchange, model, target, scope, receive, send)
        except Problem:
            lacking = exchange.attempts and exchange.attempts[-1].status in _NO_ENDPOINT
            if exchange.endpoint != "responses.compact" or not lacking:
                raise
            await self._attempt(exchange, model, target, scope, receive, send, passing=False)

    async def _attempt(
        self,
        exchange: Exchange,
        model: Model,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        passing: bool = True,
    ) -> None:
        """One try at one target. passing: see `cross`."""
        provider = self._providers[target.upstream]
        crossing = cross(
            exchange,
            provider.dialects,
            model=target.model,
            estimator=self._estimator,
            clients=self._clients,
            passing=passing,
            max_output=model.max_output,
            context=model.context,
            max_answer=self._max_answer,
        )
        if crossing is None:
            raise _not_offered(exchange, provider)
        exchange.dropped = crossing.dropped
        request = Request(
            method=b"POST",
            target=provider.target(crossing.endpoint, _query(exchange, crossing, scope)),
            headers=(*provider.headers, *_passed_on(exchange, crossing, scope)),
            body=crossing.take_body(),
        )
        attempt = Attempt(target=target, started=perf_counter())
        exchange.attempts.append(attempt)
        opening = self._open(exchange, provider, request, attempt, crossing.spelled)
        del request  # a prompt can be megabytes; its last holder is now what sends it
        try:
            if exchange.stream:
                passage = _Passage(exchange, crossing, send)
                del crossing
                await self._stream(passage, opening, provider.first_content, receive)
            else:
                await self._plain(exchange, crossing, opening, receive, send)
        except ClientGone:
            if exchange.outcome != "completed":
                exchange.outcome = "hung_up"
            attempt.error = "the client left"
        except NoContent as limit:
            attempt.error = str(limit)
            raise Problem("upstream_timeout", reason=_reason(target, str(limit))) from None
        except UpstreamFailure as failure:
            attempt.error = failure.reason
            raise Problem(_kind_of(failure), reason=_reason(target, failure.reason)) from None
        except UpstreamBroke as broke:
            attempt.error = broke.reason
            raise Problem(broke.kind, reason=_reason(target, broke.reason)) from None
        finally:
            attempt.ended = perf_counter()

    async def _open(
        self,
        exchange: Exchange,
        provider: Provider,
        request: Request,
        attempt: Attempt,
        spelled: Mapping[str, str] | None,
    ) -> Response:
        """A response with status 200; anything else as the Problem it amounts to."""
        response = await provider.upstream.open(request)
        exchange.upstream_seconds = perf_counter() - attempt.started
        attempt.status = response.status
        if response.status == 200:
            return response
        try:
            body = await _read_some(response, _REFUSAL_BYTES)
        finally:
            response.close()
        problem = problem_of(
            response.status,
            response.headers,
            body,
            dialect=exchange.dialect,
            members=exchange.fields,
            spelled=spelled,
            now=time(),
        )
        problem.reason = attempt.error = _reason(attempt.target, problem.reason)
        raise problem

    async def _plain(
        self,
        exchange: Exchange,
        crossing: Crossing,
        opening: Awaitable[Response],
        receive: Receive,
        send: Send,
    ) -> None:
        async with Watch(receive):
            response = await opening
            exchange.fields = {}
            try:
                body = await _read_all(response, self._max_answer)
            finally:
                response.close()
        exchange.upstream_seconds = perf_counter() - exchange.attempts[-1].started
        body, exchange.usage = crossing.finish_plain(body)
        if exchange.keeper is not None:
            await exchange.keeper(body)
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        exchange.first_content = perf_counter()
        exchange.outcome = "completed"
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(
        self,
        passage: "_Passage",
        opening: Awaitable[Response],
        first_content: float,
        receive: Receive,
    ) -> None:
        watch = Watch(
            receive,
            ping=passage.ping,
            hold=self._hold,
            silence=self._keep_alive,
            first_content=first_content,
        )
        async with watch:
            response = await opening
            try:
                _check_stream(response)
                await passage.carry(response, watch)
            finally:
                response.close()
        await passage.finish()


class _Enough(Exception):
    """The caller has all it asked for; the upstream need not go on."""


class _Passage:
    """One stream on its way from an upstream to a client."""

    __slots__ = (
        "_flowing",
        "_held",
        "_ping",
        "_relay",
        "_send",
        "_splitter",
        "_watch",
        "exchange",
        "started",
    )

    def __init__(self, exchange: Exchange, crossing: Crossing, send: Send) -> None:
        self.exchange = exchange
        self.started = False
        self._flowing = False
        self._held = b""
        self._ping = crossing.ping
        self._relay: Relay = crossing.relay()
        exchange.ending = self._relay.failure
        self._send = send
        self._splitter = Splitter()

    async def _start(self) -> None:
        self.started = True
        headers = list(_STREAM_HEADERS)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def ping(self) -> None:
        """A sign of life, after the head if that has not left yet; none after the end."""
        if self._relay.complete:
            return
        if not self.started:
            await self._start()
        await self._send(_body(self._ping))

    async def carry(self, response: Response, watch: Watch) -> None:
        """Hold frames until the first content, then pass each read on at once."""
        self._watch = watch
        relay = self._relay
        try:
            await pump(response, self._take)
            rest = self._splitter.rest()
            last = relay.feed(rest + b"\n\n") if rest else b""
            last += relay.end()
            if not self._flowing:
                if not relay.content:
                    raise UpstreamBroke("the stream ended without content")
                self._held += last  # what was kept back until it was known what it is
                await self._commit()
            elif last:
                await self._give(last)
        except _Enough:
            pass
        except UpstreamFailure:
            # After its end marker a stream that has given something has nothing left to lose.
            if not (relay.complete and self._flowing):
                raise
        except Overflow as overflow:
            raise UpstreamBroke(str(overflow)) from None
        except UpstreamBroke as broke:
            if broke.passed and self.exchange.first_content:
                await self._send(_body(broke.passed))
            raise
        finally:
            self.exchange.usage = relay.usage
            if relay.complete and self._flowing:  # whatever the upstream's connection does now
                self.exchange.outcome = "completed"

    def _take(self, chunk: bytes) -> Awaitable[None] | None:
        """Called for every read of the upstream: the hot path of the whole program."""
        block = self._splitter.feed(chunk)
        if not block:
            return None
        relay = self._relay
        block = relay.feed(block)
        if self._flowing:
            if not block:
                return None
            if relay.complete:
                return self._give(block)
            self._watch.beat()
            return offer(self._send, _body(block))
        self._held += block
        if relay.content:
            return self._commit()
        if len(self._held) > _HELD_BYTES:
            raise UpstreamBroke(f"{_HELD_BYTES} bytes came and no content")
        return None

    async def _commit(self) -> None:
        """The first content: let go of what was held, the head before it if it has not left."""
        self._flowing = True
        exchange = self.exchange
        exchange.fields = {}
        exchange.first_content = now = perf_counter()
        exchange.upstream_seconds = now - exchange.attempts[-1].started
        self._watch.content()
        if not self.started:
            await self._start()
        held, self._held = self._held, b""
        await self._give(held)

    async def _give(self, block: bytes) -> None:
        """Send what may be the last of the answer; kept first, if it is to be kept."""
        relay = self._relay
        if relay.complete and relay.answer and self.exchange.keeper is not None:
            await self.exchange.keeper(relay.answer)
        self._watch.beat()
        await self._send(_body(block))
        if relay.enough:
            raise _Enough

    async def finish(self) -> None:
        """The upstream has ended well and so does the client's stream."""
        self.exchange.outcome = "completed"
        await self._send({"type": "http.response.body", "body": b""})


def _body(block: bytes) -> Message:
    return {"type": "http.response.body", "body": block, "more_body": True}


def _check_stream(response: Response) -> None:
    for name, value in response.headers:
        if name == b"content-type":
            if not value.strip().lower().startswith(b"text/event-stream"):
                raise UpstreamBroke(f"a stream was asked for and {value[:80]!r} came")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise UpstreamBroke(f"the stream is encoded as {value[:80]!r}")


async def _read_all(response: Response, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while more := await response.read():
        parts.append(more)
        size += len(more)
        if size > limit:
            raise UpstreamBroke(f"the answer is larger than {limit} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _read_some(response: Response, limit: int) -> bytes:
    """At most about `limit` bytes of a body that only explains a refusal; its loss is no matter."""
    body = b""
    try:
        while len(body) < limit and (more := await response.read()):
            body += more
    except UpstreamFailure:
        pass
    return body[:limit]


def _query(exchange: Exchange, crossing: Crossing, scope: Scope) -> bytes:
    """Only Anthropic clients put meaning in the query (`?beta=true`)."""
    if exchange.dialect != "anthropic" or crossing.dialect != "anthropic":
        return b""
    return b"beta=true" if b"beta=true" in scope["query_string"].split(b"&") else b""


def _passed_on(exchange: Exchange, crossing: Crossing, scope: Scope) -> Iterable[Header]:
    """Headers mean something only where both sides speak the same dialect."""
    return passed_on(
        crossing.dialect, scope["headers"] if exchange.dialect == crossing.dialect else ()
    )


def _kind_of(failure: UpstreamFailure) -> str:
    if isinstance(failure, TimedOut):
        return "upstream_timeout"
    if isinstance(failure, ConnectFailed):
        return "upstream_unavailable"
    return "upstream_error"


def _reason(target: Target, reason: str) -> str:
    return f"{target.upstream}/{target.model}: {redacted(reason[:_REASON])}"


def _not_offered(exchange: Exchange, provider: Provider) -> Problem:
    return Problem(
        "invalid_request",
        message=f"The model `{exchange.model}` is not offered at this endpoint.",
        param="model",
        reason=f"upstream {provider.name} has nothing for {exchange.endpoint}",
    )
