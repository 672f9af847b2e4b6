"""The directory: one query per new secret, true to the store, bounded whatever callers do."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.stores import Key, KeyDirectory, KeyStore, MemoryKeyStore, StoreUnavailable, digest
from middlewares.stores.keys.base import KeyWithTeam
from middlewares.stores.teams.base import TeamStore
from tests.middlewares.stores.samples import new_key, new_team
from tests.waiting import DEADLINE

replace = msgspec.structs.replace
NEVER = 3600.0


class WatchedStore(MemoryKeyStore):
    """A store whose look-ups can be held after they have read, and which can go away."""

    def __init__(self) -> None:
        super().__init__()
        self.finds: list[bytes] = []
        self.polls = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()

    async def find_with_team(self, digest: bytes) -> KeyWithTeam | None:
        self._check()
        self.finds.append(digest)
        found = await super().find_with_team(digest)
        self.reading.set()
        await self.gate.wait()
        return found

    async def revision(self) -> int:
        self.polls += 1
        self._check()
        return await super().revision()

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("gone away")

    async def put(self, **fields: object) -> tuple[Key, bytes]:
        key, secret = new_key(**fields)
        return await self.insert(key), digest(secret)

    async def change(self, key: Key, **fields: object) -> Key:
        return await self.update(key.id, lambda key: replace(key, **fields))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watched_store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_directory(
    watched_store: WatchedStore, clock: Clock
) -> AsyncIterator[Callable[..., KeyDirectory]]:
    """Makes directories that poll only when `refresh` is called."""
    opened: list[KeyDirectory] = []

    def make(**options: float) -> KeyDirectory:
        settings = {"period": NEVER, "patience": 5.0, **options}
        directory = KeyDirectory(watched_store, clock=clock, **settings)  # type: ignore[arg-type]
        opened.append(directory)
        return directory

    yield make
    for directory in opened:
        await directory.aclose()


@pytest.fixture
async def directory(open_directory: Callable[..., KeyDirectory]) -> KeyDirectory:
    directory = open_directory()
    await directory.start()
    return directory


async def test_a_secret_is_asked_for_once(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, secret = await watched_store.put(models=("a",), plan="pro", owner="ann", name="n")
    assert directory.peek(secret) is None
    found = await directory.find(secret)
    assert found is not None
    assert found.key == key
    assert (found.principal.id, found.principal.plan) == (key.id, "pro")
    assert found.principal.models == frozenset({"a"})
    assert directory.peek(secret) is found is await directory.find(secret)
    assert watched_store.finds == [secret]


async def test_many_at_once_cost_one_query(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    _, known = await watched_store.put()
    unknown = digest("unknown")
    watched_store.gate.clear()
    asked = [asyncio.create_task(directory.find(each)) for each in [known, unknown] * 50]
    await watched_store.reading.wait()
    watched_store.gate.set()
    found = await asyncio.gather(*asked)
    assert sorted(watched_store.finds) == sorted([known, unknown])
    assert [grant is None for grant in found] == [False, True] * 50


async def test_cancelled_lookup_cancels_no_other(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    _, secret = await watched_store.put()
    watched_store.gate.clear()
    leaver = asyncio.create_task(directory.find(secret))
    stayer = asyncio.create_task(directory.find(secret))
    await watched_store.reading.wait()
    leaver.cancel()
    await asyncio.wait([leaver])
    assert leaver.cancelled()
    watched_store.gate.set()
    assert await stayer is not None


async def test_a_change_replaces_what_is_held(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, secret = await watched_store.put()
    await directory.find(secret)
    await watched_store.change(key, revoked_at=1.0)
    held = directory.peek(secret)
    assert held is not None
    assert held.until > 0
    await directory.refresh()
    held = directory.peek(secret)
    assert held is not None
    assert held.until < 0
    assert watched_store.finds == [secret]


async def test_an_old_row_in_flight_does_not_bring_a_revoked_key_back(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, secret = await watched_store.put()
    watched_store.gate.clear()
    looking = asyncio.create_task(directory.find(secret))
    await watched_store.reading.wait()  # the row is read, not yet delivered
    await watched_store.change(key, revoked_at=1.0)
    await directory.refresh()
    watched_store.gate.set()
    found = await looking
    assert found is not None
    assert found.key.revoked_at == 1.0
    assert directory.peek(secret) == found


async def test_a_key_made_while_it_was_asked_for_is_known(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, secret = new_key()
    watched_store.gate.clear()
    looking = asyncio.create_task(directory.find(digest(secret)))
    await watched_store.reading.wait()
    await watched_store.insert(key)
    await directory.refresh()
    watched_store.gate.set()
    assert await looking is not None


async def test_a_rotation_keeps_the_old_secret_for_the_grace_and_drops_the_one_before(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, first = await watched_store.put()
    await directory.find(first)
    second, third = digest("second"), digest("third")
    await watched_store.change(key, digest=second, previous_digest=first, previous_until=77.0)
    await directory.refresh()
    old, new = directory.peek(first), await directory.find(second)
    assert old is not None
    assert new is not None
    assert old.until == 77.0 < new.until
    await watched_store.change(key, digest=third, previous_digest=second, previous_until=99.0)
    await directory.refresh()
    assert directory.peek(first) is None
    assert await directory.find(first) is None
    old = directory.peek(second)
    assert old is not None
    assert old.until == 99.0


async def test_unknown_secrets_are_remembered_briefly(
    directory: KeyDirectory, watched_store: WatchedStore, clock: Clock
) -> None:
    key, secret = new_key()
    wanted = digest(secret)
    await watched_store.put()
    await directory.find(wanted)
    await directory.find(wanted)
    assert watched_store.finds == [wanted]
    clock.now += 1.0
    assert await directory.find(wanted) is None
    assert watched_store.finds == [wanted] * 2
    await watched_store.insert(key)
    assert await directory.find(wanted) is None
    await directory.refresh()
    assert await directory.find(wanted) is not None


async def test_a_flood_of_guesses_pushes_no_key_out_and_takes_bounded_space(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    directory = open_directory(size=5)
    await directory.start()
    _, secret = await watched_store.put()
    await directory.find(secret)
    for number in range(200):
        assert await directory.find(digest(f"guess {number}")) is None
    assert directory.peek(secret) is not None
    assert len(directory._unknown) == 5
    assert not directory._flights


async def test_the_least_recently_used_key_goes_first(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    directory = open_directory(size=2)
    await directory.start()
    secrets = [(await watched_store.put())[1] for _ in range(3)]
    await directory.find(secrets[0])
    await directory.find(secrets[1])
    assert directory.peek(secrets[0]) is not None
    await directory.find(secrets[2])
    assert directory.peek(secrets[1]) is None
    assert directory.peek(secrets[0]) is not None
    assert set(directory._known.by_key) == {grant.key.id for grant in directory._grants.values()}


async def test_too_many_lookups_are_refused_and_not_queued_for_ever(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    watched_store.gate.clear()
    asked = [asyncio.create_task(directory.find(digest(str(n)))) for n in range(1100)]
    await watched_store.reading.wait()
    refused = [task for task in asked if task.done()]
    assert len(refused) == 1100 - 1024
    assert all(isinstance(task.exception(), StoreUnavailable) for task in refused)
    assert len(watched_store.finds) == 16
    watched_store.gate.set()
    assert await asyncio.gather(*asked[:1024]) == [None] * 1024


async def test_lookup_that_takes_too_long_ends(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    directory = open_directory(patience=0.05)
    await directory.start()
    watched_store.gate.clear()
    with pytest.raises(StoreUnavailable, match="in time"):
        await directory.find(digest("x"))
    assert not directory._flights


async def test_an_outage_known_keys_go_on_for_the_grace_and_others_wait(
    open_directory: Callable[..., KeyDirectory],
    watched_store: WatchedStore,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = open_directory(grace=300.0, period=NEVER)
    _, known = await watched_store.put()
    _, other = await watched_store.put()
    await directory.start()
    await directory.find(known)
    watched_store.down = True
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await directory.refresh()
    assert directory.peek(known) is not None
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await directory.find(other)
    assert watched_store.finds == [known]
    clock.now += NEVER + 5.0 + 300.0
    assert directory.peek(known) is not None
    clock.now += 1.0
    assert directory.peek(known) is None
    with pytest.raises(StoreUnavailable):
        await directory.find(known)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    watched_store.down = False
    await directory.refresh()
    assert directory.peek(known) is not None
    assert await directory.find(other) is not None
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_a_store_restored_from_an_older_copy_is_believed(
    directory: KeyDirectory, watched_store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = await watched_store.put()
    await watched_store.change(key, name="edited")
    await directory.find(secret)
    await directory.refresh()
    MemoryKeyStore.__init__(watched_store)
    await watched_store.put()
    await directory.refresh()
    assert directory.peek(secret) is None
    assert await directory.find(secret) is None
    assert "from revision 2 back to 1" in caplog.text


async def test_change_of_a_team_replaces_the_principals_of_its_known_keys(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    team = await watched_store.teams.insert(new_team(plan="small"))
    _, member = await watched_store.put(team=team.id)
    _, stranger = await watched_store.put()
    assert await directory.find(member) and await directory.find(stranger)
    asked, alone = watched_store.finds.copy(), directory.peek(stranger)
    await watched_store.teams.update(team.id, lambda team: replace(team, plan="large"))
    await directory.refresh()
    grant = directory.peek(member)
    assert grant is not None and grant.principal.team is not None
    assert grant.principal.team.plan == "large"
    assert directory.peek(stranger) is alone
    assert watched_store.finds == asked


async def test_an_old_team_in_flight_does_not_bring_a_disabled_one_back(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    team = await watched_store.teams.insert(new_team())
    _, secret = await watched_store.put(team=team.id)
    watched_store.gate.clear()
    looking = asyncio.create_task(directory.find(secret))
    await watched_store.reading.wait()  # both rows are read, not yet delivered
    await watched_store.teams.update(team.id, lambda team: replace(team, disabled=True))
    await directory.refresh()
    watched_store.gate.set()
    found = await looking
    assert found is not None
    assert found.until < 0


async def test_known_keys_of_a_team_go_on_while_the_store_is_away(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    team = await watched_store.teams.insert(new_team())
    _, secret = await watched_store.put(team=team.id)
    await directory.find(secret)
    watched_store.down = True
    with pytest.raises(StoreUnavailable):
        await directory.refresh()
    grant = directory.peek(secret)
    assert grant is not None and grant.principal.team is not None
    assert grant.until > 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 3)),
        st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("rotate"), st.integers(0, 9)),
        st.tuples(st.just("disable"), st.integers(0, 9)),
        st.tuples(st.just("team"), st.integers(0, 2)),
        st.tuples(st.just("find"), st.integers(0, 9)),
        st.tuples(st.just("refresh")),
    ),
    max_size=40,
)


@given(steps=STEPS)
async def test_after_a_refresh_all_that_is_known_is_as_in_the_store(
    steps: list[tuple[Any, ...]],
) -> None:
    store = WatchedStore()
    directory = KeyDirectory(store, period=NEVER, size=5)
    await directory.start()
    teams = [(await store.teams.insert(new_team())).id for _ in range(3)] + [None]
    keys: list[Key] = []
    secrets: list[bytes] = []
    for name, *numbers in steps:
        if name == "insert":
            key, secret = await store.put(team=teams[numbers[0]])
            keys.append(key)
            secrets.append(secret)
        elif name == "team":
            await store.teams.update(
                teams[numbers[0]] or "", lambda team: replace(team, disabled=not team.disabled)
            )
        elif name == "refresh":
            await directory.refresh()
        elif keys and name == "find":
            await directory.find(secrets[numbers[0] % len(secrets)])
        elif keys:
            key = keys[numbers[0] % len(keys)]
            if name == "move":
                await store.change(key, team=teams[numbers[1]])
            elif name == "disable":
                await store.update(key.id, lambda key: replace(key, disabled=not key.disabled))
            else:
                secret = digest(f"secret {len(secrets)}")
                secrets.append(secret)
                await store.update(
                    key.id,
                    lambda key, new=secret: replace(  # type: ignore[misc]
                        key, digest=new, previous_digest=key.digest, previous_until=9e9
                    ),
                )
    await directory.refresh()
    for secret in secrets:
        grant, found = directory.peek(secret), await store.find_with_team(secret)
        if grant is None:
            continue
        assert found is not None
        assert (grant.key, grant.team) == (found.key, found.team)
        refused = found.key.disabled or (found.team is not None and found.team.disabled)
        assert (grant.until < 0) == refused
        team = grant.principal.team
        assert (team and team.id) == found.key.team
    await directory.aclose()


async def test_more_changes_than_a_page_are_all_applied(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    key, secret = await watched_store.put()
    await directory.find(secret)
    for _ in range(1100):
        await watched_store.put()
    await watched_store.change(key, disabled=True)
    await directory.refresh()
    held = directory.peek(secret)
    assert held is not None
    assert held.key.disabled


async def test_networks_that_cannot_be_read_allow_nothing(
    directory: KeyDirectory, watched_store: WatchedStore
) -> None:
    _, secret = await watched_store.put(networks=("10.0.0.0/8", "nonsense"))
    found = await directory.find(secret)
    assert found is not None
    assert found.networks == ()


async def test_directory_polls_by_itself_and_survives_unknown_errors(
    watched_store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = KeyDirectory(watched_store, period=0.01)
    key, secret = await watched_store.put()
    await directory.start()
    await directory.find(secret)
    broken = asyncio.Event()
    revision = watched_store.revision

    async def fail() -> int:
        broken.set()
        raise TypeError("an unforeseen row")

    monkeypatch.setattr(watched_store, "revision", fail)
    async with asyncio.timeout(DEADLINE):
        await broken.wait()
        monkeypatch.setattr(watched_store, "revision", revision)
        await watched_store.change(key, revoked_at=1.0)
        while (held := directory.peek(secret)) is not None and held.until > 0:
            await asyncio.sleep(0.005)
    await directory.aclose()


async def test_directory_answers_nothing_before_start_and_after_close(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    _, secret = await watched_store.put()
    directory = open_directory()
    with pytest.raises(RuntimeError, match="start"):
        await directory.find(secret)
    await directory.start()
    with pytest.raises(RuntimeError, match="twice"):
        await directory.start()
    await directory.find(secret)
    await directory.aclose()
    await directory.aclose()
    assert directory.peek(secret) is None
    with pytest.raises(RuntimeError, match="start"):
        await directory.find(secret)


async def test_it_does_not_start_without_its_store(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    watched_store.down = True
    with pytest.raises(StoreUnavailable, match="gone away"):
        await open_directory().start()


async def test_it_can_begin_before_its_store_answers(
    open_directory: Callable[..., KeyDirectory], watched_store: WatchedStore
) -> None:
    key, secret = await watched_store.put()
    watched_store.down = True
    directory = open_directory()
    await directory.start(must_answer=False)
    usable = [directory.usable]
    with pytest.raises(StoreUnavailable):
        await directory.find(secret)
    watched_store.down = False
    await directory.refresh()
    usable.append(directory.usable)
    assert usable == [False, True]
    grant = await directory.find(secret)
    assert grant is not None and grant.key.id == key.id


@pytest.mark.parametrize("option", ["period", "patience", "size", "grace", "unknown"])
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} -1: expected"):
        KeyDirectory(MemoryKeyStore(), **{option: -1})  # type: ignore[arg-type]


async def test_every_store_serves_a_directory_with_teams(
    store: KeyStore, team_store: TeamStore
) -> None:
    team = await team_store.insert(new_team(plan="pro"))
    key, secret = new_key(team=team.id)
    await store.insert(key)
    directory = KeyDirectory(store, period=0.02)
    await directory.start()
    try:
        grant = await directory.find(digest(secret))
        assert grant is not None and grant.principal.team is not None
        assert (grant.principal.team.id, grant.principal.team.plan) == (team.id, "pro")
        await team_store.update(team.id, lambda team: replace(team, disabled=True))
        async with asyncio.timeout(DEADLINE):
            while (held := directory.peek(digest(secret))) is not None and held.until > 0:
                await asyncio.sleep(0.005)
        assert held is not None
    finally:
        await directory.aclose()


async def test_every_store_serves_a_directory(store: KeyStore) -> None:
    key, secret = new_key(networks=("10.0.0.0/8",))
    await store.insert(key)
    directory = KeyDirectory(store, period=0.02)
    await directory.start()
    try:
        assert await directory.find(digest(secret)) is not None
        await store.update(key.id, lambda key: replace(key, disabled=True))
        async with asyncio.timeout(DEADLINE):
            while (held := directory.peek(digest(secret))) is not None and held.until > 0:
                await asyncio.sleep(0.005)
        assert held is not None
    finally:
        await directory.aclose()


def test_with_the_default_period_a_revocation_takes_less_than_a_second() -> None:
    """A period, and a query that takes as long again."""
    defaults = inspect.signature(KeyDirectory).parameters
    assert 2 * defaults["period"].default < 1.0
    assert defaults["unknown"].default < 1.0
