"""The playground's pages: the form, the curl line, and whose key is used."""

import html
from typing import Any

import pytest

from edge.dashboard.pages import PAGES
from edge.management import keys as management
from middlewares.asgi import Receive, Scope, Send, send_json
from middlewares.exchange import exchange_of
from middlewares.stores.audit.base import AuditChange, MemoryAuditStore
from middlewares.stores.errors import StoreUnavailable
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.pages.admin.administrator import ACTOR, administrator
from tests.edge.dashboard.visits import PREFIXES, Site

PROMPT: dict[str, Any] = {
    "model": "m1",
    "dialect": "messages",
    "user": "<b>Hello</b> it's me",
    "system": "",
}
PLAIN = {"accept": "text/plain", "hx-request": "true"}


async def test_form_offers_the_models_of_the_key(site: Site) -> None:
    page = await (await site.signed_in()).get("/app/playground?model=m1")
    assert page.status == 200
    assert '<option value="m1">' in page.text
    assert "Ann&#39;s key" in page.text
    assert site.secret not in page.text


async def test_curl_line_is_text_for_the_script_and_on_a_page_without(site: Site) -> None:
    browser = await site.signed_in()
    line = await browser.post("/app/playground/curl", PLAIN, **PROMPT)
    assert line.header("content-type") == "text/plain; charset=utf-8"
    assert line.text.startswith("curl -N http://localhost:8080/v1/messages")
    page = await browser.post("/app/playground/curl", **PROMPT)
    assert line.text.rstrip() in html.unescape(page.text)
    assert "<b>Hello" not in page.text


@pytest.mark.parametrize("path", ["/app/playground", "/app/playground/curl"])
async def test_field_that_cannot_be_sent_is_refused(site: Site, path: str) -> None:
    page = await (await site.signed_in()).post(path, **{**PROMPT, "max_tokens": "0"})
    assert page.status == 400
    assert "max_tokens" in page.text


@pytest.mark.parametrize("path", ["/app/playground", "/app/playground/curl"])
async def test_form_of_another_site_sends_nothing(site: Site, path: str) -> None:
    browser = await site.signed_in()
    browser.fetch_site = "cross-site"
    assert (await browser.post(path, **PROMPT)).status == 403


async def test_key_of_another_owner_is_not_there(site: Site) -> None:
    other, _ = await management.create(
        site.keys, PREFIXES, now=site.clock(), name="other", owner="bob"
    )
    browser = await site.signed_in()
    for key_id in (other.id, "key_nothing"):
        answer = await browser.post(f"/app/playground?key={key_id}", **PROMPT)
        assert answer.status == 404
        assert "There is no such key." in answer.text


async def test_chain_gets_the_request_of_the_key_without_cookies(open_site: OpenSite) -> None:
    seen: list[tuple[Scope, bytes]] = []

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, (await receive())["body"]))
        await send_json(scope, send, b'{"content":[{"text":"<i>Hi</i>"}]}')

    site = await open_site(inner=chain)
    page = await (await site.signed_in()).post("/app/playground", **PROMPT)
    assert page.status == 200
    assert "&lt;i&gt;Hi&lt;/i&gt;" in page.text
    ((scope, body),) = seen
    exchange = exchange_of(scope)
    assert exchange.principal is not None and exchange.principal.id == site.key.id
    assert (exchange.endpoint, exchange.dialect) == ("messages", "anthropic")
    assert {name for name, _ in scope["headers"]} == {
        *(b"content-type", b"content-length", b"anthropic-version"),
    }
    assert b"stream" not in body


async def test_text_of_twenty_thousand_characters_fits_in_any_script(site: Site) -> None:
    browser = await site.signed_in()
    line = await browser.post(
        "/app/playground/curl", PLAIN, **{**PROMPT, "user": "\u6c34" * 20_000}
    )
    assert line.status == 200
    assert line.text.count("\u6c34") == 20_000
    page = await browser.post("/app/playground/curl", **{**PROMPT, "user": "\u6c34" * 40_000})
    assert page.status == 413


class NoAudit(MemoryAuditStore):
    """An audit that cannot be written."""

    async def note(self, change: AuditChange) -> None:
        raise StoreUnavailable("away")


