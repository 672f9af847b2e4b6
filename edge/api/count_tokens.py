"""POST /v1/messages/count_tokens and /v1/responses/input_tokens: input tokens of a prompt.

The model's upstream counts if it speaks the caller's dialect; only its number is passed on.
Otherwise the answer is an estimate, which errs high:

    upstream of another dialect     its counter does not read the caller's request
    parts that name files           the ids are ours, which no upstream knows
    no such endpoint, or no count   404, 405, 501, or a 2xx without a number; the upstream is not
                                    asked again for ten minutes
    it fails, or refuses us         5xx, 401, 403, 429, unreachable, too slow: a prompt that counts
                                    too high makes a client compact early, an error makes it blind

The caller's own errors (400, 413, 422) are answered as for the prompt itself.
"""

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic, perf_counter, time
from typing import Annotated

import msgspec

from edge.billing.token_estimate import UNSEEN, Estimator, Weight, weigh
from edge.dialects.conversation import Conversation
from edge.dialects.passthrough import UNREADABLE, Fields, decode_fields, encode
from edge.endpoints import Endpoint
from edge.media.parts import find_media, has_media
from edge.proxy.attempt_trace import span_of
from edge.proxy.translate import PASSTHROUGH
from edge.proxy.watchdog import FirstTokenTimeout, Watchdog
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import Request, Response, UpstreamFailure
from edge.upstreams.bodies import BOM
from edge.upstreams.provider import Provider, forwarded_headers
from edge.upstreams.refusal import problem_of
from edge.vendors.errors.redact import redacted
from middlewares.asgi import Receive, Scope, Send, send_json
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Attempt, Dialect, Exchange
from middlewares.problem import Problem

Read = Callable[[Fields], Conversation]

_ANSWERS: Mapping[Dialect, bytes] = {
    "anthropic": b'{"input_tokens":%d}',
    "responses": b'{"object":"response.input_tokens","input_tokens":%d}',
}
_UNCOUNTED: Mapping[Dialect, frozenset[str]] = {
    "anthropic": frozenset(("max_tokens", "stream")),
    "responses": frozenset(("include", "max_output_tokens", "store", "stream")),
}
"""Members of a prompt that its counter refuses."""
_NO_ENDPOINT = (404, 405, 501)
_NOT_FOR_CALLER = (
    *("rate_limited", "upstream_error", "upstream_signed_out"),
    *("upstream_timeout", "upstream_unavailable"),
)
"""Kinds of problems that an estimate answers, since the caller cannot solve them."""
_MAX_BYTES = 64 << 10
_REASON = 500
"""Characters of what an upstream said that a log line may hold."""


class _Count(msgspec.Struct):
    input_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


_decode = msgspec.json.Decoder(_Count).decode


