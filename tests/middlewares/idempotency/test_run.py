"""Many requests with one key at once: joined, left, cancelled; also over several processes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from middlewares import ErrorsMiddleware, Exchange, IdempotencyMiddleware
from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.idempotency.run import ReplayShield
from middlewares.stores import StoreUnavailable
from middlewares.stores.replays.base import KeptAnswer, ReplayEntry, ReplayStore, RunMark
from middlewares.stores.replays.memory import MemoryReplays
from tests.asgi import Call, Recorded, http_scope, lifespan
from tests.waiting import DEADLINE

from .replaying import EVENTS, KEY, App, answer, calling, quiet, replayed


@pytest.fixture
async def store() -> AsyncIterator[MemoryReplays]:
    """Afterwards no task runs and nothing is marked as running."""
    store = MemoryReplays()
    yield store
    await quiet()
    assert not store.running


# Joining


async def test_who_joins_gets_all_of_it_as_it_comes(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as early:
        inner.step(3)
        assert [await first.chunk(), await first.chunk()] == EVENTS[:2]
        async with calling(app) as late:
            assert [await late.chunk(), await late.chunk()] == EVENTS[:2]
            inner.step()
            for call in (first, late):
                assert await call.chunk() == EVENTS[2]
            inner.finish()
            records = [await call.done() for call in (first, early, late)]
    assert [[chunk.body for chunk in record.chunks] for record in records] == [EVENTS] * 3
    assert [replayed(record) for record in records] == [False, True, True]
    assert inner.runs == 1


async def test_disconnect_does_not_reach_the_app(store: MemoryReplays) -> None:
    """The client comes back, fifty times at once, and gets the answer that is being made."""
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        inner.step(2)
        assert await first.chunk() == EVENTS[0]
        first.hang_up()
        joiners = [calling(app) for _ in range(50)]
        async with asyncio.TaskGroup() as group:
            finished = [group.create_task(finish(call)) for call in joiners]
            await asyncio.sleep(0)
            assert first.running
            inner.finish()
        await first.done()
    assert all(task.result().body == b"".join(EVENTS) for task in finished)
    assert all(replayed(task.result()) for task in finished)
    assert replayed(await answer(app))
    assert (inner.runs, inner.ended) == (1, 1)


async def finish(call: Call) -> Recorded:
    async with call:
        return await call.done()


async def test_everybody_leaves_and_the_answer_is_there_later(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        await inner.inside.wait()
        first.hang_up()
        second.hang_up()
        await second.done()
        assert Exchange.of(second.scope).outcome == "hung_up"
        inner.finish()
        await first.done()
    again = await answer(app)
    assert replayed(again) and again.body == b"".join(EVENTS)
    assert inner.runs == 1


async def test_slow_client_delays_no_other(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app, window=0) as slow:
        await slow.stalled()
        quick = await answer(app)
        assert quick.body == b"".join(EVENTS)
        assert len(slow.chunks) == 1
        assert await slow.rest() == b"".join(EVENTS)
    assert inner.runs == 1


async def test_failed_send_is_a_disconnect(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    scope = http_scope("POST", "/v1/x", headers=KEY)
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b'{"n": 1}', "more_body": False}

    async def send(message: Message) -> None:
        raise OSError("gone")

    call = asyncio.ensure_future(app(scope, receive, send))
    inner.finish()
    with pytest.raises(OSError, match="gone"):
        await call
    assert (inner.runs, inner.ended) == (1, 1)
    assert replayed(await answer(app))


# Cancellation


@pytest.mark.parametrize("joined", [False, True])
async def test_a_call_is_cancelled_while_the_app_runs(store: MemoryReplays, joined: bool) -> None:
    """The run has no client left: it goes on, and answers the next request."""
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        inner.step(2)
        assert await second.chunk() == EVENTS[0]
        gone, stays = (second, first) if joined else (first, second)
        await gone.cancel()
        assert isinstance(gone.record.raised, asyncio.CancelledError)
        inner.finish()
        assert (await stays.done()).body == b"".join(EVENTS)
    assert replayed(await answer(app))
    assert inner.runs == 1


class Held(MemoryReplays):
    """A store that lets the test decide when one of its methods answers."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._method = method

    async def _hold(self, method: str) -> None:
        if method == self._method:
            self.asked.set()
            await self.go.wait()

    async def claim(self, mark: RunMark) -> ReplayEntry | None:
        found = await super().claim(mark)
        await self._hold("claim")
        return found

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        await self._hold("keep")
        return await super().keep(mark, answer, seconds)

    async def find(self, key: str) -> ReplayEntry | None:
        await self._hold("find")
        return await super().find(key)


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_a_client_that_goes_before_the_app_is_asked(how: str) -> None:
    store = Held("claim")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await store.asked.wait()
        await leave(first, how)
        store.go.set()
        await quiet()
    assert not inner.runs
    assert not len(store)


