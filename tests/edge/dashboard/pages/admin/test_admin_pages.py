"""Who may open the pages of administrators, and that no secret is on any of them."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from edge.dashboard.page import ADMINS, Page
from edge.dashboard.pages.admin import PAGES
from middlewares.stores.ledger.base import AttemptRecord
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import DOCUMENT, Site
from tests.middlewares.stores.entries import use
from tests.middlewares.stores.samples import new_team

from .administrator import administrator

CANARY = "canary-5f1e2d7c9b"
SIGNING = "whsec_" + b64encode(CANARY.encode() * 2).decode()
GETS = [page for page in PAGES if "GET" in page.methods]
POSTS = [page for page in PAGES if "POST" in page.methods]
FIELDS = {
    "name": "taken over",
    "owner": "mallory",
    "amount": "1000",
    "disabled": "yes",
    "confirm": "Ann's key",
    "grace": "0",
    "form": "f",
    "revision": "1",
}


async def paths_of(site: Site, page: Page) -> list[str]:
    if "{" not in page.path:
        return [page.path]
    team = await site.keys.teams.insert(new_team(name="red"))
    names = {"keys": site.key.id, "teams": team.id, "requests": "r1", "upstreams": "sim"}
    family = page.path.split("/")[3]
    return [page.path.replace("{id}", names[family]).replace("{name}", names[family])]


def test_every_page_is_for_administrators_only() -> None:
    assert {page.roles for page in PAGES} == {ADMINS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.methods[0]} {page.path}")
async def test_holder_gets_the_answer_of_a_path_that_does_not_exist(site: Site, page: Page) -> None:
    holder = await site.signed_in()
    key, ledger = await site.keys.get(site.key.id), site.ledger
    for path in await paths_of(site, page):
        for method in page.methods:
            if method == "GET":
                answer = await holder.get(path)
            else:
                answer = await holder.post(
                    path, {}, **{**FIELDS, "revision": str(site.key.revision)}
                )
            assert answer.status == 404
            assert "Page not found" in answer.text
    assert await site.keys.get(site.key.id) == key
    assert not await ledger.page(account=site.key.id)
    assert not await site.parts.audit.page()


@pytest.mark.parametrize("page", POSTS, ids=lambda page: page.path)
async def test_form_of_another_site_changes_nothing(site: Site, page: Page) -> None:
    browser = await administrator(site)
    browser.fetch_site = "cross-site"
    key = await site.keys.get(site.key.id)
    for path in await paths_of(site, page):
        answer = await browser.post(path, {}, **FIELDS)
        assert answer.status == 403
    assert await site.keys.get(site.key.id) == key
    assert not await site.parts.audit.page()


@pytest.mark.parametrize("page", GETS, ids=lambda page: page.path)
async def test_page_of_administrators_opens(site: Site, page: Page) -> None:
    await site.ledger.append([use(id="r1", account=site.key.id, at=site.clock() - 5)])
    browser = await administrator(site)
    for path in await paths_of(site, page):
        answer = await browser.get(path)
        assert answer.status == 200, answer.text
        assert "Traceback" not in answer.text


SECRETS: Mapping[str, Any] = {
    "upstreams": [
        {
            "name": "sim",
            "dialect": "openai",
            "base_url": f"http://127.0.0.1:9/{CANARY}/v1",
            "api_key": CANARY,
            "headers": {"x-tenant": CANARY},
            "query": {"key": CANARY},
            "extra_body": {"user": CANARY},
        }
    ],
    "auth": {"admin_token": CANARY},
    "alerts": {"webhook": f"https://example.com/{CANARY}", "secret": SIGNING},
    "store": {"sql": f"postgresql://u:{CANARY}@db/x", "counters": f"redis://:{CANARY}@r/0"},
    "models": DOCUMENT["models"],
}


async def test_no_secret_of_the_configuration_is_on_any_page(open_site: OpenSite) -> None:
    site = await open_site(**SECRETS)
    failed = AttemptRecord("sim", "m1", 502, "m1", "upstream_error", 3.0, f"said {CANARY}")
    row = use(id="r1", account=site.key.id, at=site.clock() - 5)
    await site.ledger.append([msgspec.structs.replace(row, attempts=[failed])])
    browser = await administrator(site)
    for page in GETS:
        if page.path.endswith("/requests/{id}"):
            continue  # operators read what upstreams said there
        for path in await paths_of(site, page):
            answer = await browser.get(path)
            assert answer.status == 200
            assert CANARY not in answer.text, path
            assert SIGNING[6:] not in answer.text, path
            assert site.secret not in answer.text, path


NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<p hx-get=/app/sign-out hx-trigger=load>",
    "{{ 4567 * 1000 }}",
    "javascript:alert(1)",
)


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_text_on_every_page(site: Site, name: str) -> None:
    browser = await administrator(site)
    await browser.post("/app/admin/teams", {}, name=name, metadata=f"m = {name}")
    path = f"/app/admin/keys/{site.key.id}"
    key = await site.keys.get(site.key.id)
    assert key is not None
    answer = await browser.post(
        f"{path}/edit", {}, name=name, owner=name, team=name, revision=str(key.revision)
    )
    assert answer.status == 303
    row = use(id="r1", account=site.key.id, at=site.clock() - 5, model=name, key_name=name)
    await site.ledger.append([row])
    for page in GETS:
        if page.path.endswith(".csv"):
            continue
        for where in await paths_of(site, page):
            shown = (await browser.get(where)).text
            assert "<script>alert" not in shown
            assert "<img" not in shown
            assert "<p hx-get=/app/sign-out" not in shown
            assert "4567000" not in shown
