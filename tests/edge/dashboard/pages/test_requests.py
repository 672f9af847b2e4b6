"""Finished requests of a key: the list, its filters and pages, and one request."""

import re
from typing import Any

import pytest

from edge.billing.period import DAY, moment
from edge.dashboard.pages.requests import ROWS
from middlewares.stores.ledger.base import AttemptRecord, Entry
from tests.edge.dashboard.visits import Site
from tests.middlewares.stores.entries import credit, use

CANARIES = ("upstream-canary", "their-model-canary", "error-canary")
TRIED = [
    AttemptRecord(*CANARIES[:2], 529, "m1", "upstream_unavailable", 40.0, CANARIES[2]),
    AttemptRecord(*CANARIES[:2], 200, "m2", "", 60.0),
]


async def keep(site: Site, **fields: Any) -> Entry:
    """A row of the holder in the ledger."""
    fields = {"account": site.key.id, "at": site.clock.now, "duration_ms": 100.0, **fields}
    row = use(**fields)
    await site.ledger.append([row])
    return row


def ids(text: str) -> list[str]:
    """Of the requests on a page, in its order."""
    return re.findall(r'href="/app/requests/([^"?]+)', text)


async def test_list_shows_requests_of_the_key_newest_first(site: Site) -> None:
    old = await keep(site, at=site.clock.now - 5)
    new = await keep(site)
    await keep(site, account="key_other")
    await site.ledger.append([credit(5, account=site.key.id, at=site.clock.now)])
    page = await (await site.signed_in()).get("/app/requests")
    assert ids(page.text) == [new.id, old.id]


async def test_list_without_requests_says_so(site: Site) -> None:
    assert "No requests yet" in (await (await site.signed_in()).get("/app/requests")).text


async def test_list_pages_have_each_request_once(site: Site) -> None:
    """Also where many began in the same moment: the order is that of time, then of the id."""
    wanted = {(await keep(site)).id for _ in range(ROWS + 20)}
    wanted |= {(await keep(site, at=site.clock.now - n / 7)).id for n in range(ROWS)}
    browser = await site.signed_in()
    seen, path = [], "/app/requests"
    while path:
        text = (await browser.get(path)).text
        assert ids((await browser.get(path)).text) == ids(text), "the same rows after a reload"
        seen += ids(text)
        older = re.search(r'href="([^"]+)" rel="next"', text)
        path = older[1].replace("&amp;", "&") if older else ""
        await keep(site, at=site.clock.now + len(seen))  # a new one moves no other page
    assert sorted(seen) == sorted(wanted)


async def test_list_filters_by_what_the_address_says(site: Site) -> None:
    failed = await keep(site, model="m2", ended="failed", status=502, tags="prod,search")
    early = await keep(site, model="m1", at=site.clock.now - 3 * DAY, status=200)
    late = await keep(site, model="m1", status=200, tags="search")
    browser = await site.signed_in()
    today = str(moment(site.clock.now))[:10]
    before = str(moment(site.clock.now - 2 * DAY))[:10]
    for query, found in {
        "model=m2": [failed],
        "outcome=failed": [failed],
        "outcome=completed": [late, early],
        "status=5xx": [failed],
        "tag=prod": [failed],
        "tag=search": [late, failed],
        "tag=sea": [],
        f"start={today}": [late, failed],
        f"end={before}": [early],
        f"model=m1&start={today}&tag=search": [late],
    }.items():
        page = await browser.get(f"/app/requests?{query}")
        assert ids(page.text) == [row.id for row in found], query
    assert "No request fits these filters" in (await browser.get("/app/requests?tag=sea")).text


async def test_list_filter_stays_in_the_links(site: Site) -> None:
    for _ in range(ROWS + 1):
        await keep(site, model="m1")
    page = await (await site.signed_in()).get("/app/requests?model=m1&outcome=completed")
    assert re.search(r'href="/app/requests\?model=m1&amp;outcome=completed&amp;before=', page.text)


@pytest.mark.parametrize("query", ["start=never", "end=2026-02-31", "model=" + "x" * 300])
async def test_list_filter_that_cannot_be_read_is_said(site: Site, query: str) -> None:
    page = await (await site.signed_in()).get(f"/app/requests?{query}")
    assert page.status == 400
    assert f"{query.partition('=')[0]}: " in page.text


@pytest.mark.parametrize(
    "before", ["", "x", "1~", "~a", "nan~a", "1e9~a", "1~a b", "9" * 400 + "~a"]
)
async def test_list_place_that_is_none_is_left_out(site: Site, before: str) -> None:
    row = await keep(site)
    page = await (await site.signed_in()).get(f"/app/requests?before={before}")
    assert ids(page.text) == [row.id]


async def test_detail_shows_the_fallback_path_by_catalog_ids(site: Site) -> None:
    row = await keep(site, asked="m1", model="m2", attempts=TRIED, measured=False, tags="prod")
    browser = await site.signed_in()
    page = await browser.get(f"/app/requests/{row.id}")
    assert page.status == 200
    assert page.text.index("upstream unavailable") < page.text.index("answered")
    assert "This use is an estimate" in page.text
    assert 'href="/app/requests?tag=prod"' in page.text
    listed = await browser.get("/app/requests")
    assert not [one for one in CANARIES if one in page.text or one in listed.text]


async def test_detail_of_others_answers_like_one_that_does_not_exist(site: Site) -> None:
    other = await keep(site, account="key_other")
    money = credit(5, account=site.key.id, at=site.clock.now)
    await site.ledger.append([money])
    browser = await site.signed_in()
    answers = []
    for wanted in (other.id, money.id, "nothing", "%27%22%3E", "a%20b"):
        answer = await browser.get(f"/app/requests/{wanted}")
        answers.append((answer.status, re.sub(r"<code>.*?</code>|datetime=\S+", "", answer.text)))
    assert {status for status, _ in answers} == {404}
    assert len({text for _, text in answers}) == 1


async def test_detail_cost_includes_requests_made_for_it(site: Site) -> None:
    row = await keep(site, cost=1_000_000_000)
    child = await keep(site, cost=500_000_000, parent=row.id, purpose="describe", model="seer")
    browser = await site.signed_in()
    page = await browser.get(f"/app/requests/{row.id}")
    assert "1.50" in page.text
    assert "For describe" in page.text
    assert "seer" not in page.text, "its caller did not name that model"
    listed = await browser.get("/app/requests")
    assert "seer" not in listed.text
    assert ids(listed.text) == [row.id, row.id], "it leads to the request that it was made for"
    assert (await browser.get(f"/app/requests/{child.id}")).status == 404


async def test_throttled_request_says_how_long_it_waited(site: Site) -> None:
    now = site.clock.now
    row = await keep(site, at=now - 1, ended_at=now, duration_ms=4200.0)
    browser = await site.signed_in()
    assert "waited 3.2 s" in (await browser.get("/app/requests")).text
    page = (await browser.get(f"/app/requests/{row.id}")).text
    assert "It waited 3.2 s before it was admitted" in page
    assert "It was not refused." in page
