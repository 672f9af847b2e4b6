"""Other processes: what one writes, every worker of every replica acts on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from middlewares.stores import digest, mint, prefix
from middlewares.stores.keys.sql import SqlKeyStore

from .samples import new_key

ROOT = Path(__file__).parents[3]

WORKER = """
import asyncio, sys
from middlewares import AuthMiddleware
from middlewares.stores import KeyDirectory
from middlewares.stores.keys.sql import Database, SqlKeyStore
from tests.asgi import request

async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def main():
    database = await Database.open(sys.argv[1])
    directory = KeyDirectory(SqlKeyStore(database))
    await directory.start()
    app = AuthMiddleware(inner, keys=directory)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        secret, wanted = line.split()
        async with asyncio.timeout(30):
            while True:  # traffic, as it is under way while the key changes
                status = (await request(app, headers={"x-api-key": secret})).status
                if status == int(wanted):
                    break
                await asyncio.sleep(0.005)
        print(status, flush=True)
    await directory.aclose()
    await database.aclose()

asyncio.run(main())
"""


class Worker:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answers(self, secret: str, status: int) -> bool:
        """Keep asking with `secret` until the answer has `status`; False when it never has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{secret} {status}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() == f"{status}\n"


@contextmanager
def worker(url: str) -> Iterator[Worker]:
    """A second process with its own directory over the same database."""
    command = [sys.executable, "-W", "error", "-c", WORKER, url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Worker(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()


async def test_what_is_written_here_is_in_force_in_a_worker(
    sql_url: str, sql_store: SqlKeyStore
) -> None:
    key, secret = new_key()
    with worker(sql_url) as other:
        assert other.answers(secret, 401)
        await sql_store.insert(key)
        assert other.answers(secret, 200)

        await sql_store.update(key.id, lambda key: msgspec.structs.replace(key, disabled=True))
        assert other.answers(secret, 401)
        await sql_store.update(key.id, lambda key: msgspec.structs.replace(key, disabled=False))
        assert other.answers(secret, 200)

        second = mint("Penstock")
        await sql_store.update(
            key.id,
            lambda key: msgspec.structs.replace(
                key,
                digest=digest(second),
                prefix=prefix(second),
                previous_digest=key.digest,
                previous_until=4e9,
            ),
        )
        assert other.answers(second, 200)
        assert other.answers(secret, 200)

        await sql_store.update(key.id, lambda key: msgspec.structs.replace(key, revoked_at=1.0))
        assert other.answers(second, 401)
        assert other.answers(secret, 401)
