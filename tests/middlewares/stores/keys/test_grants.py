"""Keys that workers share: known to one that starts while the store is away, and no longer valid
there than anywhere else."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import msgspec
import pytest

from middlewares.stores import Key, KeyDirectory, MemoryKeyStore, StoreUnavailable, digest
from middlewares.stores.keys import grants as grants_module
from middlewares.stores.keys.base import KeyWithTeam
from middlewares.stores.keys.grants import FILE, FileGrants, GrantShare, SharedGrants
from middlewares.stores.keys.redis_grants import RedisGrants
from middlewares.stores.teams.base import TeamRecord
from tests.middlewares.stores.redis_server import RedisServer
from tests.middlewares.stores.samples import new_key, new_team
from tests.waiting import DEADLINE

replace = msgspec.structs.replace
Make = Callable[[], GrantShare]


class Store(MemoryKeyStore):
    """It can go away."""

    down = False

    async def revision(self) -> int:
        if self.down:
            raise StoreUnavailable("gone away")
        return await super().revision()

    async def find_with_team(self, digest: bytes) -> KeyWithTeam | None:
        if self.down:
            raise StoreUnavailable("gone away")
        return await super().find_with_team(digest)

    async def put(self, **fields: object) -> tuple[Key, bytes]:
        key, secret = new_key(**fields)
        return await self.insert(key), digest(secret)

    async def change(self, key: Key, **fields: object) -> Key:
        return await self.update(key.id, lambda key: replace(key, **fields))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(params=["file", "redis"])
async def make_grants(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """A way to the same grants, for each worker one."""
    monkeypatch.setattr(grants_module, "NEWS", 0.0)
    made: list[RedisGrants] = []
    if request.param == "file":
        yield lambda: FileGrants(tmp_path / "journal", "store")
        return
    url = request.getfixturevalue("redis_url")

    def one() -> GrantShare:
        made.append(RedisGrants(url, "store", keep=300.0))
        return made[-1]

    yield one
    for grants in made:
        await grants.aclose()


@asynccontextmanager
async def worker(
    store: Store, share: GrantShare, grace: float = 300.0
) -> AsyncIterator[KeyDirectory]:
    if isinstance(share, RedisGrants):
        await share.start()
    directory = KeyDirectory(store, share=share, period=0.01, grace=grace)
    await directory.start(must_answer=False)
    try:
        yield directory
    finally:
        await directory.aclose()


async def shared(share: GrantShare, true: Callable[[SharedGrants], bool]) -> SharedGrants:
    """What is shared, once it is as the test waits for."""
    async with asyncio.timeout(DEADLINE):
        while (found := await share.load()) is None or not true(found):
            await asyncio.sleep(0.01)
    return found


def digests(known: SharedGrants) -> set[bytes]:
    return {digest for digest, _ in known.grants}


async def test_worker_that_starts_in_an_outage_knows_keys_used_lately(
    store: Store, make_grants: Make
) -> None:
    _, used = await store.put()
    _, unused = await store.put()
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
    store.down = True
    async with worker(store, make_grants()) as other:
        assert (other.usable, other.answered) == (True, False)
        assert other.peek(used)
        with pytest.raises(StoreUnavailable):
            await other.find(unused)
        store.down = False
        async with asyncio.timeout(DEADLINE):
            while not other.answered:
                await asyncio.sleep(0.01)
        assert await other.find(unused)


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": 1.0},
        {"disabled": True},
        {"digest": b"n" * 32, "previous_digest": None, "previous_until": None},
    ],
)
async def test_revoked_key_does_not_live_again(
    store: Store, make_grants: Make, change: dict[str, object]
) -> None:
    """Also one that a worker held which is gone, or has never seen."""
    key, used = await store.put()
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
        if isinstance(share, RedisGrants):
            await one.aclose()
            async with worker(store, make_grants()):
                changed = await store.change(key, **change)
                await shared(share, lambda known: known.since >= changed.revision)
        else:
            changed = await store.change(key, **change)
            await shared(share, lambda known: known.since >= changed.revision)
    store.down = True
    async with worker(store, make_grants()) as other:
        grant = other.peek(used)
        assert grant is None or grant.until < 0


async def test_key_changed_between_polls_is_known_when_the_store_answers(
    store: Store, make_grants: Make
) -> None:
    key, used = await store.put()
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
    await store.change(key, revoked_at=1.0)
    store.down = True
    async with worker(store, make_grants()) as other:
        assert other.peek(used)  # it could not hear of it: for the rest of the grace, as ever
        store.down = False
        async with asyncio.timeout(DEADLINE):
            while (grant := other.peek(used)) is not None and grant.until > 0:
                await asyncio.sleep(0.01)


async def test_start_after_unseen_changes_shares_nothing_old(
    store: Store, make_grants: Make
) -> None:
    key, used = await store.put()
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
    changed = await store.change(key, revoked_at=1.0)
    async with worker(store, make_grants()):
        await shared(share, lambda known: known.since == changed.revision)
        assert used not in digests(await shared(share, lambda _: True))


async def test_shared_grants_end_with_the_grace_since_the_store_confirmed_them(
    store: Store, make_grants: Make
) -> None:
    _, used = await store.put()
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
    store.down = True
    async with worker(store, make_grants(), grace=0.0) as other:
        assert other.peek(used) is None
        assert not other.usable


async def test_edited_key_is_shared_as_it_is_now(store: Store, make_grants: Make) -> None:
    key, used = await store.put()
    share, own = make_grants(), make_grants()
    async with worker(store, share) as one, worker(store, own) as other:
        assert await one.find(used) and await other.find(used)
        await store.change(key, plan="other")
        await shared(
            share, lambda known: any(found.key.plan == "other" for _, found in known.grants)
        )


async def test_worker_that_starts_in_an_outage_knows_the_teams_of_keys(
    store: Store, make_grants: Make
) -> None:
    team = await store.teams.insert(new_team(name="Search", plan="pro"))
    _, used = await store.put(team=team.id)
    share = make_grants()
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
    store.down = True
    async with worker(store, make_grants()) as other:
        grant = other.peek(used)
        assert grant is not None and grant.principal.team is not None
        assert (grant.principal.team.name, grant.principal.team.plan) == ("Search", "pro")
        assert grant.until > 0


async def test_edited_team_is_shared_as_it_is_now(store: Store, make_grants: Make) -> None:
    team = await store.teams.insert(new_team(plan="pro"))
    _, used = await store.put(team=team.id)
    share, own = make_grants(), make_grants()
    async with worker(store, share) as one, worker(store, own) as other:
        assert await one.find(used) and await other.find(used)
        await shared(share, lambda known: used in digests(known))
        await store.teams.update(team.id, lambda team: replace(team, plan="other"))
        found = await shared(
            share,
            lambda known: any(
                found.team is not None and found.team.plan == "other" for _, found in known.grants
            ),
        )
        assert digests(found) == {used}


async def test_key_of_a_disabled_team_does_not_live_again(store: Store, make_grants: Make) -> None:
    """Also when the worker that shared it is gone, and no other has a key of the team."""
    team = await store.teams.insert(new_team())
    _, used = await store.put(team=team.id)
    share = make_grants()

    def disable(team: TeamRecord) -> TeamRecord:
        return replace(team, disabled=True)

    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
        if isinstance(share, RedisGrants):
            await one.aclose()
            async with worker(store, make_grants()):
                changed = await store.teams.update(team.id, disable)
                found = await shared(share, lambda known: known.since >= changed.revision)
                assert used not in digests(found)
        else:
            changed = await store.teams.update(team.id, disable)
            await shared(share, lambda known: known.since >= changed.revision)
    store.down = True
    async with worker(store, make_grants()) as other:
        grant = other.peek(used)
        assert grant is None or grant.until < 0


async def test_running_workers_know_each_others_keys_in_an_outage(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants_module, "NEWS", 0.0)
    _, used = await store.put()
    share, own = (RedisGrants(redis_url, "store", keep=300.0) for _ in range(2))
    async with worker(store, share) as one, worker(store, own) as other:
        assert await one.find(used)
        await shared(share, lambda known: used in digests(known))
        store.down = True
        async with asyncio.timeout(DEADLINE):
            while other.peek(used) is None:
                await asyncio.sleep(0.01)
    await share.aclose()
    await own.aclose()


async def test_flushed_grants_are_shared_again(
    store: Store, redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants_module, "NEWS", 0.0)
    monkeypatch.setattr(grants_module, "CONFIRMED", 0.0)
    used = [(await store.put())[1] for _ in range(450)]
    share = RedisGrants(redis_url, "store", keep=300.0)
    async with worker(store, share) as one:
        for secret in used:
            assert await one.find(secret)
        await shared(share, lambda known: len(known.grants) == 450)
        redis_server.flush()
        await shared(share, lambda known: digests(known) == set(used))
    await share.aclose()


async def test_worker_that_is_behind_shares_nothing(store: Store, redis_url: str) -> None:
    share = RedisGrants(redis_url, "store", keep=300.0)
    await share.start()
    _, used = await store.put()
    found = await store.find_with_team(used)
    assert found is not None
    news = grants_module.GrantChanges(5, 0.0, 0, False, (), [], list)
    assert await share.tell(news)
    assert not await share.tell(replace(news, since=4, new=[(used, found)]))
    known = await shared(share, lambda _: True)
    assert (known.since, known.grants) == (5, [])
    assert await share.tell(replace(news, since=3, reset=True))  # the store itself went back
    assert (await shared(share, lambda _: True)).since == 3
    await share.aclose()


async def test_file_is_private_and_holds_no_secret(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = new_key()
    await store.insert(key)
    share = FileGrants(tmp_path / "journal", "store")
    monkeypatch.setattr(grants_module, "NEWS", 0.0)
    async with worker(store, share) as one:
        assert await one.find(digest(secret))
        await shared(share, lambda known: bool(known.grants))
    path = tmp_path / "journal" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.encode() not in path.read_bytes()


async def test_file_of_another_store_or_clock_is_not_taken(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share = FileGrants(tmp_path, "store")
    async with worker(store, share):
        await shared(share, lambda _: True)
    assert await FileGrants(tmp_path, "another").load() is None
    assert await FileGrants(tmp_path, "store", clock=lambda: time() - 3600).load() is None
    (tmp_path / FILE).write_bytes(b"\xc1 no grants")
    assert await share.load() is None
    assert "cannot read" in caplog.text


async def test_file_that_cannot_be_written_is_removed_when_a_key_changes(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says is wrong from then on. One line of the log says so."""
    key, used = await store.put()
    share = FileGrants(tmp_path, "store")
    async with worker(store, share) as one:
        assert await one.find(used)
        await shared(share, lambda _: True)

        (tmp_path / FILE).with_suffix(".new").mkdir()  # where the next one is written
        await store.change(key, revoked_at=1.0)
        async with asyncio.timeout(DEADLINE):
            while (tmp_path / FILE).exists():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    assert caplog.text.count("cannot write") == 1
