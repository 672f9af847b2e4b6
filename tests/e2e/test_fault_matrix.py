"""Every fault times every pair of dialects, streamed and not: what the caller sees, what is paid.

`faults` has the table of what is expected. Each request has a model of its own, so that the
simulator's counts and the breakers are of that request alone.
"""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
import pytest

from edge.upstreams.simulator import SECRETS as HIDDEN
from tests.schemas import check, check_stream, summary

from .conftest import SECRETS
from .faults import (
    AFTER,
    BEFORE,
    PRICES,
    PROMPT,
    SHOWN,
    WHOLE,
    Fault,
    Kind,
    Played,
    bad_places,
    rows,
)
from .ledger import KINDS
from .program import DEADLINE, Gateway, Program, release
from .surfaces import SURFACES, Wish
from .wire import Reply, ask, events, read_on, text_of

DIALECTS = ("openai", "anthropic", "responses")
WAYS = [
    *((s, d, "native") for s in SURFACES for d in DIALECTS if s != "completions" or d == "openai"),
    ("chat", "openai", "httpx"),
]
"""Surface, dialect of the upstream, transport."""
DEARER = {"input": "3.001", "output": "15.007", "cache_read": "0.303", "cache_write": "3.751"}
AT_ONCE = 32

Help = Literal["alone", "target", "model"]
"""What else there is: nothing, another target of the model, another model."""


class Case(NamedTuple):
    """One request. n: the number of its model, `mN`; `sN` is the other model.

    full: only at full size (`--full`): each fault with each pair and with each help is met without,
    but not all of them with all.
    """

    n: int
    fault: Fault
    surface: str
    dialect: str
    transport: str
    stream: bool
    help: Help
    full: bool

    @property
    def kind(self) -> Kind:
        kind = self.fault.stream if self.stream else self.fault.plain
        assert kind is not None
        return kind


def _cases() -> Iterator[Case]:
    n = 0
    for fault in (*BEFORE, *AFTER):
        turn = 0
        for surface, dialect, transport in WAYS:
            for stream in (False, True):
                if (fault.stream if stream else fault.plain) is None:
                    continue
                helps: tuple[Help, ...] = ("alone", "target", "model")
                if not fault.elsewhere or fault in AFTER or "overlong" in fault.words:
                    helps = ("target",)  # for the last is a lot to send
                for number, help_ in enumerate(helps):
                    full = number != turn % len(helps)
                    yield Case(n, fault, surface, dialect, transport, stream, help_, full)
                    n += 1
                turn += 1


CASES = list(_cases())
OTHER = dict(zip(DIALECTS, (*DIALECTS[1:], DIALECTS[0]), strict=True))
"""The dialect of the other model's upstream."""


def _document(places: dict[Played, str]) -> dict[str, Any]:
    """An upstream for each fault and dialect, a model for each case."""
    names = {fault: f"far-{n}" for n, fault in enumerate((*BEFORE, *AFTER))}
    upstreams = [
        {
            "name": f"{name}-{dialect}-{transport}",
            "dialect": dialect,
            "transport": transport,
            "base_url": f"{places[fault.played]}/v1",
            "headers": {"x-sim": fault.words} if fault.words else {},
            **fault.limits,
        }
        for fault, name in names.items()
        for dialect, transport in sorted({way[1:] for way in WAYS})
    ]
    upstreams += [
        {"name": f"near-{dialect}", "dialect": dialect, "base_url": f"{places['simulator']}/v1"}
        for dialect in DIALECTS
    ]
    models: list[dict[str, Any]] = []
    for n, fault, _, dialect, transport, _, help_, _ in CASES:
        targets = [f"{names[fault]}-{dialect}-{transport}/upbad-{n}"]
        if help_ == "target":
            targets.append(f"near-{dialect}/upgood-{n}")
        model = {"id": f"m{n}", "targets": targets, "price": PRICES}
        if help_ == "model":
            model["fallbacks"] = [f"s{n}"]
            other = {"id": f"s{n}", "targets": [f"near-{OTHER[dialect]}/upgood-{n}"]}
            models.append({**other, "price": DEARER})
        models.append(model)
    auth = {"admin_token": "env:ADMIN_TOKEN"}
    log = {"requests": False}
    return {"auth": auth, "upstreams": upstreams, "models": models, "log": log}


class Deployment(NamedTuple):
    gateway: Gateway
    simulator: Program
    key: str
    room: asyncio.Semaphore
    full: bool

    def cases(self, fault: Fault) -> list[Case]:
        return [case for case in CASES if case.fault is fault and (self.full or not case.full)]