async def leave(call: Call, how: str) -> None:
    if how == "cancel":
        await call.cancel()
    else:
        call.hang_up()
        await call.done()


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_who_joined_a_client_that_goes_takes_its_place(how: str) -> None:
    store = Held("claim")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        await store.asked.wait()
        await second.received_all()
        await leave(first, how)
        store.go.set()
        record = await second.done()
    assert record.body == b"".join(EVENTS) and not replayed(record)
    assert inner.runs == 1
    await quiet()


async def test_a_mistaken_key_does_not_spoil_the_right_one() -> None:
    """The wrong request comes first and waits for the store, the right one behind it."""
    store = Held("claim")
    store.go.set()
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    await answer(app)
    store.asked.clear()
    store.go.clear()
    async with calling(app, body=b"wrong") as wrong:
        await store.asked.wait()
        async with calling(app) as right:
            await right.received_all()
            store.go.set()
            assert replayed(await right.done())
        assert (await wrong.done()).status == 422
    assert inner.runs == 1
    await quiet()


async def test_a_mistaken_key_need_not_wait() -> None:
    store = Held("claim")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as right, calling(app, body=b"wrong") as wrong:
        await store.asked.wait()
        await wrong.received_all()
        wrong.hang_up()
        await wrong.done()
        assert Exchange.of(wrong.scope).outcome == "hung_up" and not wrong.record.messages
        store.go.set()
        assert (await right.done()).complete
    await quiet()


async def test_a_call_is_cancelled_while_its_answer_is_kept() -> None:
    store = Held("keep")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await store.asked.wait()
        assert first.record.complete, "the client has waited for the store"
        await first.cancel()
        joined = await answer(app)
        assert replayed(joined) and joined.body == b"".join(EVENTS)
        store.go.set()
    await quiet()
    assert replayed(await answer(app)) and not store.running
    await quiet()


@pytest.mark.parametrize("phase", ["claim", "running", "keep"])
async def test_the_end_of_the_program_ends_what_runs(phase: str) -> None:
    store = Held(phase)
    inner = App().by_hand()

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            return await inner(scope, receive, send)
        for name in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{name}"}
            await send({"type": f"lifespan.{name}.complete"})

    app = ErrorsMiddleware(IdempotencyMiddleware(both, store=store))
    async with calling(app) as first, calling(app) as second:
        async with lifespan(app):
            if phase == "keep":
                inner.finish()
            await (inner.inside if phase == "running" else store.asked).wait()
        records = [await first.done(), await second.done()]
    assert [record.status for record in records] == [200 if phase == "keep" else 503] * 2
    assert inner.runs == inner.ended == (0 if phase == "claim" else 1)
    await quiet()
    assert not len(store)


async def test_a_stream_that_the_end_of_the_program_cuts_says_so(store: MemoryReplays) -> None:
    inner = App().by_hand()
    middle = IdempotencyMiddleware(inner, store=store)
    app = ErrorsMiddleware(middle)
    async with calling(app) as first, calling(app) as second:
        inner.step(2)
        assert await second.chunk() == await first.chunk() == EVENTS[0]
        await middle.aclose()
        for call in (first, second):
            record = await call.done()
            last = json.loads(record.chunks[-1].body.removeprefix(b"data: "))
            assert last["error"]["code"] == "upstream_unavailable"
    await middle.aclose()


# Another process