async def _answering(open_site: OpenSite, **parts: Any) -> tuple[Site, list[str]]:
    """A site whose chain answers, and the ids of the keys that it was asked with."""
    asked: list[str] = []

    async def chain(scope: Scope, receive: Receive, send: Send) -> None:
        principal = exchange_of(scope).principal
        asked.append("" if principal is None else principal.id)
        await send_json(scope, send, b'{"content":[{"text":"Hi"}]}')

    return await open_site(inner=chain, **parts), asked


async def test_administrator_leaves_a_row_for_each_request_with_a_key_of_others(
    open_site: OpenSite,
) -> None:
    site, asked = await _answering(open_site)
    browser = await administrator(site)
    for accept in ("text/html", "text/event-stream"):
        await browser.post(f"/app/playground?key={site.key.id}", {"accept": accept}, **PROMPT)
    await browser.post(f"/app/playground/curl?key={site.key.id}", **PROMPT)
    await browser.get(f"/app/playground?key={site.key.id}")
    refused = await browser.post(f"/app/playground?key={site.key.id}", **{**PROMPT, "user": ""})
    assert refused.status == 400
    rows = await site.parts.audit.page()
    assert asked == [site.key.id] * 2
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        (ACTOR, "playground.use", site.key.id)
    ] * 2
    assert len({row.detail["request"] for row in rows}) == 2


async def test_request_with_a_key_of_others_that_cannot_be_noted_is_not_made(
    open_site: OpenSite,
) -> None:
    site, asked = await _answering(open_site)
    site.serve(PAGES, audit=NoAudit())
    browser = await administrator(site)
    answer = await browser.post(f"/app/playground?key={site.key.id}", **PROMPT)
    assert (answer.status, asked) == (503, [])


async def test_holder_leaves_no_row(open_site: OpenSite) -> None:
    site, asked = await _answering(open_site)
    assert (await (await site.signed_in()).post("/app/playground", **PROMPT)).status == 200
    assert asked == [site.key.id]
    assert not await site.parts.audit.page()


async def test_key_that_may_do_more_than_the_one_signed_in_with_is_not_spent(
    open_site: OpenSite,
) -> None:
    site, asked = await _answering(open_site, dashboard={"self_service": True})
    narrow, secret = await management.create(
        site.keys,
        PREFIXES,
        now=site.clock(),
        name="narrow",
        owner="ann",
        plan="gold",
        limits={"concurrency": 1},
    )
    await site.directory.refresh()
    browser = await site.signed_in(secret)
    wide = f"/app/playground?key={site.key.id}"
    assert (await browser.post(wide, **PROMPT)).status == 403
    form = await browser.get(wide)
    assert "sign in with it" in form.text and "<textarea" not in form.text
    assert asked == []
    wider = await site.signed_in()
    assert (await wider.post(f"/app/playground?key={narrow.id}", **PROMPT)).status == 200
    assert asked == [narrow.id]


async def test_form_has_only_the_dialects_that_are_offered(open_site: OpenSite) -> None:
    site = await open_site(endpoints=["messages", "models"])
    browser = await site.signed_in()
    page = (await browser.get("/app/playground")).text
    assert [each for each in ("chat", "messages", "responses") if f'value="{each}"' in page] == [
        "messages"
    ]
    for path in ("/app/playground", "/app/playground/curl"):
        refused = await browser.post(path, PLAIN, **{**PROMPT, "dialect": "chat"})
        assert refused.status == 400 and "one of messages" in refused.text


async def test_curl_line_goes_where_its_dialect_is_spoken(open_site: OpenSite) -> None:
    routes = [
        {"path": "/v1/chat/completions", "dialect": "anthropic"},
        {"path": "/openai/v1/chat/completions", "dialect": "openai"},
    ]
    site = await open_site(routes=routes)
    browser = await site.signed_in()
    line = await browser.post("/app/playground/curl", PLAIN, **{**PROMPT, "dialect": "chat"})
    assert line.text.startswith("curl -N http://localhost:8080/openai/v1/chat/completions ")


async def test_gateway_without_conversations_has_no_form(open_site: OpenSite) -> None:
    site = await open_site(endpoints=["embeddings", "models"])
    page = await (await site.signed_in()).get("/app/playground")
    assert page.status == 200
    assert "offers no endpoint that answers prompts" in page.text
    assert 'id="prompt"' not in page.text
