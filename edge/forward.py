"""The forwarder: the ASGI app at the bottom of the chain.

Theory of operation. A forwarded exchange goes through these phases:

    connecting   `Upstream.open` until the head is there
    holding      frames are read but not sent, until the first content; a failure here still has
                 its true status and leaves no trace
    streaming    the head has left; each upstream read becomes at most one `send`; a failure is an
                 error event and then the end
    ended        one way or another, the upstream response is closed in one `finally`

If nothing has come after `hold` seconds the head leaves early with a ping, and holding goes on
behind it. A client that leaves ends any phase (see `watch`), unless its principal's upstreams are
to be heard out (`Exchange.on_hangup`): then what comes goes nowhere, but is counted. Which bytes go
up and which come down is the crossing's to say (`edge.dialects.crossing`).
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Iterable, Mapping
from functools import partial
from time import perf_counter

from middlewares._asgi import Receive, Scope, Send
from middlewares.exchange import Attempt, Dialect, Exchange, Place, Target, Usage, exchange_of
from middlewares.problem import Problem

from .answers import LARGE, MOST_ANSWER, MOST_VECTORS, Held
from .aside import aside, completely
from .asking import ask, reason_of
from .catalog import Catalog, Model
from .corrections.change import Change
from .corrections.learned import Learned
from .corrections.remedy import corrected
from .dialects.crossing import CLIENTS, Crossing, cross
from .dialects.passthrough import UpstreamBroke
from .dialects.sides import ClientSide
from .endpoints import Codec
from .estimate import Estimator
from .passage import CutOff, Passage
from .sniff import event_stream, whole_answer
from .surcharges import tariff_of
from .upstreams import (
    ConnectFailed,
    Header,
    OutOfDescriptors,
    Request,
    Response,
    TimedOut,
    UpstreamFailure,
)
from .upstreams.bodies import TooLarge, read_all
from .upstreams.provider import Provider, passed_on
from .upstreams.refusal import disclose
from .watch import ClientGone, NoContent, Watch

_JSON: Header = (b"content-type", b"application/json")
_NO_ENDPOINT = (404, 405, 501)
"""What an upstream answers that lacks an endpoint."""


class Forwarder:
    """Answer an exchange from one place: `Exchange.place`, or the first target of its model.

    A failure before the first content is raised as a Problem, and leaves the exchange so that it
    can be tried elsewhere.

    hold: seconds the status line of a stream is held for its first content.
    keep_alive: seconds of silence on a stream after which a ping is sent.
    max_answer: bytes an unstreamed answer may have, and what is read of a translated stream.
    clients: by codec, how callers speak.
    estimator: of input tokens, for answers that must tell them before the upstream does.
    hear_out: seconds an upstream may go on after its client has left, where it is heard out.
    learned: what targets were found not to take.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        providers: Mapping[str, Provider],
        clients: Mapping[Codec, ClientSide] = CLIENTS,
        estimator: Estimator | None = None,
        hold: float = 10.0,
        keep_alive: float = 12.0,
        max_answer: int = 256 << 20,
        hear_out: float = 300.0,
        learned: Learned | None = None,
    ) -> None:
        self._catalog = catalog
        self._providers = providers
        self._clients = clients
        self._estimator = estimator or Estimator()
        self._hold = hold
        self._keep_alive = keep_alive
        self._max_answer = max_answer
        self._most_answer = min(MOST_ANSWER, max_answer)
        self._most_vectors = min(MOST_VECTORS, max_answer)
        self._hear_out = hear_out
        self._learned = learned or Learned()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        place = exchange.place
        model = self._catalog.find(exchange.model if place is None else place.served)
        if model is None:
            raise Problem("model_not_found", reason="the catalog changed under the request")
        place = place or model.places[0]
        exchange.served = model.id
        exchange.entry = model.entry
        if exchange.attempts:
            self._anew(exchange)
        exchange.tariff = tariff_of(model.prices, exchange.fields)
        passing = True
        while True:
            try:
                return await self._attempt(
                    exchange, model, place, scope, receive, send, passing=passing
                )
            except Problem as problem:
                if exchange.attempts and not exchange.attempts[-1].problem:
                    exchange.attempts[-1].problem = problem.kind
                lacking = exchange.attempts and exchange.attempts[-1].status in _NO_ENDPOINT
                if exchange.row.codec != "compaction" or not lacking or not passing:
                    raise
            self._anew(exchange)
            passing = False

    async def _attempt(
        self,
        exchange: Exchange,
        model: Model,
        place: Place,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        passing: bool = True,
    ) -> None:
        """One try at one place. passing: see `cross`."""
        target = place.target
        provider = self._providers[target.upstream]
        way = partial(
            cross,
            exchange,
            provider.dialects,
            model=place.target.model,
            family=model.family_of(place.target),
            estimator=self._estimator,
            clients=self._clients,
            passing=passing,
            max_output=model.max_output,
            context=model.context,
            max_answer=self._max_answer,
            foreign=place.foreign,
            disclose=provider.disclose,
        )
        crossing = await aside(way) if exchange.large else way()
        if crossing is None:
            raise _not_offered(exchange, provider)
        exchange.dropped = crossing.dropped
        body = crossing.take_body()
        if provider.extra_body or provider.drop_body or self._learned:
            known = self._learned.of(target)
            shape = partial(_shaped, exchange, provider, known, crossing.dialect, body)
            body = await aside(shape) if exchange.large else shape()
            del shape
        if model.prices is not None and model.prices.factors:
            exchange.tariff = tariff_of(model.prices, exchange.fields, body)
        request = Request(
            method=b"POST",
            target=provider.target(crossing.path, _query(exchange, crossing, scope)),
            headers=(*provider.headers, *_passed_on(exchange, crossing, scope)),
            body=body,
        )
        attempt = Attempt(target=target, started=perf_counter(), served=model.id)
        exchange.attempts.append(attempt)
        opening = ask(
            exchange,
            provider,
            request,
            attempt,
            dialect=crossing.dialect,
            spelled=crossing.spelled,
            learned=self._learned,
        )
        del request, body  # a prompt can be megabytes; its last holder is now what sends it
        try:
            if exchange.stream:
                kind = CutOff if exchange.cut_off else Passage
                passage = kind(exchange, crossing, send)
                spoken = crossing.dialect
                del crossing
                await self._stream(passage, opening, spoken, provider.first_content, receive)
            else:
                await self._plain(exchange, crossing, opening, receive, send)
        except CancelledError:  # we stop, and wait no longer; a client that leaves is ClientGone
            if not exchange.outcome:
                exchange.outcome = "cut" if exchange.first_content else "failed"
            attempt.error = "the service stops"
            raise
        except ClientGone as gone:
            _let_go(gone)
            if exchange.outcome != "completed":
                exchange.outcome = "hung_up"
            attempt.error = "the client left"
        except NoContent as limit:
            _let_go(limit)
            attempt.error = str(limit)
            attempt.unanswered = not attempt.status
            raise Problem("upstream_timeout", reason=reason_of(target, str(limit))) from None
        except UpstreamFailure as failure:
            _let_go(failure)
            attempt.error = said = provider.masked(failure.reason)
            attempt.unanswered = failure.sent and not attempt.status
            reason = reason_of(target, said)
            ours = isinstance(failure, OutOfDescriptors)
            raise Problem(_kind_of(failure), reason=reason, held=not ours) from None
        except UpstreamBroke as broke:
            _let_go(broke)
            attempt.error = provider.masked(broke.reason)
            raise _failure(broke, target, provider) from None
        finally:
            attempt.ended = now = perf_counter()
            if not exchange.first_content:
                exchange.upstream_seconds = now - exchange.attempts[0].started

    async def _plain(
        self,
        exchange: Exchange,
        crossing: Crossing,
        opening: Awaitable[Response],
        receive: Receive,
        send: Send,
    ) -> None:
        gone = False

        def left() -> None:
            nonlocal gone
            gone = True
            exchange.outcome = "hung_up"  # also if we have to stop before it is heard out

        vectors = exchange.row.codec == "embeddings"
        most = self._most_vectors if vectors else self._most_answer
        held = Held()
        try:
            async with Watch(receive, linger=self._linger(exchange), left=left):
                response = await opening
                try:
                    body = await read_all(response, most, held.grow)
                except TooLarge as raised:
                    if not vectors:
                        raise
                    raise _too_many_vectors(exchange, raised.reason, most) from None
                finally:
                    response.close()
                exchange.upstream_seconds = perf_counter() - exchange.attempts[0].started
                # In here, as nobody else is asked for a client that has left.
                if len(body) < LARGE:
                    body = _finish(exchange, crossing, body)
                else:
                    step = partial(_finish, exchange, crossing, body)
                    del body
                    body = await completely(step)
                    del step
            exchange.fields = {}
            exchange.decoded = None
            if exchange.upload is not None:
                exchange.upload.close()
            self._learn(exchange)
            if exchange.answer_record is not None:
                await exchange.answer_record.save(body)
            headers = [_JSON, (b"content-length", str(len(body)).encode())]
            exchange.first_content = perf_counter()
            exchange.outcome = "hung_up" if gone else "completed"
            if not gone:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                if not held.size:
                    await send({"type": "http.response.body", "body": body})
                elif not await held.send(send, body):
                    exchange.outcome = "hung_up"
        finally:
            held.close()

    def _hold_left(self, exchange: Exchange) -> float:
        """Seconds the status may still be held, over all attempts; silence after it has left."""
        attempts = exchange.attempts
        if exchange.early:
            return self._keep_alive
        if len(attempts) == 1:
            return self._hold
        return max(0.0, self._hold - (attempts[-1].started - attempts[0].started))

    def _anew(self, exchange: Exchange) -> None:
        """The last attempt has failed: what its upstream told is that attempt's, and is paid."""
        if exchange.usage is not None:
            last = exchange.attempts[-1]
            last.usage, exchange.usage = exchange.usage, None
            if exchange.tariff is not None:
                last.cost = exchange.tariff.cost(last.usage)
        exchange.measured = False
        exchange.produced = 0
        exchange.failure_encoder = None
        exchange.dropped = []

    def _linger(self, exchange: Exchange) -> float:
        return self._hear_out if exchange.on_hangup == "drain" else 0.0

    def _learn(self, exchange: Exchange) -> None:
        usage = exchange.usage
        if exchange.measured and usage is not None and not exchange.media:
            counted = usage.input + usage.cache_read + usage.cache_write
            self._estimator.learn_bytes(
                exchange.entry, exchange.size, counted, _principal(exchange)
            )

    async def _stream(
        self,
        passage: "Passage",
        opening: Awaitable[Response],
        spoken: Dialect,
        first_content: float,
        receive: Receive,
    ) -> None:
        watch = Watch(
            receive,
            ping=passage.ping,
            hold=self._hold_left(passage.exchange),
            silence=self._keep_alive,
            first_content=first_content,
            linger=self._linger(passage.exchange),
            left=passage.left,
        )
        async with watch:
            response = await opening
            try:
                stream = await event_stream(response, spoken, self._max_answer)
                await passage.carry(stream, watch)
            finally:
                response.close()
        await passage.finish()
        self._learn(passage.exchange)