async def test_who_waits_for_another_process_gets_its_answer() -> None:
    store = MemoryReplays()
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        waiting = [calling(theirs) for _ in range(3)]
        async with waiting[0], waiting[1], waiting[2]:
            for call in waiting:
                await call.received_all()
            assert (await answer(theirs, body=b"other")).status == 422
            inner.finish()
            records = [await call.done() for call in waiting]
        await first.done()
    assert all(record.body == b"".join(EVENTS) and replayed(record) for record in records)
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_who_waits_for_another_process_may_leave(how: str) -> None:
    store = Held("find")
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        async with calling(theirs) as waiting:
            await store.asked.wait()
            await leave(waiting, how)
            after = calling(theirs)  # before the run has heard that no client waits
            store.go.set()
            async with after:
                inner.finish()
                assert replayed(await after.done())
        await first.done()
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


@pytest.mark.parametrize("largest", [0, 1 << 20])
async def test_what_another_process_could_not_keep(largest: int) -> None:
    """A too large one is refused at once; a failed one runs again, once for all that waited."""
    store = MemoryReplays()
    inner, ours_then = App(status=500).by_hand(), App()
    theirs = IdempotencyMiddleware(inner, store=store, max_answer=largest)
    ours = IdempotencyMiddleware(ours_then, store=store)
    async with calling(theirs) as first:
        inner.step(2)
        await first.chunk()
        calls = [calling(ours) for _ in range(3)]
        async with calls[0], calls[1], calls[2]:
            for call in calls:
                await call.received_all()
            if largest == 0:
                records = [await call.done() for call in calls]
                assert [record.status for record in records] == [409] * 3
                assert ours_then.runs == 0
            inner.finish()
            await first.done()
            records = [await call.done() for call in calls]
    if largest:
        assert [record.status for record in records] == [200] * 3
        assert sorted(map(replayed, records)) == [False, True, True]
        assert ours_then.runs == 1
    await quiet()


@pytest.mark.parametrize("seed", range(5))
async def test_a_storm(seed: int) -> None:
    """Two processes, three keys, and clients that come, leave and are cancelled as they please:
    nothing runs twice at once, what was kept is not made again, nothing is left."""
    chance = random.Random(seed)
    store = MemoryReplays()
    running: set[str] = set()
    made: dict[str, int] = {}

    async def pause() -> None:
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        assert path not in running, "two at once"
        assert path not in made, "made again"
        running.add(path)
        try:
            await pause()
            fails = chance.random() < 0.3
            status = 500 if fails else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            for event in EVENTS:
                await pause()
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": path.encode()})
            await pause()
            if not fails:
                made[path] = made.get(path, 0) + 1
        finally:
            running.discard(path)

    apps = [IdempotencyMiddleware(inner, store=store) for _ in range(2)]
    whole = 0

    async def client() -> None:
        nonlocal whole
        path = f"/{chance.randrange(3)}"
        await pause()
        async with calling(chance.choice(apps), path=path) as call:
            match chance.randrange(4):
                case 0:
                    await pause()
                    await call.cancel()
                case 1:
                    await pause()
                    call.hang_up()
                    await call.done()
                case _:
                    record = await call.done()
                    assert record.body == b"".join(EVENTS) + path.encode()
                    whole += 1

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(120):
            group.create_task(client())
            await pause()
    await quiet()
    assert whole > 30
    assert not running and not store.running
    assert set(made.values()) <= {1}


# Outage


class Broken:
    """A store that can stop to answer."""

    lifetime = 0.2

    def __init__(self) -> None:
        self.inner = MemoryReplays()
        self.down = True
        self.asked = 0

    async def _ask(self) -> MemoryReplays:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("gone")
        return self.inner

    async def claim(self, mark: RunMark) -> ReplayEntry | None:
        return await (await self._ask()).claim(mark)

    async def find(self, key: str) -> ReplayEntry | None:
        return await (await self._ask()).find(key)

    async def renew(self, mark: RunMark) -> bool:
        return await (await self._ask()).renew(mark)

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        return await (await self._ask()).keep(mark, answer, seconds)

    async def release(self, mark: RunMark) -> None:
        await (await self._ask()).release(mark)


