"""Which app answers which endpoint, at the bottom of the chain and a little above it."""

from collections.abc import Callable, Mapping

from middlewares import Metrics
from middlewares._asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import exchange_of
from middlewares.stores.responses import ResponseStore

from .catalog import Catalog
from .counting import CountingApp
from .dialects import anthropic_messages, openai_responses
from .dialects.crossing import CLIENTS
from .dialects.openai_responses import compaction
from .estimate import Estimator
from .forward import Forwarder
from .models import ModelsApp
from .responses import ResponsesApp
from .sealing import Sealing
from .settings import Settings
from .upstreams.provider import Provider


class Endpoints:
    """Some endpoints have an app of their own, all else has `app`. apps: by endpoint."""

    def __init__(self, app: ASGIApp, apps: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        app = self._apps.get(exchange_of(scope).endpoint, self.app)
        await app(scope, receive, send)


def endpoints(
    settings: Settings,
    catalog: Catalog,
    providers: Mapping[str, Provider],
    *,
    sealing: Sealing,
    estimator: Estimator,
    account: ASGIApp,
    max_answer: int = 256 << 20,
) -> Endpoints:
    """The bottom. account: answers callers about themselves. max_answer: bytes of an unstreamed
    answer."""
    server = settings.server

    def seal(owner: str, payload: bytes) -> str:
        return sealing.fetched.seal(compaction.PURPOSE, owner, payload)

    forward = Forwarder(
        catalog=catalog,
        providers=providers,
        clients={
            **CLIENTS,
            "responses.compact": compaction.client(openai_responses.CLIENT.read, seal),
        },
        estimator=estimator,
        hold=server.first_token_hold,
        keep_alive=server.ping_interval or float("inf"),
        hear_out=server.disconnect_drain,
        max_answer=max_answer,
    )
    counting = CountingApp(
        catalog=catalog,
        providers=providers,
        estimator=estimator,
        readers={
            "messages.count_tokens": anthropic_messages.read_counted,
            "responses.input_tokens": openai_responses.CLIENT.read,
        },
    )
    return Endpoints(
        forward,
        {
            "models": ModelsApp(catalog, settings.brand),
            "usage": account,
            "limits": account,
            "requests": account,
            "messages.count_tokens": counting,
            "responses.input_tokens": counting,
        },
    )


def stateful(
    settings: Settings,
    catalog: Catalog,
    *,
    metrics: Metrics,
    responses: ResponseStore | None,
    sealing: Sealing,
    estimator: Estimator,
) -> Callable[[ASGIApp], Endpoints]:
    """What is put around all that weighs or answers a request of the Responses API.

    responses: None where no answers are kept.
    """

    def appraise(model: str, body: bytes, principal: str) -> tuple[int, int, bool]:
        found = catalog.find(model)
        return estimator.appraise("" if found is None else found.entry, body, principal)

    def around(app: ASGIApp) -> Endpoints:
        kept = ResponsesApp(
            app,
            store=responses,
            sealing=sealing,
            keep=settings.keep_responses,
            limit=settings.server.max_body,
            lost=metrics.not_kept.inc,
            appraise=appraise,
        )
        names = ("responses", "responses.compact", "responses.input_tokens")
        return Endpoints(app, dict.fromkeys(names, kept))

    return around
