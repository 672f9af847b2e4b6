"""Health, metrics and status: a Starlette app that needs no key."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.config.load import Settings
from edge.routing.router import allowed_from, from_unknown_proxy
from edge.runtime.worker_table import Fleet
from middlewares import Exchange, Metrics, Problem
from middlewares.asgi import ASGIApp, Receive, Scope, Send


def health_app(
    settings: Settings,
    metrics: Metrics,
    unready: Callable[[], Mapping[str, str]],
    status: Callable[[], Awaitable[dict[str, Any]]],
    fleet: Callable[[], Fleet],
) -> ASGIApp:
    """Make the app.

    unready: the reason why /readyz answers 503; empty when the worker is ready.
    status: the status of all workers. fleet: how many workers are wanted, alive and ready.
    """
    networks = settings.server.ops_networks
    proxies = settings.server.trusted_proxies

    def guard(request: Request) -> None:
        if not allowed_from(Exchange.of(request.scope).client, networks):
            raise Problem("not_found", reason="outside ops_networks")
        if from_unknown_proxy(request.scope, proxies):
            raise Problem("not_found", reason="forwarded by a proxy not in trusted_proxies")

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def livez(request: Request) -> Response:
        guard(request)
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        guard(request)
        why = unready()
        if not why:
            now = fleet()
            workers = {"wanted": now.wanted, "alive": now.alive, "ready": now.ready}
            return JSONResponse({"status": "ok", **({} if now.whole else {"workers": workers})})
        content = {"status": "not ready", **why}
        return JSONResponse(content, status_code=503, headers={"retry-after": "1"})

    async def scrape(request: Request) -> Response:
        guard(request)
        accept = ",".join(request.headers.getlist("accept"))
        coding = ",".join(request.headers.getlist("accept-encoding"))
        answer = await metrics.scrape(accept, coding)
        return Response(answer.body, headers=answer.headers)

    async def status_page(request: Request) -> Response:
        guard(request)
        return JSONResponse(await status())

    async def hello(request: Request) -> Response:
        return Response(status_code=204)

    pages = Starlette(
        routes=[
            Route("/health", health),
            Route("/healthz", health),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", scrape),
            Route("/status", status_page),
            Route("/api/hello", hello),
        ],
        exception_handlers={Problem: _answer},
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await pages(scope, receive, send)
        exchange = Exchange.of(scope)
        exchange.outcome = exchange.outcome or "completed"

    return app


async def _answer(request: Request, problem: Any) -> Any:
    """Return `problem`, which is an ASGI app and so a response to Starlette."""
    return problem