async def test_without_the_store_requests_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined in this process all the same; the store is left alone; one line when it goes, and
    one when it is back."""
    now = 100.0
    monkeypatch.setattr("middlewares.idempotency.run.monotonic", lambda: now)
    store = Broken()
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        inner.finish()
        assert not replayed(await first.done())
        assert replayed(await second.done())
    assert (inner.runs, store.asked) == (1, 1)
    inner.finish()
    assert not replayed(await answer(app))
    assert (inner.runs, store.asked, len(caplog.records)) == (2, 1, 1)

    store.down = False
    now += 5.0
    inner.finish()
    assert not replayed(await answer(app))
    assert replayed(await answer(app))
    assert (inner.runs, len(caplog.records)) == (3, 2)
    await quiet()


async def test_one_asks_whether_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on without it, though it may answer."""
    now = 100.0
    monkeypatch.setattr("middlewares.idempotency.run.monotonic", lambda: now)
    store = Broken()
    shelf = ReplayShield(store)
    with pytest.raises(StoreUnavailable):
        await shelf.ask(lambda there: there.find("key"))
    now += 5.0
    asking = asyncio.Event()

    async def hangs(_: ReplayStore) -> None:
        asking.set()
        await asyncio.Event().wait()

    prober = asyncio.create_task(shelf.ask(hangs))
    await asking.wait()
    store.down = False
    with pytest.raises(StoreUnavailable):
        await shelf.ask(lambda there: there.find("key"))
    assert store.asked == 1
    prober.cancel()


async def test_who_waits_when_the_store_goes_is_not_run() -> None:
    store = Broken()
    store.down = False
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        asked = store.asked
        async with calling(theirs) as waiting:
            while store.asked == asked:
                await asyncio.sleep(0)
            store.down = True
            assert (await waiting.done()).status == 409
        inner.finish()
        await first.done()
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


async def test_a_store_that_says_nothing_is_waited_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("middlewares.idempotency.run.PATIENCE", 0.01)
    store = Held("claim")
    inner = App()
    app: ASGIApp = IdempotencyMiddleware(inner, store=store)
    assert (await answer(app)).body == b"".join(EVENTS)
    assert inner.runs == 1
    await quiet()


def test_the_stores_are_stores() -> None:
    stores: list[ReplayStore] = [MemoryReplays(), Broken()]
    assert all(store.lifetime > 0 for store in stores)


# Abandoned


class Silent:
    """Answers only those of its clients that are still there; until then it waits."""

    def __init__(self) -> None:
        self.runs = 0
        self.left = 0
        self.inside = asyncio.Event()
        self.answers = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        await receive()
        self.inside.set()
        gone = asyncio.ensure_future(receive())
        reported = asyncio.ensure_future(self.answers.wait())
        await asyncio.wait((gone, reported), return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        reported.cancel()
        if not self.answers.is_set():
            self.left += 1
            Exchange.of(scope).outcome = "hung_up"
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


@pytest.mark.simulated_time
async def test_run_without_an_answer_hears_of_the_disconnect_when_no_client_returns(
    store: MemoryReplays,
) -> None:
    inner = Silent()
    app = IdempotencyMiddleware(inner, store=store, detached_timeout=0.05)
    async with calling(app) as first:
        await inner.inside.wait()
        first.hang_up()
        await first.done()
    assert (inner.runs, inner.left) == (1, 1)
    inner.answers.set()
    again = await answer(app)
    assert (again.text, inner.runs, replayed(again)) == ("answer", 2, False)


@pytest.mark.simulated_time
async def test_run_goes_on_when_somebody_comes_back_in_time(store: MemoryReplays) -> None:
    inner = Silent()
    app = IdempotencyMiddleware(inner, store=store, detached_timeout=0.2)
    async with calling(app) as first:
        await inner.inside.wait()
        first.hang_up()
        await asyncio.sleep(0.05)
        async with calling(app) as back:
            await asyncio.sleep(0.5)  # much longer than it may be alone
            inner.answers.set()
            record = await back.done()
        await first.done()
    assert (record.text, inner.runs, inner.left) == ("answer", 1, 0)
    assert replayed(record)
