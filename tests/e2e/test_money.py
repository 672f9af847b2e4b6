"""The ledger is what the upstreams used, token by token, at the prices of the configuration."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from middlewares.pricing import decimal
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import SECRETS, Figures, shared_store
from .ledger import FAR, KINDS, limits, paid, price, rows_when, used
from .program import Gateway, Program, quiet, until
from .surfaces import SURFACES, Wish
from .wire import line, request

pytestmark = pytest.mark.timeout(3600)

QUICK, FULL = 300, 20_000
AT_ONCE = 32
SAID = re.compile(rb"^: x-credits-used ([0-9.]+)$", re.MULTILINE)
PLAN = {
    "id": "drained",
    "on_hangup": "drain",
    "windows": [{"length": "5h", "credits": "1000000.00"}],
}
WAYS = [(surface, model) for surface in SURFACES for model in ("chat", "claude", "resp")]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A simulator whose sums are of this module alone."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("provider"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(params=["embedded", "shared"])
async def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, provider: Program
) -> AsyncIterator[Gateway]:
    """A gateway in whose ledger nothing is: by itself, or with Redis and PostgreSQL."""
    document = paid(provider.url, PLAN)
    if request.param == "shared":
        document["server"] = {"workers": 2}
        document["store"] = await shared_store(request)
    program = await asyncio.to_thread(Gateway, tmp_path, document, env=SECRETS)
    try:
        yield program
        assert await asyncio.to_thread(program.stop) == 0, program.stderr
    finally:
        program.kill()


class Order(msgspec.Struct, frozen=True):
    """One request: what is asked of whom, and when its client leaves, if it does.

    parts: of the body, after which it leaves; seconds: after which, whatever has come.
    fails: whether its upstream refuses it.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    parts: int = 0
    seconds: float = 0.0
    fails: bool = False


class Seen(msgspec.Struct):
    """What a client saw. stated: the cost that its answer stated."""

    order: Order
    request_id: str = ""
    status: int = 0
    whole: bool = False
    stated: str = ""


def orders(seed: int, number: int) -> Iterator[Order]:
    """All ways to ask, in every mixture of tokens; a fifth of the clients leave."""
    dice = random.Random(seed)
    for at in range(number):
        text = f"{dice.randbytes(dice.randint(2, 60)).hex()} "
        if at % 20 == 19:
            body: dict[str, Any] = {"model": "embed", "input": [text, text[:9]]}
            yield Order("/v1/embeddings", {}, body)
            continue
        surface, model = WAYS[at % len(WAYS)]
        by = SURFACES[surface]
        stream = bool(dice.getrandbits(1))
        tokens = dice.randint(1, 40)
        words = f"tokens={tokens} cached={dice.randint(0, 12)} written={dice.randint(0, 12)}"
        wish = Wish(
            tools=surface != "completions" and dice.random() < 0.2,
            thinking=surface != "completions" and dice.random() < 0.2,
            limit=dice.choice((None, 16, 20_000)),
        )
        if wish.tools:
            words += f" tools={dice.randint(1, 3)}"
        if wish.thinking:  # which needs more room than its budget
            wish = msgspec.structs.replace(wish, limit=20_000)
        fate = dice.random()
        parts, seconds, fails = 0, 0.0, False
        if fate < 0.1 and stream:
            words += " rate=100"
            parts = dice.randint(1, 10)
        elif fate < 0.2:
            words += dice.choice((" first=0.4", " fault=slow-headers:0.4"))
            seconds = dice.uniform(0.15, 0.3)  # a client is watched from 0.1 s on
        elif fate < 0.24:
            words += " fault=status:503"
            fails = True
        body = by.body(f"{text}[[sim {words}]]", model, stream, wish)
        yield Order(by.path, dict(by.headers), body, parts, seconds, fails)


async def place(deployment: Gateway, key: str, order: Order) -> Seen:
    """Ask, and read until the client leaves or the answer is over."""
    seen = Seen(order)
    headers = {"authorization": f"Bearer {key}", **order.headers}
    async with line(deployment.url) as connection:
        await connection.send(request(order.path, order.body, headers))
        if order.seconds:
            await asyncio.sleep(order.seconds)
            return seen
        reply = await connection.head()
        seen.request_id, seen.status = reply.header("x-request-id"), reply.status
        parts = 0
        async for part in connection.parts(reply):
            reply.body += part
            parts += 1
            if parts == order.parts:
                return seen
        seen.whole = reply.whole
        if reply.status == 200:
            if order.body.get("stream"):
                (said,) = SAID.findall(reply.body)
                seen.stated = said.decode()
            else:
                seen.stated = reply.header("x-credits-used")
        return seen