def _finish(exchange: Exchange, crossing: Crossing, body: bytes) -> bytes:
    """The caller's body of a whole answer; what it used is noted. Raises UpstreamBroke."""
    body, usage, exchange.measured = crossing.finish_plain(whole_answer(body, crossing.dialect))
    exchange.usage = usage
    exchange.produced = usage.output
    return body


def _too_many_vectors(exchange: Exchange, reason: str, most: int) -> Problem:
    """They were asked for and made, so their input is charged, and their target is well."""
    exchange.usage = Usage(input=exchange.estimate)
    return Problem(
        "request_too_large",
        message=f"The answer to this request is larger than {most} bytes. Send fewer inputs at "
        'once, or ask for `encoding_format` "base64" or fewer `dimensions`.',
        param="input",
        reason=reason,
        held=False,
    )


def _shaped(
    exchange: Exchange,
    provider: Provider,
    known: tuple[Change, ...],
    spoken: Dialect,
    body: bytes,
) -> bytes:
    """As the operator shapes it, without what its target was found not to take."""
    body = provider.shaped(body, exchange.dropped)
    if known:
        remedy = corrected(body, known, spoken)
        exchange.dropped += [change.note for change in remedy.changes]
        return remedy.body
    return body


def _principal(exchange: Exchange) -> str:
    return "" if exchange.principal is None else exchange.principal.id


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


def _let_go(raised: BaseException) -> None:
    """Forget where it was raised. Some there hold what they raise: with its traceback, which holds
    them, each failed request would stay, body and all, until the next full garbage collection.
    """
    chain: BaseException | None = raised
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__context__


def _kind_of(failure: UpstreamFailure) -> str:
    if isinstance(failure, TimedOut):
        return "upstream_timeout"
    if isinstance(failure, ConnectFailed):
        return "upstream_unavailable"
    return "upstream_error"


def _failure(broke: UpstreamBroke, target: Target, provider: Provider) -> Problem:
    """What an error inside a 200 amounts to."""
    reason = reason_of(target, provider.masked(broke.reason))
    problem = Problem(broke.kind, retry_after=broke.wait, reason=reason)
    if provider.disclose and broke.said:
        disclose(problem, provider.masked(broke.said))
    return problem


def _not_offered(exchange: Exchange, provider: Provider) -> Problem:
    return Problem(
        "invalid_request",
        message=f"The model `{exchange.model}` is not offered at this endpoint.",
        param="model",
        reason=f"upstream {provider.name} has nothing for {exchange.endpoint}",
    )