class _NoCounter(Exception):
    """The upstream has no counter. reason: what it answered instead."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CountingApp:
    """Answer with the input tokens of the prompt.

    readers: by dialect, how its bodies become a conversation.
    patience: seconds for an upstream to count. recheck: seconds after which an upstream that had no
        counter is asked again. clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        estimator: Estimator,
        readers: Mapping[Dialect, Read],
        patience: float = 10.0,
        recheck: float = 600.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._providers = providers
        self._estimator = estimator
        self._readers = readers
        self._patience = patience
        self._recheck = recheck
        self._clock = clock
        self._without_counter: dict[tuple[str, str], float] = {}
        """Time until which not to ask, by upstream and endpoint; bounded by the configuration."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        model: Model = exchange.resolved[0]
        exchange.served = model.id
        exchange.catalog_id = model.entry
        try:
            count = await self._upstream_count(exchange, model, scope, receive)
        except ClientDisconnected:
            exchange.outcome = "hung_up"
            return
        if count is None:
            weighing = partial(_weight_of, self._readers[exchange.dialect], exchange.fields)
            weight = await run_in_thread(weighing) if exchange.large else weighing()
            count = self._estimator.estimate(model.entry, weight)
        body = _ANSWERS[exchange.dialect] % count
        exchange.outcome = "completed"
        await send_json(scope, send, body)

    async def _upstream_count(
        self, exchange: Exchange, model: Model, scope: Scope, receive: Receive
    ) -> int | None:
        """The upstream's own count; None when it has to be estimated.

        Raises ClientDisconnected, and Problem for what is wrong with the request.
        """
        target = model.targets[0]
        provider = self._providers[target.upstream]
        native = exchange.dialect
        row: Endpoint = exchange.row
        counter = (provider.name, exchange.endpoint)
        if (
            native not in provider.dialects
            or self._without_counter.get(counter, 0.0) > self._clock()
        ):
            return None
        naming = partial(_names_files, exchange.fields)
        if await run_in_thread(naming) if exchange.large else naming():
            return None
        span_id, context = span_of(exchange, provider)
        attempt = Attempt(target=target, started=perf_counter(), span_id=span_id)
        exchange.attempts.append(attempt)
        write = partial(
            _body, native, exchange.fields, target.model, model.family_of(target), provider
        )
        request = Request(
            method=b"POST",
            target=provider.target(row.upstream_path, _query(exchange.dialect, scope)),
            headers=(*provider.headers, *forwarded_headers(native, scope["headers"]), *context),
            body=await run_in_thread(write) if exchange.large else write(),
        )
        try:
            async with Watchdog(receive, first_content=self._patience):
                return await fetch_count(exchange, provider, request, attempt)
        except _NoCounter as lacking:
            self._without_counter[counter] = self._clock() + self._recheck
            attempt.error = lacking.reason
        except ClientDisconnected:
            attempt.error = "the client left"
            raise
        except FirstTokenTimeout as limit:
            attempt.error = f"{target.name}: {limit}"
        except UpstreamFailure as failure:
            attempt.error = f"{target.name}: {redacted(provider.without_secrets(failure.reason))}"
        except Problem as problem:
            attempt.error = problem.reason
            if problem.kind not in _NOT_FOR_CALLER:
                raise
        finally:
            attempt.ended = perf_counter()
            exchange.upstream_seconds = attempt.ended - attempt.started
        return None


def _names_files(fields: Fields) -> bool:
    """Whether media parts of a prompt are files by their ids."""
    return has_media(fields) and any(part.param.endswith("file_id") for part in find_media(fields))


def _weight_of(read: Read, fields: Fields) -> Weight:
    return weigh(read(fields), UNSEEN)


async def fetch_count(
    exchange: Exchange, provider: Provider, request: Request, attempt: Attempt
) -> int:
    """The count that `request` asks for.

    Raises _NoCounter when there is no counter, UpstreamFailure, and Problem for any other refusal.
    """
    response = await provider.open(request)
    try:
        attempt.status = status = response.status
        body = await _read(response)
        if provider.secrets and status >= 300:
            body = provider.without_secrets(body.decode("utf-8", "replace")).encode()
    finally:
        response.close()
    if 200 <= status < 300:
        try:
            return _decode(body).input_tokens
        except UNREADABLE:
            pass
    said = f"{attempt.target.name}: {status} {redacted(body[:_REASON].decode('utf-8', 'replace'))}"
    named = attempt.target.model.encode() in body  # then it is the model that is not found
    if status < 400 or (status in _NO_ENDPOINT and not named):
        raise _NoCounter(f"no count: {said}")
    problem = problem_of(
        status,
        response.headers,
        body,
        dialect=exchange.dialect,
        fields=exchange.fields,
        disclosing=provider.disclose,
        now=time(),
    )
    problem.reason = said
    try:
        raise problem
    finally:  # its traceback holds this frame, which would hold the request
        del problem


async def _read(response: Response) -> bytes:
    """At most about `_MAX_BYTES`, of which a count has few."""
    body = b""
    while len(body) < _MAX_BYTES and (more := await response.read()):
        body += more
    return body.removeprefix(BOM)


def _body(dialect: Dialect, fields: Fields, model: str, family: str, provider: Provider) -> bytes:
    """The request for an answer, without the members that a counter refuses."""
    answered = PASSTHROUGH[dialect].prepare(fields, model, False, family=family)
    sent = decode_fields(provider.with_body_settings(answered, []))
    uncounted = _UNCOUNTED[dialect]
    return encode({name: raw for name, raw in sent.items() if name not in uncounted})


def _query(dialect: Dialect, scope: Scope) -> bytes:
    """The query to forward: `beta=true` of Anthropic clients."""
    beta = b"beta=true" in scope["query_string"].split(b"&")
    return b"beta=true" if beta and dialect == "anthropic" else b""
