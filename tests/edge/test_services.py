"""Opening the services of a worker while Redis does not answer."""

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from edge.config.load import parse
from edge.services import open_services
from tests.middlewares.stores.sqlite_files import new_sqlite
from tests.waiting import DEADLINE

LINKS = 4
"""Of grants, counters, breakers and affinity."""


async def test_start_silent_redis_is_waited_for_by_all_at_once(tmp_path: Path) -> None:
    """One after the other took two seconds for each, in which a replaced worker did not listen."""
    seen: list[str] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("opened")
        with suppress(ConnectionError):
            await reader.read(-1)  # until they give up
        seen.append("closed")
        writer.close()

    path = tmp_path / "redis.sock"
    async with (
        asyncio.timeout(DEADLINE),
        await asyncio.start_unix_server(silent, str(path)),
        AsyncExitStack() as stack,
    ):
        document: dict[str, Any] = {
            "upstreams": [{"name": "near", "dialect": "simulator"}],
            "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
            "store": {
                "sql": new_sqlite(tmp_path / "penstock.db"),
                "journal": str(tmp_path / "journal"),
                "counters": f"unix://{path}",
            },
        }
        services = await open_services(parse(document, tmp_path), stack)
        assert services.counters.away  # type: ignore[attr-defined]
    assert seen[:LINKS] == ["opened"] * LINKS
