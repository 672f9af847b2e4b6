"""A dashboard in memory, and a browser that visits it.

    site = await Site.open()
    browser = await site.signed_in(site.secret)
    page = await browser.get("/app")

Requests pass the app as it is in the chain behind the router: with an exchange, and the client's
address on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.chain import stamp
from edge.config.load import Settings, parse
from edge.dashboard.app import DashboardApp
from edge.dashboard.oidc.provider import provider_of
from edge.dashboard.page import Page
from edge.dashboard.parts import DashboardParts
from edge.dialects.sealing import Sealing
from edge.management import keys as management
from edge.routing.catalog import Catalog
from edge.routing.paths import Paths
from edge.routing.router import RouterMiddleware
from middlewares import ErrorsMiddleware, HeaderStampMiddleware, Metrics, RequestIDMiddleware
from middlewares.asgi import ASGIApp
from middlewares.stores import KeyDirectory, KeyPrefixes, MemoryKeyStore, MemorySecretStore
from middlewares.stores.accounts import Accounts
from middlewares.stores.audit.base import MemoryAuditStore
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.sessions.base import MemorySessionStore
from tests.asgi import Recorded, request

DOCUMENT: dict[str, Any] = {
    "brand": "Acme",
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "m1", "targets": ["sim/m1"], "price": {"input": "1", "output": "2"}}],
    "plans": [
        {
            "id": "gold",
            "requests": "60/min",
            "burst": 5,
            "tokens": "10k/min",
            "concurrency": 3,
            "windows": [{"length": "5h", "credits": "5"}, {"length": "7d", "credits": "40"}],
            "overflow": "credits",
        }
    ],
}
HOST = "localhost:8080"
PASSWORD = "a-fine-long-password"
PREFIXES = KeyPrefixes.of_brand("acme")


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.now = time()

    def __call__(self) -> float:
        return self.now


def around(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The outer layers that the dashboard needs."""
    trusted = settings.server.trusted_proxies
    router = RouterMiddleware(app, paths=Paths.of(settings), trusted_proxies=trusted)
    errors = ErrorsMiddleware(router, brand=settings.brand)
    return RequestIDMiddleware(HeaderStampMiddleware(errors, stamp=stamp), header=None)


@dataclass
class Site:
    """The app, and what it is made from. key, secret: of a holder with plan "gold"."""

    app: Any
    parts: DashboardParts
    keys: MemoryKeyStore
    directory: KeyDirectory
    sessions: MemorySessionStore
    ledger: MemoryLedgerStore
    clock: Clock
    key: Key
    secret: str

    @classmethod
    async def open(
        cls, env: Mapping[str, str] = {}, *, inner: ASGIApp | None = None, **document: Any
    ) -> Self:
        """inner: in place of the chain behind auth."""
        settings = parse({**DOCUMENT, **document}, env=env)
        clock, keys, ledger = Clock(), MemoryKeyStore(), MemoryLedgerStore()
        counters = MemoryCounters()
        key, secret = await management.create(
            keys, settings.key_prefixes, now=clock(), name="Ann's key", owner="ann", plan="gold"
        )
        directory = KeyDirectory(keys, period=3600)
        await directory.start()
        catalog, plans, sessions = Catalog.build(settings), Plans(settings), MemorySessionStore()
        accounts = Accounts(counters, ledger)
        await accounts.start()
        parts = DashboardParts(
            settings=settings,
            catalog=catalog,
            plans=plans,
            keys=keys,
            teams=keys.teams,
            directory=directory if settings.auth.mode == "keys" else None,
            sessions=sessions,
            sealing=Sealing(MemorySecretStore()),
            audit=MemoryAuditStore(),
            usage_report=UsageReport(
                limits=plans.limits,
                team_limits=plans.team_limits,
                accounts=accounts,
                rates=counters,
                ledger=ledger,
                clock=clock,
            ),
            ledger=ledger,
            counters=counters,
            metrics=Metrics(),
            accounts=accounts,
            inner=inner,
            clock=clock,
            identity_provider=provider_of(settings.dashboard.oidc, clock),
        )
        app = around(DashboardApp(parts), settings)
        return cls(app, parts, keys, directory, sessions, ledger, clock, key, secret)

    def serve(self, pages: Sequence[Page], **parts: Any) -> None:
        """Serve these pages, with other parts."""
        self.parts = msgspec.structs.replace(self.parts, **parts)
        self.app = around(DashboardApp(self.parts, pages=pages), self.parts.settings)

    async def aclose(self) -> None:
        await self.directory.aclose()
        if self.parts.accounts is not None:
            await self.parts.accounts.aclose()

    def browser(self, **options: Any) -> "Browser":
        return Browser(self, **options)

    async def signed_in(self, secret: str | None = None, **options: Any) -> "Browser":
        browser = self.browser(**options)
        answer = await browser.post("/app/sign-in", key=secret or self.secret)
        assert answer.status == 303, answer.text
        return browser


@dataclass
class Browser:
    """Keeps cookies and sends what browsers send. fetch_site: `Sec-Fetch-Site`."""

    site: Site
    host: str = HOST
    client: str = "127.0.0.1"
    fetch_site: str | None = "same-origin"
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Recorded:
        return await self.send("GET", path, b"", headers)

    async def post(self, path: str, headers: Mapping[str, str] = {}, **fields: str) -> Recorded:
        form = {"content-type": "application/x-www-form-urlencoded", **headers}
        return await self.send("POST", path, urlencode(fields).encode(), form)

    async def fragment(self, path: str) -> Recorded:
        return await self.send("GET", path, b"", {"hx-request": "true"})

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Recorded:
        given = {"host": self.host, "user-agent": "Test Browser", **self.headers}
        if self.fetch_site is not None:
            given["sec-fetch-site"] = self.fetch_site
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        if body:
            given["content-length"] = str(len(body))
        where, _, query = path.partition("?")
        answer = await request(
            self.site.app,
            method,
            where,
            query=query,
            headers={**given, **headers},
            client=(self.client, 1),
            body=body,
        )
        self._keep(answer)
        return answer

    def _keep(self, answer: Recorded) -> None:
        for name, value in answer.headers:
            if name == b"set-cookie":
                pair = value.decode().split(";")[0]
                key, _, text = pair.partition("=")
                if text:
                    self.cookies[key] = text
                else:
                    self.cookies.pop(key, None)
