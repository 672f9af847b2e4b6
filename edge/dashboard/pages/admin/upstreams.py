"""Upstreams: their circuit breakers, failures and latency, and a probe.

A probe asks an upstream for its models, at the URL of the configuration only. Its answer is not
shown: the page says whether it answered, with which status, and how quickly.
"""

import asyncio
from typing import NamedTuple

from starlette.responses import Response

from edge.dashboard.page import ADMINS, Page
from edge.dashboard.recent import recent
from edge.dashboard.request import DashboardRequest
from edge.upstreams import TimedOut, UpstreamFailure
from edge.upstreams.model_list import ask_models
from edge.upstreams.pool_figures import pool_figures
from edge.upstreams.provider import Provider
from middlewares.problem import Problem

from .changes import audit_of

_LONGEST_PROBE = 10.0
"""Seconds."""


class Probe(NamedTuple):
    """The result of a probe. good: whether the upstream answered as one that works."""

    name: str
    good: bool
    text: str


async def upstreams(request: DashboardRequest) -> Response:
    """The page."""
    return await _shown(request)


async def probe(request: DashboardRequest) -> Response:
    """Ask an upstream for its models now."""
    name = request.params["name"]
    provider = request.parts.providers.get(name)
    if provider is None:
        raise Problem("not_found", message="There is no such upstream.")
    await audit_of(request).note("upstream.probe", name, {})
    return await _shown(request, await probed(provider))


async def probed(provider: Provider) -> Probe:
    """The result of a request for the models of an upstream."""
    try:
        async with asyncio.timeout(_LONGEST_PROBE):
            answer = await ask_models(provider, read=False)
    except (TimeoutError, TimedOut):
        return Probe(provider.name, False, "It did not answer in time.")
    except UpstreamFailure as failure:
        return Probe(provider.name, False, f"It cannot be reached: {type(failure).__name__}.")
    status, took = answer.status, f"{answer.seconds * 1000:.0f} ms"
    if status < 400:
        return Probe(provider.name, True, f"It answered with status {status} in {took}.")
    if status in (401, 403):
        return Probe(provider.name, False, f"It refused our credentials: status {status}.")
    said = f"It answered with status {status} in {took}; it may have no list of models."
    return Probe(provider.name, status in (404, 405), said)


async def _shown(request: DashboardRequest, result: Probe | None = None) -> Response:
    parts = request.parts
    await parts.flush()
    conditions = parts.health.conditions() if parts.health is not None else {}
    figures = await recent(parts.ledger, request.now)
    status = await parts.status()
    in_flight = {one["name"]: one["in_flight"] for one in status.get("upstreams", ())}
    rows = []
    for upstream in parts.settings.upstreams:
        provider = parts.providers.get(upstream.name)
        of_it = sorted(
            (
                (target.model, condition)
                for target, condition in conditions.items()
                if target.upstream == upstream.name
            ),
            key=lambda pair: pair[0],
        )
        rows.append(
            {
                "upstream": upstream,
                "targets": of_it,
                "in_flight": in_flight.get(upstream.name, 0),
                "figures": figures.upstreams.get(upstream.name),
                "pool": None if provider is None else pool_figures(provider),
            }
        )
    return request.render("admin/upstreams.html", rows=rows, result=result, recent=figures)


PAGES = (
    Page("/app/admin/upstreams", ("GET",), ADMINS, upstreams, "Upstreams"),
    Page("/app/admin/upstreams/{name}/probe", ("POST",), ADMINS, probe),
)
