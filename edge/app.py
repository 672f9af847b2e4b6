"""The application: everything a worker process holds, and its life from start to end."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import structlog

from middlewares import Metrics
from middlewares._asgi import ASGIApp, Receive, Scope, Send
from middlewares.stores import KeyDirectory
from middlewares.stores.accounts import Accounts
from middlewares.stores.book import Book
from middlewares.stores.database import Database
from middlewares.stores.sql import SqlKeyStore
from middlewares.stores.sql_audit import SqlAuditStore
from middlewares.stores.sql_ledger import SqlLedgerStore
from middlewares.stores.sql_responses import SqlResponseStore, SqlSecretStore

from . import lifespan
from .account import AccountApp
from .admin import AdminApp
from .catalog import Catalog
from .chain import Parts, compose, end, line_of
from .endpoints import endpoints, stateful
from .estimate import Estimator
from .ops import open_app
from .places import Places
from .plans import Plans
from .responses import Sweeper
from .sealing import Sealing
from .settings import Settings
from .statement import Statement
from .stores import counters_of, replays_of
from .upstreams.providers import providers_of

_MARGIN = 2.0
"""Seconds of `server.drain` left to close everything."""
_LAST = 1.0
"""Seconds for cancelled requests to be settled."""

UNREADY = signal.SIGUSR1
"""By this signal the server tells a worker to say at /readyz that no new work is wanted."""


class Gateway:
    """One worker's application, as ASGI. Opened by its lifespan; `on_ready` is called after that.
    The store has been looked at before (`edge.store`).

    settings: as loaded; checked by their loader.
    """

    def __init__(self, settings: Settings, *, on_ready: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._wanted = True
        self._open = AsyncExitStack()
        self._chain: ASGIApp = _unopened
        self._under_way: set[asyncio.Task[None]] = set()
        self._told = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan.run(receive, send, start=self.start, stop=self.stop)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._under_way.add(task)
        try:
            await self._chain(scope, receive, send)
        finally:
            self._under_way.discard(task)

    def told(self) -> None:
        """The server was told to stop: `server.drain` has begun.

        What outlasts it is cancelled while there is time to write it down: servers wait for their
        connections, and then end their workers.
        """
        if not self._told:
            loop = asyncio.get_running_loop()
            self._told = loop.time()
            loop.call_at(self._until, self._cancel)

    @property
    def _until(self) -> float:
        """Loop time at which requests are cancelled."""
        drain = self._settings.server.drain
        return self._told + max(drain - _MARGIN, drain / 2)

    def _cancel(self) -> None:
        for task in self._under_way:
            task.cancel()

    def unready(self) -> None:
        """Say at /readyz that no new work is wanted; it is still taken."""
        self._wanted = False

    async def start(self) -> None:
        """Open everything. What was opened is closed again when a later part fails."""
        async with AsyncExitStack() as stack:
            self._chain = await self._assemble(stack)
            asyncio.get_running_loop().add_signal_handler(UNREADY, self.unready)
            self._open = stack.pop_all()
        self._on_ready()

    async def stop(self) -> None:
        """Wait for what is under way, as long as `server.drain` lasts, and close everything, last
        opened first.

        Servers wait for their connections. A request whose client has left goes on without one,
        where its upstream is heard out or its answer is kept, and has yet to be paid.
        """
        self.unready()
        self.told()
        await self._under_way_until(self._until)
        await self._open.aclose()

    async def _under_way_until(self, until: float) -> None:
        tasks = self._under_way - {asyncio.current_task()}
        if not tasks:
            return
        left = until - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(tasks, timeout=max(0.0, left))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_LAST)

    async def _assemble(self, stack: AsyncExitStack) -> ASGIApp:
        settings = self._settings
        catalog = Catalog.build(settings)
        metrics = Metrics()
        metrics.start()
        stack.callback(metrics.stop)
        providers = providers_of(settings)
        for provider in providers.values():
            stack.push_async_callback(provider.upstream.aclose)
        database = Database.at(settings.store.sql)
        stack.push_async_callback(database.aclose)
        keys = None
        if settings.auth.mode == "keys":
            keys = KeyDirectory(SqlKeyStore(database))
            stack.push_async_callback(keys.aclose)
            # A worker that replaces a dead one during an outage of the store waits for its end.
            await keys.start(must_answer=False)
        ledger = SqlLedgerStore(database)
        counters = counters_of(settings)
        stack.push_async_callback(counters.aclose)
        await counters.start()
        accounts = Accounts(counters, ledger)
        stack.push_async_callback(accounts.aclose)
        book = Book(ledger, Path(settings.store.journal), committed=accounts.committed)
        stack.push_async_callback(book.aclose)
        await book.start()
        await accounts.start()
        replays = replays_of(settings, stack)
        responses = None
        if settings.store.responses:
            responses = SqlResponseStore(database)
            sweeper = Sweeper(responses, grace=settings.longest_request)
            sweeper.start()
            stack.push_async_callback(sweeper.aclose)
        estimator = Estimator()
        line = line_of(settings)
        token = settings.auth.admin_token
        plans = Plans(settings)
        statement = Statement(terms=plans.terms, accounts=accounts, rates=counters, ledger=ledger)
        sealing = Sealing(SqlSecretStore(database))
        bottom = endpoints(
            settings,
            catalog,
            providers,
            sealing=sealing,
            estimator=estimator,
            account=AccountApp(statement, flush=book.flush),
        )
        parts = Parts(
            settings=settings,
            catalog=catalog,
            plans=plans,
            keys=keys,
            counters=counters,
            accounts=accounts,
            book=book,
            replays=replays,
            stateful=stateful(
                settings,
                catalog,
                metrics=metrics,
                responses=responses,
                sealing=sealing,
                estimator=estimator,
            ),
            places=Places(
                catalog,
                health=None,
                affinity=None,
                dialects=lambda name: providers[name].dialects,
            ),
            health=None,
            line=line,
            metrics=metrics,
            estimator=estimator,
            log=structlog.get_logger().info,
            open_app=open_app(
                settings, catalog, metrics, lambda: self._wanted and (keys is None or keys.usable)
            ),
            admin_app=AdminApp(
                token=None if token is None else token.reveal(),
                settings=settings,
                catalog=catalog,
                keys=SqlKeyStore(database),
                audit=SqlAuditStore(database),
                statement=statement,
            ),
        )
        metrics.look(metrics.counters_up, lambda: float(not getattr(counters, "away", False)))
        metrics.look(metrics.throttled, lambda: len(line))
        metrics.look(metrics.ledger_waiting, lambda: book.pending)
        metrics.follow(metrics.ledger_rows.labels("requests"), lambda: book.written)
        metrics.follow(metrics.ledger_rows.labels("recovery"), lambda: book.recovered)
        app = compose(bottom, parts)
        stack.push_async_callback(end, app)
        return app


async def _unopened(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the lifespan has not been started; Penstock needs a server that runs it")
