"""Jobs in SQLite and PostgreSQL: claims, fences, one end, and money in the same transactions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from middlewares.limits import Budget, Window
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import Hold, TeamAccount
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.files.base import StorageFull
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.jobs.base import ClaimLost, Job, JobExists, Result
from middlewares.stores.jobs.sql import SqlJobStore
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from middlewares.stores.teams.sql import SqlTeamStore
from tests.middlewares.stores.samples import new_key, new_team

NOW = 1_900_000_000.0
BUDGET = Budget(windows=(Window("5h", 18000.0, 1000),))


class Stores:
    """The stores over one database."""

    def __init__(self, database: Database) -> None:
        self.jobs = SqlJobStore(database)
        self.ledger = SqlLedgerStore(database)
        self.files = SqlFileStore(database)

    def accounts(self) -> Accounts:
        """Those of a process that has just started."""
        return Accounts(MemoryCounters(clock=lambda: NOW), self.ledger, clock=lambda: NOW)


@pytest.fixture
async def stores(sql_url: str) -> AsyncIterator[Stores]:
    database = await Database.open(sql_url)
    yield Stores(database)
    await database.aclose()


def job(number: int = 1, *, reserved: int = 300, **changes: Any) -> Job:
    entry = Entry(
        f"request-{number}",
        "alice",
        NOW,
        NOW,
        cost=reserved,
        reserved=reserved,
        starts={"5h": NOW} if reserved else {},
    )
    made = Job(
        id=f"video_{number}",
        owner="alice",
        kind="video",
        model="clip",
        created_at=NOW + number,
        reservation=entry,
        due=NOW,
        since=NOW,
    )
    return replace(made, **changes)


def row(one: Job, cost: int) -> Entry:
    return replace(one.reservation, cost=cost, ended_at=NOW + 60, jobs=1)


async def spent(stores: Stores) -> int:
    found, _ = await stores.ledger.spent("alice", NOW, ())
    return found.spent.get("5h", 0)


async def test_claim_of_many_takes_each_job_once(stores: Stores) -> None:
    for number in range(20):
        await stores.jobs.create(job(number), limit=None)

    async def worker(name: str) -> list[str]:
        taken = []
        while (claimed := await stores.jobs.claim(name, NOW, 30.0)) is not None:
            taken.append(claimed.id)
        return taken

    shares = await asyncio.gather(*[worker(f"w{n}") for n in range(4)])
    taken = [one for share in shares for one in share]
    assert sorted(taken) == sorted(f"video_{n}" for n in range(20))


async def test_job_is_claimed_again_once_its_lease_has_ended(stores: Stores) -> None:
    await stores.jobs.create(job(), limit=None)
    first = await stores.jobs.claim("a", NOW, 30.0)
    assert first is not None and first.fence == 1
    assert await stores.jobs.claim("b", NOW + 29, 30.0) is None
    assert await stores.jobs.renew(first, NOW + 60)
    assert await stores.jobs.claim("b", NOW + 31, 30.0) is None
    second = await stores.jobs.claim("b", NOW + 61, 30.0)
    assert second is not None and second.fence == 2
    assert not await stores.jobs.renew(first, NOW + 90)
    with pytest.raises(ClaimLost):
        await stores.jobs.change(first, state="running")
    with pytest.raises(ClaimLost):
        await stores.jobs.finish(first, row(first, 300), state="succeeded")
    changed = await stores.jobs.change(second, state="running", lease_until=0.0, due=NOW + 62)
    assert changed.state == "running"
    assert not await stores.jobs.renew(second, NOW + 90)  # it has ended its lease itself
    assert await stores.jobs.claim("c", NOW + 61, 30.0) is None
    assert await stores.jobs.claim("c", NOW + 62, 30.0) is not None


async def test_claims_that_are_let_go_are_free_at_once(stores: Stores) -> None:
    await stores.jobs.create(job(), limit=None)
    first = await stores.jobs.claim("a", NOW, 30.0)
    assert first is not None
    await stores.jobs.let_go([first])
    assert await stores.jobs.claim("b", NOW, 30.0) is not None


async def test_reservation_is_spent_until_the_end_puts_the_cost_in_its_place(
    stores: Stores,
) -> None:
    await stores.jobs.create(job(1), limit=None)
    await stores.jobs.create(job(2), limit=None)
    assert await spent(stores) == 600
    claimed = await stores.jobs.claim("a", NOW, 30.0, "video_1")
    assert claimed is not None
    done = await stores.jobs.finish(claimed, row(claimed, 120), state="succeeded", charged=120)
    assert done.final
    assert await spent(stores) == 420
    (entry,) = await stores.ledger.page(account="alice")
    assert (entry.id, entry.cost, entry.reserved) == ("request-1", 120, 300)
    with pytest.raises(ClaimLost):
        await stores.jobs.finish(claimed, row(claimed, 300), state="failed")
    assert len(await stores.ledger.page(account="alice")) == 1
    claimed = await stores.jobs.claim("a", NOW, 30.0, "video_2")
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 0), state="failed", charged=0)
    assert await spent(stores) == 120


async def test_reservation_counts_for_the_team_until_the_end(stores: Stores) -> None:
    team = TeamAccount("team_1", BUDGET)
    accounts, elsewhere = stores.accounts(), stores.accounts()
    hold = await accounts.reserve("alice", "request-1", 300, 300, BUDGET, team)
    assert isinstance(hold, Hold) and hold.team is not None
    one = job()
    reservation = replace(
        one.reservation, starts=hold.starts, team="team_1", team_starts=hold.team.starts
    )
    one = replace(one, reservation=reservation)
    await stores.jobs.create(one, limit=None)
    for account in ("alice", "team_1"):  # restored while the hold is open, and elsewhere
        assert (await elsewhere.status(account, BUDGET)).windows[0].used == 300
    await accounts.changed(reservation)
    for account in ("alice", "team_1"):
        status = await accounts.status(account, BUDGET)
        assert (status.windows[0].used, status.held["windows"]) == (300, 0)
    await accounts.committed([reservation])
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 120), state="succeeded", charged=120)
    for each in (accounts, elsewhere):
        await each.changed(reservation)
        for account in ("alice", "team_1"):
            status = await each.status(account, BUDGET)
            assert (status.windows[0].used, status.held["windows"]) == (120, 0)


async def test_prepaid_reservation_comes_from_the_credits(stores: Stores) -> None:
    bought = Entry("grant", "alice", NOW, NOW, kind="credit", granted=1000)
    await stores.ledger.append([bought])
    one = job()
    paid = replace(one.reservation, from_credits=300, starts={})
    await stores.jobs.create(replace(one, reservation=paid), limit=None)
    found, _ = await stores.ledger.spent("alice", NOW, ())
    assert found.credits == 700
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None
    entry = replace(row(claimed, 50), from_credits=50)
    await stores.jobs.finish(claimed, entry, state="succeeded", charged=50)
    found, _ = await stores.ledger.spent("alice", NOW, ())
    assert found.credits == 950


async def test_restored_account_holds_what_jobs_reserve_once(stores: Stores) -> None:
    """Whether the account is restored before the hold is converted, after it, or elsewhere."""
    accounts = stores.accounts()
    hold = await accounts.reserve("alice", "request-1", 300, 300, BUDGET)
    assert isinstance(hold, Hold)
    one = job()
    await stores.jobs.create(
        replace(one, reservation=replace(one.reservation, starts=hold.starts)), limit=None
    )
    elsewhere = stores.accounts()
    for _ in range(2):
        status = await elsewhere.status("alice", BUDGET)
        assert status.windows[0].used == 300
        await elsewhere.changed(one.reservation)
    await accounts.changed(
        one.reservation
    )  # restored while the hold is open: the row says it is counted
    status = await accounts.status("alice", BUDGET)
    assert (status.windows[0].used, status.held["windows"]) == (300, 0)
    await accounts.committed([one.reservation])
    status = await accounts.status("alice", BUDGET)
    assert (status.windows[0].used, status.held["windows"]) == (300, 0)
    refused = await elsewhere.reserve("alice", "request-2", 800, 800, BUDGET)
    assert not isinstance(refused, Hold)
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 0), state="failed", charged=0)
    for each in (accounts, elsewhere):
        await each.changed(one.reservation)
        assert (await each.status("alice", BUDGET)).windows[0].used == 0


async def test_key_of_one_owner_names_one_job(stores: Stores) -> None:
    await stores.jobs.create(job(1, key="k", fingerprint="aa"), limit=None)
    with pytest.raises(JobExists):
        await stores.jobs.create(job(2, key="k"), limit=None)
    assert await spent(stores) == 300
    found = await stores.jobs.with_key("alice", "k")
    assert found is not None and (found.id, found.fingerprint) == ("video_1", "aa")
    assert await stores.jobs.with_key("bob", "k") is None
    await stores.jobs.create(job(3, key="k", owner="bob"), limit=None)


async def test_room_for_results_is_reserved_and_given_back(stores: Stores) -> None:
    await stores.jobs.create(job(1, storage=600), limit=1000)
    with pytest.raises(StorageFull):
        await stores.jobs.create(job(2, storage=600), limit=1000)
    assert await stores.jobs.get("alice", "video_2") is None
    assert await spent(stores) == 300
    assert (await stores.files.use("alice")).reserved == 600
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 0), state="failed")
    assert (await stores.files.use("alice")).reserved == 0


async def test_owner_sees_own_jobs_by_page(stores: Stores) -> None:
    for number in range(5):
        await stores.jobs.create(job(number), limit=None)
    await stores.jobs.create(job(9, owner="bob"), limit=None)
    page = await stores.jobs.page("alice", "video", after=None, limit=3)
    assert [one.id for one in page] == ["video_4", "video_3", "video_2"]
    page = await stores.jobs.page("alice", "video", after="video_2", limit=3)
    assert [one.id for one in page] == ["video_1", "video_0"]
    page = await stores.jobs.page("alice", "video", after="video_2", limit=9, newest_first=False)
    assert [one.id for one in page] == ["video_3", "video_4"]
    assert await stores.jobs.page("alice", "video", after="video_9", limit=3) == []
    assert await stores.jobs.page("alice", "music", after=None, limit=3) == []
    assert await stores.jobs.get("bob", "video_1") is None
    assert await stores.jobs.cancel("bob", "video_1", NOW) is None
    assert await stores.jobs.delete("bob", "video_1", NOW) is None


async def test_listed_has_both_kinds_and_filters_by_state(stores: Stores) -> None:
    kinds = ("video", "music")
    made = [job(n, kind=kinds[n % 2], key=f"k{n}", due=NOW - n) for n in range(1, 8)]
    for one in made:
        await stores.jobs.create(one, limit=None)
    await stores.jobs.create(job(20, owner="bob"), limit=None)
    claimed = await stores.jobs.claim("w", NOW, 30.0, "video_4")
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 300), state="succeeded")
    await stores.jobs.delete("alice", "video_6", NOW)
    ids = [f"video_{n}" for n in (7, 5, 4, 3, 2, 1)]
    assert [one.id for one in await stores.jobs.listed("alice", limit=10)] == ids
    first = await stores.jobs.listed("alice", limit=2)
    place = (first[-1].created_at, first[-1].id)
    rest = await stores.jobs.listed("alice", after=place, limit=10)
    assert [one.id for one in (*first, *rest)] == ids
    found = await stores.jobs.listed("alice", states=("succeeded", "failed"), limit=10)
    assert [one.id for one in found] == ["video_4"]
    found = await stores.jobs.listed("alice", kind="music", limit=10)
    assert [one.id for one in found] == ["video_7", "video_5", "video_3", "video_1"]
    assert await stores.jobs.listed("carol", limit=10) == []


async def test_reservations_of_a_team_are_those_of_its_keys_for_it(
    stores: Stores, sql_url: str
) -> None:
    database = await Database.open(sql_url)
    keys, teams = SqlKeyStore(database), SqlTeamStore(database)
    team, other = [await teams.insert(new_team()) for _ in range(2)]
    members = [await keys.insert(new_key(team=team.id)[0]) for _ in range(2)]
    stranger = await keys.insert(new_key(team=other.id)[0])
    for n, (key, of_team) in enumerate(
        [
            (members[0], team.id),
            (members[1], team.id),
            (members[1], other.id),  # begun before it moved
            (members[0], ""),
            (stranger, other.id),
        ]
    ):
        made = job(n, owner=key.id, key=f"k{n}")
        reservation = replace(made.reservation, account=key.id, team=of_team)
        await stores.jobs.create(replace(made, reservation=reservation), limit=None)
    found = await stores.jobs.reservations_of_team(team.id)
    assert sorted(row.id for row in found) == ["request-0", "request-1"]
    claimed = await stores.jobs.claim("w", NOW, 30.0, "video_0")
    assert claimed is not None
    await stores.jobs.finish(claimed, row(claimed, 300), state="succeeded")
    found = await stores.jobs.reservations_of_team(team.id)
    assert [row.id for row in found] == ["request-1"]
    await database.aclose()


async def test_deleted_job_is_hidden_and_runs_to_its_end(stores: Stores) -> None:
    await stores.jobs.create(job(), limit=None)
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None
    deleted = await stores.jobs.delete("alice", "video_1", NOW + 5)
    assert deleted is not None and deleted.cancelling and deleted.due == NOW + 5
    assert await stores.jobs.get("alice", "video_1") is None
    assert await stores.jobs.delete("alice", "video_1", NOW) is None
    done = await stores.jobs.finish(claimed, row(claimed, 10), state="succeeded", charged=10)
    assert done.deleted
    assert await spent(stores) == 10


async def test_fields_come_back_as_they_were_written(stores: Stores) -> None:
    made = job(1, request=b'{"kind":"video"}', media=b"[large]", callback="https://x.example/h")
    await stores.jobs.create(made, limit=None)
    found = await stores.jobs.get("alice", "video_1")
    assert found == replace(made, media=b"")
    claimed = await stores.jobs.claim("a", NOW, 30.0)
    assert claimed is not None and claimed.media == b"[large]"
    results = (Result(file="file-1", url="https://v.example/1", seconds=4.5, stored=True),)
    await stores.jobs.change(claimed, results=results, upstream_id="v1", reported=b'{"cost":1}')
    again = await stores.jobs.get("alice", "video_1")
    assert again is not None and again.results == results
    assert await stores.jobs.taken(["v1", "v2"]) == {"v1"}
    figures = await stores.jobs.figures(NOW + 10)
    assert (figures.states["queued"], figures.overdue) == (1, 0.0)


async def test_purge_removes_what_has_ended_and_is_settled(stores: Stores) -> None:
    for number in (1, 2, 3):
        await stores.jobs.create(job(number), limit=None)
        claimed = await stores.jobs.claim("a", NOW, 30.0, f"video_{number}")
        assert claimed is not None
        if number < 3:
            due = None if number == 1 else NOW
            await stores.jobs.finish(
                claimed, row(claimed, 0), state="failed", finished_at=NOW, due=due
            )
    assert await stores.jobs.purge(NOW) == 0
    assert await stores.jobs.purge(NOW + 1) == 1
    assert await stores.jobs.get("alice", "video_1") is None
    assert await stores.jobs.get("alice", "video_2") is not None
