"""The application: everything a worker process holds, and its life from start to end.

What is counted, kept or written down is opened once. What a configuration says is made anew of
each, as an edition (`edge.generation`).
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import time
from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry

from edge.api.account import AccountApp
from edge.api.handlers import handlers, stateful
from edge.api.health import open_app
from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import Settings
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.management.http import AdminApp
from edge.observability.request_log import dropped_lines, info_logger
from edge.routing.candidates import Candidates
from edge.routing.catalog import Catalog
from edge.runtime import descriptors, lifespan
from edge.runtime.admission import Admission
from edge.runtime.descriptors import DescriptorBudget
from edge.runtime.status import State, StatusFile, Working, report
from edge.runtime.worker_table import WorkerSlot
from edge.upstreams.build import providers_of
from edge.upstreams.http1.pools import Pools
from edge.upstreams.provider import Provider
from middlewares import Metrics
from middlewares.asgi import Receive, Scope, Send
from middlewares.disconnects import no_connections
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.keys.sql import SqlKeyStore

from .chain import Chain, Parts, compose
from .generation import Generation, Providers
from .services import Services, open_services

_log = logging.getLogger(__name__)

_MARGIN = 2.0
"""Seconds of `server.drain` left to close everything."""
_LAST = 1.0
"""Seconds for cancelled requests to be settled, and to tell their callers."""

UNREADY = signal.SIGUSR1
"""By this signal the server tells a worker to say at /readyz that no new work is wanted."""
LOOK = signal.SIGHUP
"""By this one that another configuration is posted."""
_LOOK_SECONDS = 1.0


class Gateway:
    """One worker's application, as ASGI. Opened by its lifespan: `on_open` is called once all parts
    are open, and `on_ready` when connections are to be accepted. The store has been looked at
    before (`edge.server.preflight`).

    first: what to serve at first; its settings were checked by their loader.
    board: where later configurations are posted, if any are. It is looked at each second, and when
        the signal `LOOK` comes.
    folder: where this worker notes its status for the others, and they theirs.
    gather: makes the registry of a scrape over all workers.
    room: how the file descriptors of this process are parted; without it nothing is refused.
    place: of this worker among all; None where it is the only one.
    providers: of all editions.
    """

    def __init__(
        self,
        first: ConfigSnapshot,
        *,
        on_open: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        board: SharedConfig | None = None,
        folder: Path | None = None,
        gather: Callable[[], CollectorRegistry] | None = None,
        room: DescriptorBudget | None = None,
        place: WorkerSlot | None = None,
        providers: Providers | None = None,
    ) -> None:
        self._first = first
        self._on_open = on_open
        self._on_ready = on_ready
        self._board = board
        self._folder = folder
        self._gather = gather
        self._notes = None if folder is None else StatusFile(folder)
        self._place = place or WorkerSlot.alone()
        self._wanted = True
        self._open = AsyncExitStack()
        pools = None if room is None else Pools(room.upstreams)
        self._providers = providers or Providers(partial(providers_of, pools=pools))
        self._door = Admission(None if room is None else room.streams, self._open_requests)
        self._edition = Generation(Chain(_unopened, ()), first, (), 0.0)
        self._old: set[Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._failed = 0
        self._fault = ""
        self._looking: asyncio.TimerHandle | None = None
        self._told = 0.0
        self._cancelled: dict[asyncio.Task[None], float] = {}  # and when, in loop time
        self._ending: set[asyncio.Task[None]] = set()  # of these, who has yet to notice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan.run(receive, send, start=self.start, stop=self._shut_down)
        edition = self._edition
        task = cast("asyncio.Task[None]", asyncio.current_task())
        edition.under_way.add(task)
        try:
            await edition.app(scope, receive, send)
        finally:
            edition.under_way.discard(task)
            if edition.retired:
                self._close_if_left(edition)

    def told(self) -> None:
        """The server was told to stop: `server.drain` has begun.

        What outlasts it is cancelled while there is time to write it down: servers wait for their
        connections, and then end their workers.
        """
        if not self._told:
            self.unready()
            loop = asyncio.get_running_loop()
            self._told = loop.time()
            loop.call_at(self._until, self._cancel)
            loop.call_at(self._until + self._last, self._cancel)

    @property
    def _until(self) -> float:
        """Loop time at which requests are cancelled."""
        drain = self._first.settings.server.drain
        return self._told + max(drain - _MARGIN, drain / 2)

    @property
    def _last(self) -> float:
        """Seconds in which requests that were cancelled may tell their callers so."""
        return min(_LAST, (self._first.settings.server.drain + self._told - self._until) / 2)

    def _cancel(self) -> None:
        """End what is under way. Those that were ended already, and still tell their callers, who
        do not take it, tell no more."""
        own, now = asyncio.current_task(), asyncio.get_running_loop().time()
        for task in self._under_way:
            if task is own or now < self._cancelled.get(task, 0.0) + self._last / 2:
                continue
            self._cancelled[task] = now
            self._ending.add(task)
            task.cancel()

    def _stopped(self) -> bool:
        """Whether the running task was cancelled by `_cancel`; then it goes on, to say so."""
        task = asyncio.current_task()
        if task is None or task not in self._ending:
            return False
        self._ending.discard(task)
        task.uncancel()
        return True

    @property
    def _under_way(self) -> list[asyncio.Task[None]]:
        return [task for edition in (self._edition, *self._old) for task in edition.under_way]

    def _open_requests(self) -> int:
        here = len(self._edition.under_way)
        return here + sum(len(old.under_way) for old in self._old) if self._old else here

    def unready(self) -> None:
        """Say at /readyz that no new work is wanted; it is still taken."""
        self._wanted = False
        self._note()

    async def start(self) -> None:
        """Open everything. What was opened is closed again when a later part fails."""
        async with AsyncExitStack() as stack:
            self._durable = await open_services(self._first.settings, stack, self._gather)
            metrics = self._durable.metrics
            metrics.look(metrics.config_hash, self._hash)
            metrics.look(metrics.descriptors_left, descriptors.left)
            metrics.follow(metrics.refused_at_door, lambda: self._door.refused)
            self._show_fleet(metrics)
            stack.push_async_callback(self._close_editions)
            self._edition = await self._made(self._first)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(UNREADY, self.unready)
            loop.add_signal_handler(LOOK, self._look)
            self._look_again()
            stack.callback(self._look_no_more)
            self._on_open()
            await self._place.wait_to_accept(self._may_accept)
            self._open = stack.pop_all()
        self._on_ready()

    async def _shut_down(self) -> None:
        """Servers wait for their connections before they call it: no client is left."""
        with no_connections():
            await self.stop()

    async def stop(self) -> None:
        """Wait for what is under way, as long as `server.drain` lasts, and close everything, last
        opened first.

        A request whose client has left goes on without one, where its upstream is heard out or its
        answer is kept, and has yet to be paid.
        """
        self.unready()
        self.told()
        self._look_no_more()
        if self._following is not None:
            await asyncio.wait([self._following])  # it is short, and what it takes is given back
        await self._under_way_until(self._until)
        await self._open.aclose()

    async def _under_way_until(self, until: float) -> None:
        tasks = set(self._under_way) - {asyncio.current_task()}
        if not tasks:
            return
        left = until - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(tasks, timeout=max(0.0, left))
        for _ in range(2):  # at the second time those end that are not done with saying so
            if late:
                self._cancel()
                _, late = await asyncio.wait(late, timeout=self._last)

    # Editions

    async def adopt(self, posted: ConfigSnapshot) -> None:
        """Serve what comes from now on by `posted`. What is under way keeps the edition in which
        it began, and the last of these has it closed. Call it again only when it has returned.
        Raises what making an edition raises, and then nothing has changed."""
        new = await self._made(posted)
        old, self._edition = self._edition, new
        old.retired = True
        self._old.add(old)
        self._durable.told.adopt(posted.settings)
        sweeper = self._durable.sweeper
        if sweeper is not None:
            sweeper.grace = max(sweeper.grace, posted.settings.longest_request)
        self._close_if_left(old)

    def _close_if_left(self, edition: Generation) -> None:
        if not edition.under_way and edition in self._old:
            self._old.remove(edition)
            self._later(self._providers.close(edition))

    def _later(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing, name="edition-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_editions(self) -> None:
        for edition in (self._edition, *self._old):
            await self._providers.close(edition)
        self._old.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _look_again(self) -> None:
        """Look now, and each second from now on: a signal may be lost, and others read our file."""
        self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)
        self._look()

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        board = self._board
        if board is not None and self._news(board) and self._following is None:
            self._following = asyncio.create_task(self._follow(board), name="reload")
            self._following.add_done_callback(self._followed)
        self._note()

    def _news(self, board: SharedConfig) -> bool:
        return not self._told and board.serial not in (0, self._edition.posted.serial)

    def _followed(self, _: asyncio.Task[None]) -> None:
        self._following = None

    async def _follow(self, board: SharedConfig) -> None:
        """Adopt what is posted, until it is the newest. What does not work is tried again at the
        next look, as it worked for the parent; it is said once."""
        serial = 0
        try:
            while self._news(board):
                posted = board.read()
                serial = posted.serial
                await self.adopt(posted)
                self._note()
        except Exception as error:
            self._fault = f"edition {serial} cannot be made: {type(error).__name__}"
            if self._failed != serial:
                self._failed = serial
                _log.exception(
                    "cannot build configuration %d; the previous one keeps serving", serial
                )
        else:
            self._fault = ""

    # Status

    def _note(self) -> None:
        self._place.report(ready=self._serves(), draining=not self._wanted)
        if self._notes is not None:
            self._notes.update(self._working())

    def _working(self) -> Working:
        edition = self._edition
        state: State = (
            "draining" if not self._wanted else "not ready" if self._unready() else "ready"
        )
        return Working(
            pid=os.getpid(),
            digest=edition.posted.digest,
            edition=edition.posted.serial,
            loaded=edition.loaded,
            requests=len(self._under_way),
            state=state,
            fault=self._fault,
        )

    def _unready(self) -> dict[str, str]:
        """Why this worker should get no new work, for /readyz; empty when it should."""
        if not self._wanted:
            return {"reason": "stopping"}
        keys = self._durable.keys
        if not self._durable.book.usable:
            return {"reason": "the journal cannot be written, what costs is refused"}
        if keys is None or keys.answered:
            return {}
        fault = self._durable.database.identity.fault
        known = "known ones are served" if keys.usable else "none is served"
        return {
            "reason": f"keys that are not known cannot be checked, {known}",
            "store": f"sql: {fault or 'does not answer'}",
        }

    def _may_accept(self) -> bool:
        """Whether connections can be accepted. Ends the process when it was asked to stop while it
        had none: a server would begin to serve first."""
        if self._told:
            raise SystemExit(0)
        return self._serves()

    def _serves(self) -> bool:
        """Whether it can answer what comes: the keys that it knows, though it may be that no other
        can be checked now. Connections go to such workers first."""
        keys = self._durable.keys
        return self._durable.book.usable and (keys is None or keys.usable)

    async def _status(self) -> dict[str, Any]:
        """For operators, of all workers. It is itself under way, and not counted."""
        working = self._working()
        own = msgspec.structs.replace(working, requests=max(0, working.requests - 1))
        fleet = None if self._folder is None else self._place.fleet()
        return await asyncio.to_thread(report, own, self._folder, time(), fleet)

    def _show_fleet(self, metrics: Metrics) -> None:
        fleet = self._place.fleet
        metrics.look(metrics.workers_wanted, lambda: fleet().wanted)
        metrics.look(metrics.workers_alive, lambda: fleet().alive)
        metrics.look(metrics.workers_ready, lambda: fleet().ready)
        metrics.look(metrics.worker_ends, lambda: fleet().ends)
        metrics.look(metrics.worker_start_failures, lambda: fleet().failed)
        metrics.follow(metrics.log_lines_dropped, dropped_lines)

    # Parts

    def _hash(self) -> float:
        """The first 48 bits of the digest: a metric is a float, which holds no more for certain."""
        return float(int(self._edition.posted.digest[:12] or "0", 16))

    async def _made(self, posted: ConfigSnapshot) -> Generation:
        settings, shared = posted.settings, self._durable
        providers = await self._providers.take(posted)
        try:
            chain = self._chain(settings, providers, shared)
        except BaseException:
            self._later(self._providers.give_back(providers.values()))
            raise
        return Generation(chain, posted, providers.values(), time())

    def _chain(
        self, settings: Settings, providers: Mapping[str, Provider], shared: Services
    ) -> Chain:
        catalog = Catalog.build(settings)
        shared.uploads.make_room(settings.server.max_body)
        token = settings.auth.admin_token
        plans = Plans(settings)
        statement = UsageReport(
            terms=plans.terms, accounts=shared.accounts, rates=shared.counters, ledger=shared.ledger
        )
        bottom = handlers(
            settings,
            catalog,
            providers,
            sealing=shared.sealing,
            estimator=shared.estimator,
            account=AccountApp(statement, flush=shared.book.flush),
        )
        parts = Parts(
            settings=settings,
            catalog=catalog,
            plans=plans,
            keys=shared.keys,
            counters=shared.counters,
            accounts=shared.accounts,
            book=shared.book,
            replays=shared.replays,
            stateful=stateful(
                settings,
                metrics=shared.metrics,
                responses=shared.responses,
                sealing=shared.sealing,
                estimator=shared.estimator,
            ),
            places=Candidates(
                catalog,
                health=shared.health,
                affinity=shared.affinity,
                dialects=lambda name: providers[name].dialects,
            ),
            health=shared.health,
            line=shared.line,
            second_line=shared.second_line,
            uploads=shared.uploads,
            metrics=shared.metrics,
            estimator=shared.estimator,
            log=info_logger(),
            open_app=open_app(
                settings, catalog, shared.metrics, self._unready, self._status, self._place.fleet
            ),
            stopped=self._stopped,
            admin_app=AdminApp(
                token=None if token is None else token.reveal(),
                settings=settings,
                catalog=catalog,
                keys=SqlKeyStore(shared.database),
                audit=SqlAuditStore(shared.database),
                statement=statement,
            ),
            door=self._door,
        )
        return compose(bottom, parts)


async def _unopened(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the lifespan has not been started; Penstock needs a server that runs it")
