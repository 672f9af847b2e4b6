"""The apps at the bottom of the chain, by the `handler` of an endpoint, and the layer of the
Responses API."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from edge.billing.token_estimate import Estimator
from edge.config.load import Settings
from edge.dialects import anthropic_messages, openai_responses
from edge.dialects.openai_responses import compaction
from edge.dialects.sealing import Sealing
from edge.endpoints import Codec, Endpoint, Handler
from edge.media.library import Files
from edge.media.part_uploads import PartUploads
from edge.proxy.compaction import CompactionForwarder
from edge.proxy.corrections.learned import LearnedCorrections
from edge.proxy.forwarder import Forwarder, MediaSteps
from edge.proxy.image_links import ImageLinks
from edge.proxy.translate import CLIENTS
from edge.routing.catalog import Catalog
from edge.upstreams.provider import Provider
from middlewares import Metrics
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Principal, exchange_of
from middlewares.stores.responses.base import ResponseStore

from .count_tokens import CountingApp
from .files import FilesApp, LinksApp, UploadsApp
from .models import ModelsApp
from .responses import ResponsesApp


class Dispatcher:
    """Pass each request to the app of its codec, or of its handler where it has no codec.

    others: the apps by codec or handler; `app` serves the rest.
    """

    __slots__ = ("_others", "app")

    def __init__(self, app: ASGIApp, others: Mapping[Codec | Handler, ASGIApp]) -> None:
        self.app = app
        self._others = others

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the awaitable of that app, so that a stream resumes no frame of this one."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        row: Endpoint = exchange_of(scope).row
        return self._others.get(row.codec or row.handler, self.app)(scope, receive, send)


class ResponsesLayer:
    """Pass requests of the Responses API through `kept`, all others to `app`."""

    __slots__ = ("_kept", "app")

    def __init__(self, app: ASGIApp, kept: ASGIApp) -> None:
        self.app = app
        self._kept = kept

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The awaitable of that app."""
        if scope["type"] == "http" and exchange_of(scope).dialect == "responses":
            return self._kept(scope, receive, send)
        return self.app(scope, receive, send)


def handlers(
    settings: Settings,
    catalog: Catalog,
    providers: Mapping[str, Provider],
    *,
    sealing: Sealing,
    estimator: Estimator,
    account: ASGIApp,
    files: Mapping[Codec | Handler, ASGIApp],
    jobs: ASGIApp | None = None,
    max_answer: int = 256 << 20,
    image_links: ImageLinks | None = None,
    media: Callable[[ASGIApp], MediaSteps] | None = None,
) -> Dispatcher:
    """The apps at the bottom of the chain.

    media: makes the media steps, from a forwarder without them for the requests that they make.
    account: answers at the endpoints of the caller's own account; jobs: at those of jobs, None
    where there are none. files: `file_apps`. max_answer: bytes of an unstreamed answer.
    image_links: see `Forwarder`.
    """
    server = settings.server

    def seal(owner: str, payload: bytes) -> str:
        return sealing.fetched.seal(compaction.PURPOSE, owner, payload)

    forwarder = partial(
        Forwarder,
        providers=providers,
        clients={
            **CLIENTS,
            "compaction": compaction.client(openai_responses.CLIENT.read, seal),
        },
        estimator=estimator,
        hold=server.first_token_hold,
        keep_alive=server.ping_interval or float("inf"),
        drain=server.disconnect_drain,
        max_answer=max_answer,
        learned=LearnedCorrections(),
        image_links=image_links,
        trace_content=settings.tracing.content,
    )
    if media is not None:
        forwarder = partial(forwarder, media=media(forwarder()))
    counting = CountingApp(
        providers=providers,
        estimator=estimator,
        readers={
            "anthropic": anthropic_messages.read_counted,
            "responses": openai_responses.CLIENT.read,
        },
    )
    return Dispatcher(
        forwarder(),
        {
            "compaction": CompactionForwarder(forwarder(), forwarder(allow_passthrough=False)),
            "count": counting,
            "models": ModelsApp(catalog, settings.brand),
            "account": account,
            **files,
            **({} if jobs is None else {"jobs": jobs}),
        },
    )


def file_apps(
    settings: Settings,
    files: Files,
    part_uploads: PartUploads,
    storage: Callable[[Principal | None], int],
) -> dict[Codec | Handler, ASGIApp]:
    """The apps of files. storage: bytes that a principal may have."""
    idle = settings.server.upload_idle_timeout
    return {
        "files": FilesApp(files, storage, idle=idle),
        "uploads": UploadsApp(part_uploads, files, storage, idle=idle),
        "links": LinksApp(files),
    }


def responses_layer(
    settings: Settings,
    *,
    metrics: Metrics,
    responses: ResponseStore | None,
    sealing: Sealing,
    estimator: Estimator,
) -> Callable[[ASGIApp], ResponsesLayer]:
    """Make the layer that adds the state of the Responses API.

    responses: None if no answers are kept.
    """

    def around(app: ASGIApp) -> ResponsesLayer:
        kept = ResponsesApp(
            app,
            store=responses,
            sealing=sealing,
            keep=settings.keep_responses,
            limit=settings.server.max_body,
            on_lost=metrics.answers_not_kept.inc,
            estimate_body=estimator.estimate_body,
        )
        return ResponsesLayer(app, kept)

    return around
