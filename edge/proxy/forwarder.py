"""The forwarder: the ASGI app at the bottom of the chain.

It prepares the upstream request of one candidate and makes one attempt (`edge.proxy.attempt`).
The translator (`edge.proxy.translate`) makes the bytes of the request and of the answer.
"""

from collections.abc import Awaitable, Iterable, Mapping
from functools import partial
from time import perf_counter
from typing import Protocol

from msgspec.structs import replace

from edge.billing.surcharges import tariff_of
from edge.billing.token_estimate import Estimator
from edge.dialects.codec import ClientSide, TargetModel
from edge.dialects.passthrough import Fields
from edge.endpoints import Codec
from edge.media.forms import FormBody
from edge.media.left_links import refuse_links_beside
from edge.proxy.attachments.refusal import refuse_files
from edge.proxy.corrections.form_remedy import apply_form_corrections
from edge.proxy.corrections.learned import LearnedCorrections
from edge.proxy.corrections.remedy import apply_corrections
from edge.routing.catalog import ModelCandidate
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import Header, Request, Response
from edge.upstreams.provider import Provider, forwarded_headers
from middlewares.asgi import OneUse, Receive, Scope, Send
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Attempt, Exchange, exchange_of
from middlewares.problem import Problem

from .answer_memory import MAX_ANSWER, MAX_VECTORS
from .attempt import AttemptLimits, UpstreamAttempt
from .attempt_trace import request_notes, span_of, tapped
from .client_wait import wait_with_client
from .form_settings import with_form_settings
from .image_links import ImageLinks
from .media_attempt import MediaAttempt
from .transcript_attempt import TranscriptAttempt
from .translate import (
    CLIENTS,
    FilesTranslator,
    FormTranslator,
    Translator,
    passthrough_for,
    translator_for,
)
from .upstream_request import open_response, with_content_type


class MediaSteps(Protocol):
    """Prepares the media of a request for one target."""

    async def prepare(self, exchange: Exchange, model: TargetModel, provider: Provider) -> Fields:
        """The members to send: links and files resolved, media described where `model` does not
        take them. Raises Problem. `Exchange.fields` stays as it is, for later attempts."""
        ...