@pytest.fixture(scope="module")
def gateway_and_sql(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[tuple[Gateway, str]]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    with bad_places(simulator.url) as places:
        gateway = Gateway(folder, _document(dict(places)), env=SECRETS)
        try:
            yield gateway, gateway.new_key("matrix")
        finally:
            assert gateway.stop() == 0, gateway.stderr


@pytest.fixture
def deployment(gateway_and_sql: tuple[Gateway, str], simulator: Program, full: bool) -> Deployment:
    return Deployment(
        *gateway_and_sql[:1], simulator, gateway_and_sql[1], asyncio.Semaphore(AT_ONCE), full
    )


class Seen(NamedTuple):
    """What became of a case."""

    case: Case
    reply: Reply
    row: dict[str, Any]


async def played(deployment: Deployment, cases: list[Case]) -> list[Seen]:
    """Ask all of them, some at once; then what the ledger has of each."""
    headers = {"authorization": f"Bearer {deployment.key}"}
    held = [case for case in cases if case.stream and "hold" in case.fault.words]
    all_have_begun = asyncio.Barrier(max(1, len(held)))
    assert len(held) <= AT_ONCE

    async def begun() -> None:
        if await all_have_begun.wait() == 0 and "," in held[0].fault.words:
            await asyncio.to_thread(release, deployment.simulator)

    async def one(case: Case) -> Reply:
        by = SURFACES[case.surface]
        body = by.body(PROMPT, f"m{case.n}", case.stream, Wish())
        sent = {**headers, **by.headers}
        url = deployment.gateway.url
        async with deployment.room:
            if case in held:
                reply = await read_on(url, by.path, body, sent, until=b'"You"', then=begun)
            else:
                reply = await ask(url, by.path, body, sent)
        shown = reply.head + reply.body
        hidden = (*HIDDEN, "upbad-", "upgood-", "far-", "near-", "127.0.0.1")
        assert not [secret for secret in hidden if secret.encode() in shown], shown
        assert reply.whole
        return reply

    replies = await asyncio.gather(*map(one, cases))
    async with httpx.AsyncClient(base_url=deployment.gateway.url, headers=headers) as client:
        found = []
        for case, reply in zip(cases, replies, strict=True):
            reported = await client.get(f"/v1/requests/{reply.header('x-request-id')}")
            assert reported.status_code == 200, reported.text
            found.append(Seen(case, reply, reported.json()))
    return found


async def stats(deployment: Deployment) -> dict[str, dict[str, int]]:
    """By model there: requests, and the reported tokens, once all are over."""
    async with asyncio.timeout(DEADLINE):
        while (reported := (await ask(deployment.simulator.url, "/stats")).json())["running"]:
            await asyncio.sleep(0.02)
    seen: dict[str, dict[str, int]] = reported["seen"]
    return seen


NOTHING = {"requests": 0, **dict.fromkeys(KINDS, 0)}


def price(tokens: dict[str, int], prices: dict[str, str]) -> Decimal:
    return sum((Decimal(prices[kind]) * tokens[kind] for kind in KINDS), Decimal()) / 10**6


def check_error(case: Case, reply: Reply) -> None:
    """The status and envelope of the kind that is expected, in the caller's dialect."""
    shown, messages = SHOWN[case.kind], case.surface == "messages"
    assert reply.status == (shown.messages_status if messages else shown.status)
    assert reply.header("content-type") == "application/json"
    check("anthropic.error" if messages else "openai.error", reply.json())
    check_kind(case, reply.error)
    if case.fault.retry_after is not None:
        assert reply.header("retry-after") == str(case.fault.retry_after)


def check_kind(case: Case, error: dict[str, Any]) -> None:
    shown = SHOWN[case.kind]
    if case.surface == "messages":
        assert error["type"] == shown.messages_type
    else:
        assert (error["type"], error["code"]) == (shown.type, shown.code)


def check_answer(case: Case, reply: Reply) -> None:
    """One answer, whole and once, and who has given it."""
    assert reply.status == 200
    dialect = SURFACES[case.surface].dialect
    if case.stream:
        usage = True if dialect[0] == "c" else None
        said = check_stream(dialect, reply.body, include_usage=usage)
    else:
        said = summary(dialect, reply.body)
        assert reply.json()["model"] == f"m{case.n}"  # as asked, whichever model answered
    assert (said.text, said.stop, said.others) == (WHOLE, "end", ())
    headers = dict(reply.headers)
    if case.help == "model":
        assert headers["x-model-used"] == f"s{case.n}"
        assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == (f"m{case.n}", "1")
    else:
        assert headers["x-model-used"] == f"m{case.n}"
        assert "x-fallback-from" not in headers
        assert "x-fallback-depth" not in headers


def check_paid(seen: Seen, bad: dict[str, int], good: dict[str, int]) -> None:
    """The row has what the simulator says that it has reported, of each attempt by its price."""
    usage, case = seen.row["usage"], seen.case
    for kind in KINDS:
        assert usage[f"{kind}_tokens"] == bad[kind] + good[kind], kind
    paid = price(bad, PRICES) + price(good, DEARER if case.help == "model" else PRICES)
    assert Decimal(seen.row["credits"]) == paid
    assert bool(bad["input"]) == (case.fault.tells and case.stream and case.dialect == "anthropic")


def ids(fault: Fault) -> str:
    return fault.name


def check_all(found: list[Seen], right: Callable[[Seen], None]) -> None:
    """Every case is looked at, so that a failure shows where else it is one."""
    wrong = []
    for seen in found:
        try:
            right(seen)
        except AssertionError as error:
            case = seen.case
            kind = "streamed" if case.stream else "plain"
            way = f"{case.surface} over {case.dialect} ({case.transport}), {kind}, {case.help}"
            wrong.append(f"{way}: {error}\n{seen.reply}\n{seen.row}")
    assert not wrong, f"{len(wrong)} of {len(found)}:\n" + "\n\n".join(wrong)


@pytest.mark.parametrize("fault", BEFORE, ids=ids)
async def test_before_the_content(deployment: Deployment, fault: Fault) -> None:
    """Alone an error, with help one whole answer; one attempt each, billed by reported usage."""
    found = await played(deployment, deployment.cases(fault))
    reported = await stats(deployment)

    def right(seen: Seen) -> None:
        case, reply, row = seen
        bad = reported.get(f"upbad-{case.n}", NOTHING)
        good = reported.get(f"upgood-{case.n}", NOTHING)
        bad = {**bad, "output": 0}  # in `message_start` it is only a beginning, and not believed
        assert bad["requests"] == (fault.played == "simulator")
        problems = [one["problem"] for one in row["path"]]
        if case.help == "alone" or not fault.elsewhere:
            check_error(case, reply)
            assert good["requests"] == 0
            assert problems == [case.kind]
            assert (row["ended"], row["status"]) == ("failed", reply.status)
        else:
            check_answer(case, reply)
            assert good["requests"] == 1
            assert problems == [case.kind, None]
            check_record(seen)
        check_paid(seen, bad, good)

    check_all(found, right)


def check_record(seen: Seen) -> None:
    """That it was asked for one model, and who has served it."""
    case, reply, row = seen
    asked = f"m{case.n}"
    served = f"s{case.n}" if case.help == "model" else asked
    assert [one["model"] for one in row["path"]] == [asked, served]
    assert (row["model"], row["asked"]) == (served, asked)
    assert row["fallback_from"] == (asked if served != asked else None)
    assert (row["ended"], row["status"], row["measured"]) == ("completed", 200, True)
    assert row["usage"]["output_tokens"] > 0
    if not case.stream:
        assert Decimal(reply.header("x-credits-used")) == Decimal(row["credits"])


@pytest.mark.parametrize("fault", AFTER, ids=ids)
async def test_after_content(deployment: Deployment, fault: Fault) -> None:
    """What was said stays, once; then one error event, and the other target is not tried."""
    found = await played(deployment, deployment.cases(fault))
    reported = await stats(deployment)

    def right(seen: Seen) -> None:
        case, reply, row = seen
        assert reply.status == 200
        check_stream(SURFACES[case.surface].dialect, reply.body, error=True)
        said = text_of(reply.body)
        assert said
        assert WHOLE.startswith(said)
        assert said != WHOLE
        check_event(case, reply.body)
        assert reported[f"upbad-{case.n}"]["requests"] == 1
        assert f"upgood-{case.n}" not in reported
        assert (row["ended"], row["status"], row["measured"]) == ("cut", 200, False)
        assert [one["problem"] for one in row["path"]] == [case.kind]

    check_all(found, right)
    if "fault" in fault.words:  # as far as the upstream came, for any caller
        for dialect in DIALECTS:
            assert len({text_of(x.reply.body) for x in found if x.case.dialect == dialect}) == 1


def check_event(case: Case, body: bytes) -> None:
    """The last event is the error; in Responses the last but one, and the last is the failure."""
    *_, before, last = events(body)
    if case.surface != "responses":
        return check_kind(case, last["error"])
    assert last["response"]["status"] == "failed"
    code = "server_is_overloaded" if case.kind == "upstream_unavailable" else case.kind
    assert (before["type"], before["code"]) == ("error", code)
    assert before["message"] == last["response"]["error"]["message"]


def test_the_page_for_operators_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/resilience.md").read_text()
    table = page.partition("\n## Faults\n")[2].partition("\n## ")[0]
    written = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert written == list(rows()), "\n".join(rows())
