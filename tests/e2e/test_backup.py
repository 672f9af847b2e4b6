"""Back-up and restore, by the lines of docs/backup.md."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from middlewares.stores.sql.migrations import migrate
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer
from tests.pages import block, page

from .conftest import SECRETS, Start
from .ledger import paid, rows_when, standing
from .program import DEADLINE, Gateway, Program, until
from .wire import CHAT, ask, bearer, chat, line, request


def shell(containing: str) -> str:
    """The page's block of shell lines with a text."""
    return block(page("docs/backup.md"), "sh", containing)


def follow(lines: str, folder: Path, *programs: Path, **variables: str) -> None:
    """Run them. programs: folders with further programs."""
    path = os.pathsep.join(
        (*map(str, (Path(sys.executable).parent, *programs)), os.environ["PATH"])
    )
    env = {**os.environ, **SECRETS, **variables, "PATH": path}
    script = lines.replace("penstock.toml", "penstock.json")  # as the tests' configurations are
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr


def upload(gateway: Gateway, key: str) -> str:
    """A file, and its id."""
    made = httpx.post(
        f"{gateway.url}/v1/files",
        headers={"authorization": f"Bearer {key}"},
        data={"purpose": "user_data"},
        files={"file": ("a", b"kept")},
        trust_env=False,
    )
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


PLAN = {"id": "p", "windows": [{"length": "1d", "credits": "5.00"}], "requests": "1000/min"}


async def usage(gateway: Gateway, key: str) -> Any:
    return (await ask(gateway.url, "/v1/usage", headers=bearer(key))).json()["total"]


def document_in(folder: Path, simulator: str, **store: str) -> dict[str, Any]:
    """A configuration that keeps its state in `var` of a folder, which it makes."""
    (folder / "var").mkdir(parents=True)
    places = {
        "sql": f"sqlite:///{folder}/var/penstock.db",
        "journal": f"{folder}/var/journal",
        "objects": f"file:{folder}/var/objects",
    }
    return {**paid(simulator, PLAN), "store": {**places, **store}}


async def test_a_backup_of_a_running_gateway_restores_it(
    start: Start, simulator: Program, tmp_path: Path
) -> None:
    """A request that runs meanwhile has its row once; what came after the backup is gone."""
    folder = tmp_path / "gateway"
    document = document_in(folder, simulator.url)
    gateway = await asyncio.to_thread(start, document, folder=folder)
    key = await asyncio.to_thread(gateway.new_key, "k", plan="p")
    body = chat("Hello [[sim tokens=5]]", "chat")
    assert (await ask(gateway.url, CHAT, body, bearer(key))).status == 200
    await rows_when(gateway, 1)
    file_id = await asyncio.to_thread(upload, gateway, key)
    async with line(gateway.url) as connection:
        running = chat("Hello [[sim tokens=40 fault=hold:20]]", "chat", stream=True)
        await connection.send(request(CHAT, running, bearer(key)))
        assert (await connection.head()).status == 200
        await asyncio.to_thread(follow, shell("sqlite3.connect"), folder)
    assert (await ask(gateway.url, CHAT, body, bearer(key))).status == 200
    await asyncio.to_thread(until, lambda: gateway.in_flight() == 0, what="none in flight")
    await rows_when(gateway, 3)
    assert await asyncio.to_thread(gateway.stop) == 0

    await asyncio.to_thread(follow, shell("cp backup/penstock.db"), folder)
    again = await asyncio.to_thread(start, document, folder=folder)
    found = await rows_when(again, 2)
    assert sorted(row.ended for row in found) == ["completed", "lost"]
    assert (await usage(again, key))["requests"] == 2
    content = await ask(again.url, f"/v1/files/{file_id}/content", headers=bearer(key))
    assert (content.status, content.body) == (200, b"kept")
    assert (await ask(again.url, CHAT, body, bearer(key))).status == 200


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_backup_makes_the_same_gateway_in_an_empty_installation(
    request: pytest.FixtureRequest,
    start: Start,
    simulator: Program,
    redis_server: RedisServer,
    tmp_path: Path,
    database: str,
) -> None:
    """Keys, usage and files are those of the backup; spend windows come from the ledger."""
    programs: list[Path] = []
    variables: list[dict[str, str]] = [{}, {}]
    store = {"counters": redis_server.url(), "counters_timeout": "5s"}
    lines = "sqlite3.connect", "cp backup/penstock.db"
    if database == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        programs.append(postgres.programs)
        variables = [{"DATABASE_URL": await postgres.new_database()} for _ in range(2)]
        await migrate(variables[0]["DATABASE_URL"])
        lines = "--file=backup/penstock.dump", '--dbname="$DATABASE_URL"'
    old, new = (tmp_path / name for name in ("old", "new"))
    documents = [
        document_in(folder, simulator.url, **store, **({"sql": sql} if sql else {}))
        for folder, sql in zip(
            (old, new), [one.get("DATABASE_URL") for one in variables], strict=True
        )
    ]
    gateway = await asyncio.to_thread(start, documents[0], folder=old)
    key = await asyncio.to_thread(gateway.new_key, "k", plan="p")
    for tokens in (5, 70):
        body = chat(f"Hello [[sim tokens={tokens}]]", "chat")
        assert (await ask(gateway.url, CHAT, body, bearer(key))).status == 200
    await rows_when(gateway, 2)
    file_id = await asyncio.to_thread(upload, gateway, key)
    before = await usage(gateway, key), await standing(gateway, key)
    assert before[0]["requests"] == 2 and before[1].used > 0
    await asyncio.to_thread(follow, shell(lines[0]), old, *programs, **variables[0])
    assert await asyncio.to_thread(gateway.stop) == 0
    redis_server.flush()

    (old / "backup").rename(new / "backup")
    (new / "penstock.json").write_text(json.dumps(documents[1]))
    await asyncio.to_thread(follow, shell(lines[1]), new, *programs, **variables[1])
    again = await asyncio.to_thread(start, documents[1], folder=new)
    assert (await usage(again, key), await standing(again, key)) == before
    content = await ask(again.url, f"/v1/files/{file_id}/content", headers=bearer(key))
    assert (content.status, content.body) == (200, b"kept")
    assert (await ask(again.url, CHAT, body, bearer(key))).status == 200
    assert (await ask(again.url, CHAT, body, bearer(f"{key[:-1]}_"))).status == 401
    await rows_when(again, 3)
