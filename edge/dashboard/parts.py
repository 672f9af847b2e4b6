"""What the pages of the dashboard are made from."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import time
from typing import Any

import msgspec

from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import Settings
from edge.config.snapshot import ConfigSnapshot
from edge.dialects.sealing import Sealing
from edge.media.jobs.service import Jobs
from edge.media.library import Files
from edge.routing.catalog import Catalog
from edge.upstreams.provider import Provider
from middlewares import Metrics
from middlewares.asgi import ASGIApp
from middlewares.stores.accounts import Accounts
from middlewares.stores.audit.base import AuditStore
from middlewares.stores.counters.base import RateCounters
from middlewares.stores.health.base import Health
from middlewares.stores.keys.base import KeyStore
from middlewares.stores.keys.directory import KeyDirectory
from middlewares.stores.ledger.base import LedgerStore
from middlewares.stores.sessions.base import SessionStore
from middlewares.stores.teams.base import TeamStore

from .oidc.provider import IdentityProvider

_PATIENCE = 0.3


async def _nothing() -> None:
    return


async def _no_status() -> dict[str, Any]:
    return {}


class DashboardParts(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, stores and reports that handlers of pages read: `request.parts`.

    keys: the store, for listings and changes; directory: the keys as requests are checked by them,
        None with `auth.mode = "none"`. ledger_flush: see `flush`.
    identity_provider: of `dashboard.oidc`.
    inner: the chain behind auth (`edge.dashboard.inner`). status: of all workers.
    loaded: Unix seconds at which this configuration was taken.
    """

    settings: Settings
    catalog: Catalog
    plans: Plans
    keys: KeyStore
    teams: TeamStore
    directory: KeyDirectory | None
    sessions: SessionStore
    sealing: Sealing
    audit: AuditStore
    usage_report: UsageReport
    ledger: LedgerStore
    counters: RateCounters
    metrics: Metrics
    accounts: Accounts | None = None
    identity_provider: IdentityProvider | None = None
    ledger_flush: Callable[[], Awaitable[object]] = _nothing
    inner: ASGIApp | None = None
    snapshot: ConfigSnapshot | None = None
    loaded: float = 0.0
    files: Files | None = None
    jobs: Jobs | None = None
    health: Health | None = None
    providers: Mapping[str, Provider] = {}
    status: Callable[[], Awaitable[dict[str, Any]]] = _no_status
    clock: Callable[[], float] = time

    async def flush(self) -> None:
        """Bring finished requests of this process into the ledger, if that is quick: while the
        store is away, pages wait for it no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.ledger_flush()
