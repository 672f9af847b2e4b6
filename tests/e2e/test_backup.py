"""Back-up and restore, by the lines of docs/operations.md."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.pages import block, page

from .conftest import SECRETS, Start
from .ledger import paid, rows_when
from .program import DEADLINE, Gateway, Program, until
from .wire import CHAT, ask, bearer, chat, line, request


def shell(containing: str) -> str:
    """The page's block of shell lines with a text."""
    return block(page("docs/operations.md"), "sh", containing)


def follow(lines: str, folder: Path) -> None:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {**os.environ, **SECRETS, "PATH": path}
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


async def spent(gateway: Gateway, key: str) -> Any:
    return (await ask(gateway.url, "/v1/usage", headers=bearer(key))).json()["total"]["requests"]


async def test_a_backup_of_a_running_gateway_restores_it(
    start: Start, simulator: Program, tmp_path: Path
) -> None:
    """A request that runs meanwhile has its row once; what came after the backup is gone."""
    document = paid(simulator.url)
    folder = tmp_path / "gateway"
    (folder / "var").mkdir(parents=True)
    document["store"] = {
        "sql": f"sqlite:///{folder}/var/penstock.db",
        "journal": f"{folder}/var/journal",
    }
    gateway = await asyncio.to_thread(start, document, folder=folder)
    key = await asyncio.to_thread(gateway.new_key, "k")
    body = chat("Hello [[sim tokens=5]]", "chat")
    assert (await ask(gateway.url, CHAT, body, bearer(key))).status == 200
    await rows_when(gateway, 1)
    file_id = await asyncio.to_thread(upload, gateway, key)
    async with line(gateway.url) as connection:
        running = chat("Hello [[sim tokens=40 fault=hold:20]]", "chat", stream=True)
        await connection.send(request(CHAT, running, bearer(key)))
        assert (await connection.head()).status == 200
        await asyncio.to_thread(follow, shell("cp -a var/journal backup"), folder)
    assert (await ask(gateway.url, CHAT, body, bearer(key))).status == 200
    await asyncio.to_thread(until, lambda: gateway.in_flight() == 0, what="none in flight")
    await rows_when(gateway, 3)
    assert await asyncio.to_thread(gateway.stop) == 0

    await asyncio.to_thread(follow, shell("cp -a backup/journal var"), folder)
    again = await asyncio.to_thread(start, document, folder=folder)
    found = await rows_when(again, 2)
    assert sorted(row.ended for row in found) == ["completed", "lost"]
    assert await spent(again, key) == 2
    content = await ask(again.url, f"/v1/files/{file_id}/content", headers=bearer(key))
    assert (content.status, content.body) == (200, b"kept")
    assert (await ask(again.url, CHAT, body, bearer(key))).status == 200
