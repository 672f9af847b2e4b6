"""A gateway with tables that a newer program has migrated: in a roll-out, and after a rollback."""

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from middlewares.stores.sql.tables_version import SCHEMA
from tests.middlewares.stores.future import NEXT, migrate_further
from tests.middlewares.stores.postgres_server import Postgres

from .conftest import SECRETS, Start
from .ledger import rows, rows_when
from .operator import run_status
from .program import DEADLINE, ROOT, Gateway, command, environment, until
from .wire import CHAT, ask, bearer, chat

SAID = f"tables are of version {NEXT}, newer than this program ({SCHEMA})"
PLAN = {"id": "paid", "windows": [{"length": "1d", "credits": "5.00"}]}


def document(**store: Any) -> dict[str, Any]:
    price = {"input": "0", "output": "10000"}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "sim-1", "targets": ["near/sim-1"], "price": price}],
        "plans": [PLAN],
        "store": store,
    }


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "sqlite":
        return {}
    postgres: Postgres = request.getfixturevalue("postgres")
    return {"sql": await postgres.migrated_database()}


def ready(gateway: Gateway, dead: int) -> bool:
    """Whether a worker other than the dead one answers."""
    with suppress(httpx.HTTPError):
        answer = httpx.get(f"{gateway.url}/readyz", trust_env=False)
        return answer.status_code == 200 and dead not in {one.pid for one in gateway.workers}
    return False


async def used(gateway: Gateway, key: str) -> str:
    """Credits of the window of a key, once nothing is reserved in it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            (window,) = (await ask(gateway.url, "/v1/limits", None, bearer(key))).json()["windows"]
            if window["reserved"] == "0.00":
                found: str = window["used"]
                return found
            await asyncio.sleep(0.05)


async def test_older_program_serves_newer_compatible_tables(
    start: Start, tmp_path: Path, store: dict[str, Any]
) -> None:
    """It goes on while they are migrated, by five at once, and starts again beside them."""
    first = await asyncio.to_thread(start, document(**store))
    key = await asyncio.to_thread(first.new_key, "k", plan="paid")
    body = {**chat("Hello [[sim tokens=10]]", "sim-1"), "max_tokens": 10}
    over = asyncio.Event()
    served: list[int] = []

    async def ask_on(gateway: Gateway) -> None:
        while not over.is_set():
            served.append((await ask(gateway.url, CHAT, body, bearer(key))).status)
            await asyncio.sleep(0.2)

    asking = asyncio.create_task(ask_on(first))
    await asyncio.gather(*[migrate_further(first.sql, tmp_path / "next") for _ in range(5)])
    over.set()
    await asking
    assert (await ask(first.url, CHAT, body, bearer(key))).status == 200
    assert set(served) == {200}
    count = len(served) + 1
    await rows_when(first, count)
    assert await asyncio.to_thread(first.stop) == 0

    again = await asyncio.to_thread(start, document(**store), folder=first.folder)
    await asyncio.to_thread(until, lambda: SAID in again.stderr, what="a line about the tables")
    (worker,) = again.workers
    worker.kill()
    worker.wait(DEADLINE)  # its sockets are closed then
    await asyncio.to_thread(until, lambda: ready(again, worker.pid), what="another worker")
    team = await asyncio.to_thread(again.new_team, "research", plan="paid")
    other = await asyncio.to_thread(again.new_key, "other", team=team)
    for one in (key, other):
        assert (await ask(again.url, CHAT, body, bearer(one))).status == 200
    await rows_when(again, count + 2)
    assert sum(row.cost for row in await rows(again.sql)) == (count + 2) * 10**8
    assert await used(again, key) == f"{(count + 1) / 10:.2f}"
    code, said, _ = await asyncio.to_thread(run_status, again)
    assert (code, SAID in said) == (0, True)
    assert "nothing to do: the " + SAID in await asyncio.to_thread(again.run, "migrate")
    usage = httpx.get(
        f"{again.url}/admin/v1/usage?group_by=team",
        headers={"authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"},
        trust_env=False,
    ).json()
    assert {one["team"]: one["requests"] for one in usage["data"]}[team] == 1
    assert await asyncio.to_thread(again.stop) == 0

    await migrate_further(again.sql, tmp_path / "after", compatible=False)
    refused = await asyncio.to_thread(
        subprocess.run,
        command("serve", "--config", str(again.file)),
        cwd=ROOT,
        env=environment(SECRETS),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert refused.returncode == 1
    assert f"newer than this program ({SCHEMA}), and need {NEXT}. Run the version" in refused.stderr