class Forwarder:
    """Answers an exchange from one target: `Exchange.candidate`.

    Raises Problem for a failure before the first content; another target can be tried then.

    hold: seconds the status line of a stream is held for its first content.
    keep_alive: seconds of silence on a stream after which a ping is sent.
    max_answer: bytes of an unstreamed answer, and of a translated stream.
    clients: the caller's side of each codec.
    estimator: of input tokens, for answers that state them before the upstream does.
    drain: seconds a drained upstream may go on after its client has disconnected.
    learned: corrections that targets are known to need.
    allow_passthrough: whether bytes pass when both sides speak the same dialect.
    image_links: makes links of images; None: they stay what the upstream made.
    media: prepares media for the target; None sends them as they came, but no ids of files.
    trace_content: whether traces have what callers write and models answer.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        clients: Mapping[Codec, ClientSide] = CLIENTS,
        estimator: Estimator | None = None,
        hold: float = 10.0,
        keep_alive: float = 12.0,
        max_answer: int = 256 << 20,
        drain: float = 300.0,
        learned: LearnedCorrections | None = None,
        allow_passthrough: bool = True,
        image_links: ImageLinks | None = None,
        media: MediaSteps | None = None,
        trace_content: bool = False,
    ) -> None:
        self._trace_content = trace_content
        self._media = media
        self._providers = providers
        self._clients = clients
        self._estimator = estimator or Estimator()
        self._limits = AttemptLimits(
            hold,
            keep_alive,
            drain,
            max_answer=min(MAX_ANSWER, max_answer),
            max_vectors=min(MAX_VECTORS, max_answer),
            max_stream=max_answer,
        )
        self._learned = LearnedCorrections() if learned is None else learned
        self._allow_passthrough = allow_passthrough
        self._image_links = image_links
        self._vendor_links = image_links is not None and image_links.vendor_links

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        candidate = exchange.candidate
        assert isinstance(candidate, ModelCandidate)
        exchange.served = candidate.served
        exchange.catalog_id = candidate.entry
        if exchange.attempts:
            _charge_last_attempt(exchange)
        exchange.tariff = tariff_of(candidate.prices, exchange.fields)
        provider = self._providers[candidate.target.upstream]
        fields, limits = exchange.fields, self._limits
        if exchange.media and exchange.row.conversation:
            began = perf_counter()
            try:
                fields = await self._with_media(exchange, candidate, provider, receive, send)
            except ClientDisconnected:
                exchange.outcome = "hung_up"
                return
            limits = limits.after(perf_counter() - began)
        if not provider.fetches_urls and not exchange.row.translated:
            checking = partial(refuse_links_beside, fields)
            await run_in_thread(checking) if exchange.large else checking()
        span_id, context = span_of(exchange, provider)
        if exchange.large:
            prepared = await run_in_thread(
                partial(self._prepare, exchange, candidate, provider, scope, fields, context)
            )
        else:
            prepared = self._prepare(exchange, candidate, provider, scope, fields, context)
        del fields
        translator, request = prepared
        notes = None
        if exchange.sampled:
            notes = await request_notes(exchange, content=self._trace_content)
        record = Attempt(
            candidate.target,
            perf_counter(),
            served=candidate.served,
            span_id=span_id,
            notes=notes,
        )
        exchange.attempts.append(record)
        opening: Awaitable[Response] = open_response(
            exchange,
            provider,
            request,
            record,
            dialect=translator.dialect,
            spelled=translator.spelled,
            learned=self._learned,
        )
        del request, prepared  # a prompt can be megabytes: only the sender holds it now
        if exchange.sampled:
            content = self._trace_content
            opening = tapped(opening, record, stream=exchange.stream, content=content)
        opening = OneUse(opening)
        attempt: UpstreamAttempt
        if exchange.row.answer == "json":
            attempt = UpstreamAttempt(exchange, record, translator, provider, limits, scope)
        elif exchange.row.answer == "transcript":
            attempt = TranscriptAttempt(exchange, record, translator, provider, limits, scope)
        else:
            attempt = MediaAttempt(
                exchange,
                record,
                translator,
                provider,
                limits,
                scope,
                links=self._image_links,
            )
        await attempt.run(opening, receive, send)
        self._learn(exchange)

    async def _with_media(
        self,
        exchange: Exchange,
        candidate: ModelCandidate,
        provider: Provider,
        receive: Receive,
        send: Send,
    ) -> Fields:
        """The members with their media prepared. Raises Problem and ClientDisconnected."""
        if self._media is None:
            refuse_files(exchange.fields)
            return exchange.fields
        return await wait_with_client(
            self._media.prepare(exchange, candidate.model, provider),
            exchange,
            receive,
            send,
            ping=self._clients[exchange.row.codec].ping,
            hold=self._limits.hold,
            silence=self._limits.keep_alive,
        )

    def _prepare(
        self,
        exchange: Exchange,
        candidate: ModelCandidate,
        provider: Provider,
        scope: Scope,
        fields: Fields,
        context: tuple[Header, ...],
    ) -> tuple[Translator, Request]:
        """The request of `fields` for `candidate`, and the translator of its answer. Raises
        Problem. context: headers of the trace."""
        target, prices = candidate.target, candidate.prices
        translator: Translator | None = None
        if self._allow_passthrough:
            translator = passthrough_for(
                exchange,
                provider.dialects,
                candidate.model,
                fields,
                candidate.foreign,
                provider.disclose,
            )
        if translator is None:
            translator = translator_for(
                exchange,
                provider.dialects,
                candidate.model,
                estimator=self._estimator,
                clients=self._clients,
                allow_passthrough=False,
                max_answer=self._limits.max_stream,
                foreign=candidate.foreign,
                disclose=provider.disclose,
                price=prices,
                # Links of an upstream in this process lead nowhere.
                vendor_links=self._vendor_links and bool(provider.base_url),
                json_edits=provider.json_edits,
                fields=fields,
            )
        if translator is None:
            raise _not_offered(exchange, provider)
        exchange.dropped = dropped = translator.dropped
        model = candidate.model
        if exchange.row.form is not None and isinstance(translator, FormTranslator):
            form = translator.take_form()
            if form is not None:
                form = with_form_settings(form, provider, dropped, model.drop_params)
                if self._learned:
                    known = self._learned.of(target, provider.base_path + translator.path)
                    corrected = apply_form_corrections(form, known)
                    dropped += [change.note for change in corrected.changes]
                    form = corrected.body
                headers = (*_forwarded(exchange, translator, scope), *context)
                return translator, _form_request(
                    exchange, translator, provider, scope, form, headers
                )
        body: bytes = translator.take_body()
        if provider.extra_body or provider.drop_body or self._learned or model.drop_params:
            body = provider.with_body_settings(body, dropped, model.drop_params)
            known = self._learned.of(target, provider.base_path + translator.path)
            if known:
                remedy = apply_corrections(body, known, translator.dialect)
                dropped += [change.note for change in remedy.changes]
                body = remedy.body
        if prices is not None and prices.factors:
            exchange.tariff = tariff_of(prices, exchange.fields, body)
        headers, query = provider.headers, b""
        if translator.dialect == "anthropic":  # only that one gets headers or a query of the caller
            headers = (*headers, *_forwarded(exchange, translator, scope))
            query = _query(exchange, translator, scope)
        request = Request(
            method=b"POST",
            target=provider.target(translator.path, query),
            headers=(*headers, *context) if context else headers,
            body=body,
        )
        if exchange.form is not None:
            request = _with_files(request, translator)
        return translator, request

    def _learn(self, exchange: Exchange) -> None:
        usage, principal = exchange.usage, exchange.principal
        if exchange.usage_reported and usage is not None and not exchange.media:
            counted = usage.input + usage.cache_read + usage.cache_write
            who = "" if principal is None else principal.id
            self._estimator.learn_bytes(exchange.catalog_id, exchange.size, counted, who)


def _charge_last_attempt(exchange: Exchange) -> None:
    """Charge the failed attempt for the usage it reported, and reset the exchange for another."""
    if exchange.usage is not None:
        last = exchange.attempts[-1]
        last.usage, exchange.usage = exchange.usage, None
        if exchange.tariff is not None:
            last.cost = exchange.tariff.cost(last.usage)
    exchange.usage_reported = False
    exchange.output_estimate = 0
    exchange.failure_encoder = None
    exchange.dropped = []


def _form_request(
    exchange: Exchange,
    translator: Translator,
    provider: Provider,
    scope: Scope,
    body: FormBody,
    headers: tuple[Header, ...],
) -> Request:
    request = Request(
        method=b"POST",
        target=provider.target(translator.path, _query(exchange, translator, scope)),
        headers=(*provider.headers, *headers),
        body=body,
    )
    return with_content_type(request, body.content_type)


def _with_files(request: Request, translator: Translator) -> Request:
    """`request` with the files of a form, for an upstream that takes them in JSON."""
    if not isinstance(translator, FilesTranslator) or not isinstance(request.body, bytes):
        return request
    return replace(request, body=translator.with_files(request.body))


def _query(exchange: Exchange, translator: Translator, scope: Scope) -> bytes:
    """The query to forward: `beta=true` between Anthropic clients and upstreams."""
    if exchange.dialect != "anthropic" or translator.dialect != "anthropic":
        return b""
    return b"beta=true" if b"beta=true" in scope["query_string"].split(b"&") else b""


def _forwarded(exchange: Exchange, translator: Translator, scope: Scope) -> Iterable[Header]:
    """The headers to forward: the caller's if both sides speak the same dialect."""
    return forwarded_headers(
        translator.dialect, scope["headers"] if exchange.dialect == translator.dialect else ()
    )


def _not_offered(exchange: Exchange, provider: Provider) -> Problem:
    return Problem(
        "invalid_request",
        message=f"The model `{exchange.model}` is not offered at this endpoint.",
        param="model",
        reason=f"upstream {provider.name} has nothing for {exchange.endpoint}",
    )
