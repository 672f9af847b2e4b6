"""GET /v1/limits, /v1/usage and /v1/requests/{id}: limits and usage of the caller and its team.

A request of another key is answered as not found.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import orjson

from edge.billing.grouped_usage import (
    Grouping,
    grouped_usage,
    read_after,
    read_by,
    read_limit,
)
from edge.billing.period import Period, UsageRefused, read_period
from edge.billing.usage_report import UsageReport, request
from edge.routing.paths import plain_path
from middlewares.asgi import Receive, Scope, Send, send_json
from middlewares.exchange import Exchange, Principal
from middlewares.problem import Problem, expected
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.ledger.spend import GROUPS, Dimension, Filters

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GROUPED: tuple[Dimension, ...] = ("model", "endpoint", "tag", "day")
"""By what the usage of one key is grouped."""
_PAUSE = 0.1
"""Seconds between two reads of the ledger for a row that is not there yet."""


async def _nothing() -> None:
    return


class AccountApp:
    """Answers at /v1/limits, /v1/usage and /v1/requests/{id}.

    flush: writes the pending rows of this process to the ledger. A client may ask for a request
        before its row is written.
    patience: seconds to wait for a row that any process writes.
    """

    def __init__(
        self,
        usage_report: UsageReport,
        *,
        flush: Callable[[], Awaitable[None]] = _nothing,
        patience: float = 0.3,
    ) -> None:
        self._usage_report = usage_report
        self._flush = flush
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        try:
            content = await self._content(scope, exchange)
        except StoreUnavailable as raised:
            raise Problem("store_unavailable", reason=f"ledger: {raised}") from raised
        except CountersUnavailable as raised:
            raise Problem("store_unavailable", reason=f"counters: {raised}") from raised
        exchange.outcome = "completed"
        body = orjson.dumps(content)
        await send_json(scope, send, body)

    async def _content(self, scope: Scope, exchange: Exchange) -> dict[str, Any]:
        principal = exchange.principal
        if principal is None:
            raise Problem("missing_key", reason="no principal")
        if exchange.endpoint == "limits":
            return await self._usage_report.limits(principal)
        if exchange.endpoint == "usage":
            query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            try:
                period = read_period(query, self._usage_report.clock())
                if "group_by" in query:
                    return await self._grouped(principal, query, period)
            except UsageRefused as raised:
                raise expected(raised.field, raised.expected) from None
            return await self._usage_report.usage_of(principal, period)
        return await self._request(principal, plain_path(scope["path"]).rpartition("/")[2])

    async def _grouped(
        self, principal: Principal, query: dict[str, list[str]], period: Period
    ) -> dict[str, Any]:
        """Usage of the key of `principal`. Requests that were made to serve others count under
        their purpose, as without groups."""
        given = {name: values[-1] for name, values in query.items()}
        by = read_by(given["group_by"], _GROUPED)
        filters = Filters(
            key=principal.id,
            model=given.get("model"),
            endpoint=given.get("endpoint"),
            tag=given.get("tag"),
        )
        return await grouped_usage(
            self._usage_report.ledger,
            Grouping(by, period, filters, purposes=True),
            after=read_after(given["after"], by) if "after" in given else None,
            limit=read_limit(given["limit"]) if "limit" in given else GROUPS,
        )

    async def _request(self, principal: Principal, request_id: str) -> dict[str, Any]:
        if not _ID.fullmatch(request_id):
            raise _unknown()
        ledger = self._usage_report.ledger
        entry = await ledger.get(principal.id, request_id)
        if entry is None:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self._patience
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._flush()
            entry = await ledger.get(principal.id, request_id)
            while entry is None and loop.time() < deadline:
                await asyncio.sleep(_PAUSE)
                entry = await ledger.get(principal.id, request_id)
        if entry is None or entry.kind != "use" or entry.parent:
            raise _unknown()
        return request(entry, await ledger.children(principal.id, request_id))


def _unknown() -> Problem:
    return Problem("not_found", message="There is no finished request of this key with this id.")