async def place_all(deployment: Gateway, key: str, todo: list[Order]) -> list[Seen]:
    """All of them, so many at once."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(order: Order) -> Seen:
        async with room:
            return await place(deployment, key, order)

    return await asyncio.gather(*map(one, todo))


def difference(
    before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], model: str
) -> dict[str, int]:
    old = before.get(f"far-{model}", {})
    return {kind: n - old.get(kind, 0) for kind, n in after.get(f"far-{model}", {}).items()}


async def test_the_ledger_is_what_the_upstreams_used(
    deployment: Gateway, provider: Program, full: bool, figures: Figures
) -> None:
    """BerriAI/litellm#31069, #9812, #11789, QuantumNous/new-api#4168, #7062: every kind of token,
    however it was asked for, whether a client left or not, to the nano-credit."""
    before = used(provider)
    key = await asyncio.to_thread(deployment.new_key, "k", plan="drained")
    todo = list(orders(20, FULL if full else QUICK))
    done = await place_all(deployment, key, todo)
    assert {seen.status for seen in done if seen.whole and not seen.order.fails} == {200}
    await asyncio.to_thread(until, lambda: quiet(deployment, provider), what="all heard out")
    after = used(provider)
    truth = {model: difference(before, after, model) for model in FAR}
    answers = sum(each["answers"] for each in truth.values())
    failed = sum(seen.order.fails for seen in done)
    assert answers + failed == len(todo)
    ledger = await rows_when(deployment, len(todo))

    ended = Counter(row.ended for row in ledger)
    assert set(ended) == {"completed", "drained", "failed"}
    assert ended["failed"] == failed
    assert all(row.measured == (row.ended != "failed") for row in ledger)
    assert all(row.cost == 0 for row in ledger if row.ended == "failed")
    for model in FAR:
        mine = [row for row in ledger if row.model == model and row.ended != "failed"]
        assert len(mine) == truth[model].pop("answers")
        assert {kind: sum(getattr(row, kind) for row in mine) for kind in KINDS} == truth[model]
        assert sum(row.cost for row in mine) == price(model, truth[model])
        assert all(row.cost == price(model, row.tokens) for row in mine)

    by_id = {row.id: row for row in ledger}
    shown = [seen for seen in done if seen.stated]
    assert len(shown) > len(todo) // 2
    assert all(seen.stated == decimal(by_id[seen.request_id].cost) for seen in shown)

    cost = sum(row.cost for row in ledger)
    standing = (await limits(deployment, key))["windows"][0]
    assert (standing["used"], standing["reserved"]) == (decimal(cost), "0.00")
    figures(f"{len(todo)} requests {dict(ended)}, {decimal(cost)} credits, no difference")


async def test_streamed_and_unstreamed_twins_cost_the_same(
    deployment: Gateway, provider: Program
) -> None:
    key = await asyncio.to_thread(deployment.new_key, "k", plan="drained")
    numbers = count()
    pairs: list[tuple[Seen, Seen]] = []
    for surface, model in WAYS:
        by = SURFACES[surface]
        for limit in (None, 16):
            text = f"twin {next(numbers)} [[sim tokens=17 cached=4 written=3]]"
            bodies = [by.body(text, model, stream, Wish(limit=limit)) for stream in (False, True)]
            twins = [
                await place(deployment, key, Order(by.path, dict(by.headers), b)) for b in bodies
            ]
            pairs.append((twins[0], twins[1]))
    ledger = {row.id: row for row in await rows_when(deployment, 2 * len(pairs))}
    assert len(pairs) == 24
    for plain, streamed in pairs:
        one, other = ledger[plain.request_id], ledger[streamed.request_id]
        assert one.cost > 0
        assert (one.stream, other.stream) == (False, True)
        assert (one.tokens, one.cost) == (other.tokens, other.cost)
        assert plain.stated == streamed.stated == decimal(one.cost)


async def test_no_key_is_kept_anywhere(deployment: Gateway, request: pytest.FixtureRequest) -> None:
    """BerriAI/litellm#18731, #31620: not in the journal, the ledger, Redis or the log; also not
    one that no caller has."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="drained")
    unknown = key[:-6] + "canary"
    body = SURFACES["chat"].body("Hello [[sim tokens=60 rate=30]]", "chat", True, Wish())
    running = asyncio.create_task(place(deployment, key, Order("/v1/chat/completions", {}, body)))
    assert (await place(deployment, unknown, Order("/v1/chat/completions", {}, body))).status == 401
    await asyncio.to_thread(until, lambda: deployment.in_flight() >= 1, what="a stream")
    while_running = _everything(deployment)
    assert (await running).status == 200
    written = [row.id for row in await rows_when(deployment, 1)]
    kept = while_running + _everything(deployment)
    if deployment.sql.startswith("postgresql"):
        kept += _all_of(request.getfixturevalue("redis_server"))
    assert written[0].encode() in kept  # it has been looked where rows are
    for secret in (key, unknown):
        bare = secret.rpartition("-")[2]
        assert bare.encode() not in kept
        assert secret.encode() not in kept


def _everything(deployment: Gateway) -> bytes:
    """All that the gateway's folder holds: database, journal, log."""
    files = [path for path in deployment.folder.rglob("*") if path.is_file()]
    assert any("journal" in str(path) for path in files)
    return b"".join(path.read_bytes() for path in files)


def _all_of(redis_server: RedisServer) -> bytes:
    """What Redis holds: the names of keys, and their contents as it dumps them."""
    with redis_server.client() as client:
        names: list[bytes] = list(client.scan_iter())
        assert names
        return b"".join(name + (client.dump(name) or b"") for name in names)


async def test_a_restart_knows_what_was_spent(deployment: Gateway, tmp_path: Path) -> None:
    """Also where counters are in memory, and are gone with their process."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="drained")
    todo = [order for order in orders(5, 20) if not (order.parts or order.seconds)]
    for order in todo:
        await place(deployment, key, order)
    spent = sum(row.cost for row in await rows_when(deployment, len(todo)))
    assert spent > 0
    assert await asyncio.to_thread(deployment.stop) == 0
    document = msgspec.json.decode(deployment.file.read_bytes())
    again = await asyncio.to_thread(Gateway, tmp_path, document, env=SECRETS)
    try:
        window = (await limits(again, key))["windows"][0]
        assert (window["used"], window["reserved"]) == (decimal(spent), "0.00")
        assert await asyncio.to_thread(again.stop) == 0
    finally:
        again.kill()
