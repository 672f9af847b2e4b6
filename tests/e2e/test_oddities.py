"""Each oddity of upstreams over every surface: what the caller sees, who is asked, what is paid."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
import pytest

from .answers import HIDDEN, USAGE, answer, read
from .conftest import SECRETS
from .faults import SHOWN
from .oddities import HELLO, ODDITIES, STOPS, Oddity, body, stream
from .program import Gateway
from .scripted_upstream import Answer, ScriptedUpstream, scripted_upstream
from .surfaces import SURFACES, Surface, Wish
from .wire import Reply, line, request

SECOND = "Second."
DIALECT = {
    "chat": "openai",
    "messages": "anthropic",
    "responses": "responses",
    "embeddings": "openai",
}
EMBEDDINGS = Surface(
    "/v1/embeddings", "chat", lambda text, model, _stream, _wish: {"model": model, "input": text}
)
PRICE = {"input": "1.00", "output": "2.00", "cache_read": "0.10", "cache_write": "1.25"}
AT_ONCE = 32


class Case(NamedTuple):
    """One request. n: the number of its model, `mN`; its upstream calls it `vendor-secret-N`."""

    n: int
    oddity: Oddity
    surface: str
    streamed: bool
    second: bool

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "plain"
        help_ = "with a second target" if self.second else "alone"
        return f"{self.oddity.name}: {self.surface} over {self.oddity.wire}, {form}, {help_}"


def _cases() -> Iterator[Case]:
    n = 0
    for oddity in ODDITIES:
        surfaces = oddity.surfaces or tuple(SURFACES)
        for surface in ("embeddings",) if oddity.wire == "embeddings" else surfaces:
            for streamed, given in ((False, oddity.plain), (True, oddity.stream)):
                if given is not None:
                    for second in (False, True) if oddity.whole is None else (False,):
                        yield Case(n, oddity, surface, streamed, second)
                        n += 1


CASES = list(_cases())


def _script(case: Case) -> list[Answer]:
    given = case.oddity.stream if case.streamed else case.oddity.plain
    assert given is not None
    return [given] if case.oddity.first is None else [case.oddity.first, given]


def _second(case: Case) -> list[Answer]:
    made = answer(case.oddity.wire, SECOND)
    return [stream(case.oddity.wire, *made.events) if case.streamed else body(made.body)]


def _document(url: str) -> dict[str, Any]:
    upstreams = [
        {"name": f"{name}-{dialect}", "dialect": dialect, "base_url": url, "api_key": "k"}
        for dialect in ("openai", "anthropic", "responses")
        for name in ("first", "second")
    ]
    models = []
    for case in CASES:
        dialect = DIALECT[case.oddity.wire]
        targets = [f"first-{dialect}/{HIDDEN}-{case.n}"]
        if case.second:
            targets.append(f"second-{dialect}/second-{case.n}")
        models.append({"id": f"m{case.n}", "targets": targets, "price": PRICE, "context": 200_000})
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "affinity": {"ttl": 0},
        "upstreams": upstreams,
        "models": models,
        "log": {"requests": False},
    }


class Deployment(NamedTuple):
    gateway: Gateway
    upstream: ScriptedUpstream
    key: str


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    scripts = {f"{HIDDEN}-{case.n}": _script(case) for case in CASES}
    scripts |= {f"second-{case.n}": _second(case) for case in CASES if case.second}
    with scripted_upstream(scripts) as upstream:
        gateway = Gateway(tmp_path_factory.mktemp("oddities"), _document(upstream.url), env=SECRETS)
        try:
            yield Deployment(gateway, upstream, gateway.new_key("oddities"))
        finally:
            assert gateway.stop() == 0, gateway.stderr


class Seen(NamedTuple):
    """A case with its reply and its record."""

    case: Case
    reply: Reply
    row: dict[str, Any]
    asked: tuple[int, int]


async def _played(deployment: Deployment, cases: list[Case]) -> list[Seen]:
    room = asyncio.Semaphore(AT_ONCE)
    headers = {"authorization": f"Bearer {deployment.key}"}

    async def one(case: Case) -> Reply:
        by = EMBEDDINGS if case.surface == "embeddings" else SURFACES[case.surface]
        wish = Wish(tools=bool(case.oddity.calls))
        asked = by.body("Say hello.", f"m{case.n}", case.streamed, wish)
        words = [word.encode() for word in HELLO if word in (case.oddity.cut or "")]
        async with room, line(deployment.gateway.url) as connection:
            await connection.send(request(by.path, asked, {**headers, **by.headers}))
            reply = await connection.head()
            async for part in connection.parts(reply):
                reply.body += part
                if words and all(word in reply.body for word in words):
                    deployment.upstream.release(f"{HIDDEN}-{case.n}")
        return reply

    replies = await asyncio.gather(*map(one, cases))
    seen = []
    async with httpx.AsyncClient(base_url=deployment.gateway.url, headers=headers) as client:
        for case, reply in zip(cases, replies, strict=True):
            reported = await client.get(f"/v1/requests/{reply.header('x-request-id')}")
            assert reported.status_code == 200, reported.text
            asked = deployment.upstream.asked
            calls = (len(asked[f"{HIDDEN}-{case.n}"]), len(asked[f"second-{case.n}"]))
            seen.append(Seen(case, reply, reported.json(), calls))
    return seen


def _check(seen: Seen) -> None:
    case, reply, _, asked = seen
    oddity = case.oddity
    assert reply.whole
    shown = reply.head + reply.body
    for secret in (HIDDEN, "10.0.0.5", "first-", "second-", "127.0.0.1", "content-encoding"):
        assert secret.encode() not in shown, secret
    if oddity.refuses is not None:
        assert asked == (1, 0)
        _check_error(seen, oddity.refuses)
    elif oddity.fails is None:
        assert asked == (1 if oddity.first is None else 2, 0)
        _check_said(seen)
    elif not case.second:
        assert asked == (1, 0)
        _check_error(seen, oddity.fails)
    else:
        assert asked == (1, 1)
        _check_second(seen)


def _check_error(seen: Seen, kind: Any) -> None:
    case, reply, row, _ = seen
    shown, messages = SHOWN[kind], case.surface == "messages"
    assert reply.status == (shown.messages_status if messages else shown.status)
    error = reply.error
    assert error["type"] == (shown.messages_type if messages else shown.type)
    if not messages:
        assert error["code"] == shown.code
    assert case.oddity.says in error["message"]
    if case.oddity.retry_after is not None:
        assert int(reply.header("retry-after")) >= case.oddity.retry_after
    assert row["ended"] == "failed"
    reported = case.oddity.plain is not None and b"usage" in case.oddity.plain.pieces[0]
    assert reported or Decimal(row["credits"]) == 0


def _check_said(seen: Seen) -> None:
    case, reply, row, _ = seen
    oddity = case.oddity
    assert reply.status == 200
    assert reply.header("content-type").startswith(
        "text/event-stream" if case.streamed else "application/json"
    )
    said = read(case.surface, reply.body, stream=case.streamed)
    if oddity.cut is not None:
        assert (said.text, said.whole) == (oddity.cut, False)
        assert said.error is not None
        assert row["ended"] == "cut"
        return
    assert said.text == oddity.whole
    assert said.error is None or not any(said.error.values())
    assert said.whole
    words = STOPS["chat" if case.surface == "completions" else case.surface]
    assert said.stop == words[oddity.stop]
    assert [(name, json.loads(arguments)) for name, arguments in said.calls] == list(oddity.calls)
    assert (row["ended"], row["status"]) == ("completed", 200)
    usage = row["usage"]
    assert row["measured"] is oddity.counted
    if oddity.counted:
        assert (usage["input_tokens"], usage["output_tokens"]) == (oddity.usage or USAGE)
    else:
        assert usage["input_tokens"] > 0
        assert usage["output_tokens"] == -(-len(said.text.encode()) // 4)


def _check_second(seen: Seen) -> None:
    case, reply, row, _ = seen
    assert reply.status == 200
    assert [one["problem"] for one in row["path"]] == [case.oddity.fails, None]
    if case.surface != "embeddings":
        said = read(case.surface, reply.body, stream=case.streamed)
        assert (said.text, said.whole, said.error) == (SECOND, True, None)
    assert row["ended"] == "completed"


@pytest.mark.parametrize("wire", ["chat", "messages", "responses", "embeddings"])
async def test_odd_upstream_of_each_dialect_amounts_to_what_the_table_says(
    deployment: Deployment, wire: str
) -> None:
    found = await _played(deployment, [case for case in CASES if case.oddity.wire == wire])
    wrong = []
    for seen in found:
        try:
            _check(seen)
        except (AssertionError, KeyError) as error:
            wrong.append(f"{seen.case}: {error!r:.300}\n{seen.reply.body[:600]!r}")
    assert found
    assert not wrong, f"{len(wrong)} of {len(found)}:\n" + "\n\n".join(wrong)
