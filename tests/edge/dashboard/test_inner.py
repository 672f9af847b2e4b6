"""Requests of visitors through the chain: limited, charged and refused as those of the key."""

import json
from typing import Any

import msgspec
from starlette.responses import Response

from edge.dashboard.inner import InnerAnswer
from edge.dashboard.page import HOLDERS, Page
from edge.dashboard.pages import PAGES
from edge.dashboard.request import DashboardRequest
from edge.endpoints import BY_NAME
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import Entry
from tests.asgi import Recorded
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

from .visits import DOCUMENT, Browser, Site

ROW = BY_NAME["chat.completions"]
SAID = {
    "id": "c",
    "object": "chat.completion",
    "model": "m1",
    "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
}
ASKED = json.dumps({"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}).encode()


async def attempt(request: DashboardRequest) -> Response:
    """Send the body to Chat as the visitor's key."""
    body = await request.body(1 << 20, b"application/json")
    principal = await request.principal(await request.key(), ROW.name)
    assert request.parts.inner is not None
    return InnerAnswer(request.parts.inner, ROW, principal, body)


def chain(site: Site) -> ScriptedGateway:
    """The whole chain with the plans of the site; the site serves /app/attempt with it."""
    gateway = ScriptedGateway(
        Scripted(Answer(body=[json.dumps(SAID).encode()], headers=(JSON,))),
        document={
            "plans": DOCUMENT["plans"],
            "models": [{"id": "m1", "targets": ["both/x"], "price": {"input": "1", "output": "2"}}],
        },
    )
    page = Page("/app/attempt", ("POST",), HOLDERS, attempt)
    site.serve([*PAGES, page], inner=gateway.inner)
    return gateway


async def ask(browser: Browser) -> Recorded:
    return await browser.send("POST", "/app/attempt", ASKED, {"content-type": "application/json"})


async def test_answer_is_that_of_the_endpoint_and_is_charged_to_the_key(site: Site) -> None:
    gateway = chain(site)
    await gateway.ledger_writer.start()
    browser = await site.signed_in()
    answer = await ask(browser)
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert answer.header("x-credits-used") == "0.002"
    assert answer.header("cache-control") == "no-store"
    await gateway.ledger_writer.aclose()
    row = await gateway.ledger.get(site.key.id, str(answer.header("x-request-id")))
    assert row is not None
    assert (row.endpoint, row.model, row.cost) == ("chat.completions", "m1", 2_000_000)
    (sent,) = gateway.upstream.requests
    names = {name for name, _ in sent.headers}
    assert not names & {b"cookie", b"origin", b"sec-fetch-site"}
    assert site.secret.encode() not in b"".join(value for _, value in sent.headers)


async def test_exhausted_budget_refuses_as_for_any_request(site: Site) -> None:
    gateway = chain(site)
    at = site.clock() - 10
    used = Entry(
        id="req_1",
        account=site.key.id,
        at=at,
        ended_at=at,
        cost=5 * 10**9,
        starts={"5h": at, "7d": at},
    )
    await gateway.ledger.append([used])
    answer = await ask(await site.signed_in())
    assert answer.status == 429
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert gateway.upstream.requests == []


async def test_rate_is_taken_from_the_key(site: Site) -> None:
    chain(site)
    browser = await site.signed_in()
    statuses = [(await ask(browser)).status for _ in range(12)]
    assert statuses[:6] == [200] * 6  # 10,000 tokens a minute, 1,500 each
    assert 429 in statuses


async def _change(site: Site, **fields: Any) -> None:
    def change(key: Key) -> Key:
        return msgspec.structs.replace(key, **fields)

    await site.keys.update(site.key.id, change)
    await site.directory.refresh()


async def test_endpoint_that_the_key_may_not_call_is_refused(site: Site) -> None:
    gateway = chain(site)
    browser = await site.signed_in()
    await _change(site, endpoints=("embeddings",))
    assert (await ask(browser)).status == 403
    assert gateway.upstream.requests == []


async def test_model_that_the_key_may_not_use_is_refused(site: Site) -> None:
    gateway = chain(site)
    browser = await site.signed_in()
    await _change(site, models=("only-oai",))
    assert (await ask(browser)).status in (403, 404)
    assert gateway.upstream.requests == []


async def test_revoked_key_sends_nothing(site: Site) -> None:
    gateway = chain(site)
    browser = await site.signed_in()
    await _change(site, revoked_at=1.0)
    assert (await ask(browser)).status == 303
    assert gateway.upstream.requests == []


async def test_request_of_another_site_sends_nothing(site: Site) -> None:
    gateway = chain(site)
    browser = await site.signed_in()
    browser.fetch_site = "cross-site"
    assert (await ask(browser)).status == 403
    assert gateway.upstream.requests == []
