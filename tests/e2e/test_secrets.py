"""Secrets are in no output of a gateway that has met every kind of trouble."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from .conftest import ADMIN_TOKEN, UPSTREAM_KEY, Start, over_http
from .program import Gateway, Program
from .wire import ANTHROPIC, CHAT, MESSAGES, Reply, ask, chat

TROUBLE = (
    "",
    "fault=status:400",
    "fault=status:401",
    "fault=status:429",
    "fault=status:500",
    "fault=cut:0",
    "tokens=20 rate=200 fault=cut:8",
    "tokens=20 rate=200 fault=error-event:8",
    "fault=html",
    "fault=overflow",
)


async def trouble(gateway: Gateway) -> list[Reply]:
    """Requests that go well, that go wrong, and that carry the key where it does not belong."""
    key = gateway.key
    carried = [
        {"authorization": f"Bearer {key}"},
        {"x-api-key": key},
        {"x-api-key": key, **ANTHROPIC},
    ]
    asked = [
        ask(gateway.url, path, chat(f"[[sim {words}]]", model, stream=stream), headers)
        for words in TROUBLE
        for path, model in ((CHAT, "chat"), (MESSAGES, "claude"), (CHAT, "sim-1"))
        for stream in (False, True)
        for headers in carried[:2]
    ]
    wrong = f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    asked += [
        ask(gateway.url, "/v1/models", None, {"authorization": f"Bearer {wrong}"}),
        ask(gateway.url, "/v1/models", None, {"authorization": f"Basic {key}"}),
        ask(gateway.url, "/v1/models", None, {"x-api-key": key, "authorization": "Bearer other"}),
        ask(gateway.url, f"/v1/models/{key}", None, carried[0]),
        ask(gateway.url, f"/v1/unknown?key={key}", {}, carried[2]),
        ask(gateway.url, f"/?key={key}", None, carried[0]),
        ask(gateway.url, "/metrics", None, carried[0]),
        ask(gateway.url, "/admin/v1/keys", None, {"authorization": f"Bearer {ADMIN_TOKEN}"}),
        ask(gateway.url, CHAT, b'{"model": "' + key.encode(), carried[0]),
        ask(gateway.url, CHAT, chat(model=key), carried[0]),
        ask(gateway.url, CHAT, None, {**carried[0], "content-encoding": key}, method="POST"),
        ask(gateway.url, CHAT, chat(), {**carried[0], "x-request-id": key, "cookie": key}),
    ]
    return list(await asyncio.gather(*asked))


@pytest.mark.parametrize(("level", "prefix"), [("info", "canary_"), ("debug", None)])
async def test_no_secret_leaves(
    start: Start, simulator: Program, level: str, prefix: str | None
) -> None:
    document = over_http(simulator.url)
    document["log"] = {"level": level}
    if prefix is not None:
        document["auth"] = {**document.get("auth", {}), "key_prefix": prefix}
    gateway = await asyncio.to_thread(start, document)
    replies = await trouble(gateway)
    assert {200, 400, 401, 403, 429, 502} <= {reply.status for reply in replies}
    metrics = gateway.get("/metrics").text
    assert metrics.count("penstock_requests_total{") > 5
    # The last line of the log is that of the last request.
    last = await ask(gateway.url, "/v1/models", None, gateway.bearer)
    await asyncio.to_thread(gateway.request_line, last.header("x-request-id"))
    assert gateway.stop() == 0
    said = {
        "log": gateway.stderr,
        "output": gateway.stdout,
        "metrics": metrics,
        "database": _everything_in(gateway.database),
        "answers": "\n".join(
            reply.head.decode("latin-1") + reply.body.decode("latin-1") for reply in replies
        ),
    }
    assert gateway.key.startswith(prefix or "sk-")
    key_of_ours = gateway.key[-43:]
    for place, text in said.items():
        for secret in (UPSTREAM_KEY, ADMIN_TOKEN, key_of_ours, key_of_ours[10:40]):
            if place == "answers":  # as a model's name it is said back to who asked for it
                text = text.replace(f"`{gateway.key}`", "")
            assert secret not in text, (place, text[max(0, text.find(secret) - 200) :][:300])


def _everything_in(database: Path) -> str:
    """Every byte of the files of a database, and every value it gives out."""
    files = sorted(database.parent.glob(f"{database.name}*"))
    text = "".join(path.read_bytes().decode("latin-1") for path in files)
    with sqlite3.connect(database) as connection:
        tables = connection.execute("select name from sqlite_master where type = 'table'")
        names = [name for (name,) in tables.fetchall()]
        assert "keys" in " ".join(names)
        for name in names:
            text += repr(connection.execute(f'select * from "{name}"').fetchall())
    connection.close()
    return text
