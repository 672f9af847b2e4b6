"""The overview shows what /v1/limits says, to the second, also to a key that has used it all."""

import re
from typing import Any

import msgspec
import pytest

from edge.dashboard.formats import utc
from edge.dashboard.pages import PAGES
from edge.management import keys as management
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import AttemptRecord, Entry
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import PREFIXES, Browser, Site

NANO = 10**9


async def used(site: Site, amount: float, **fields: Any) -> None:
    """A row of the site's key in its two windows, which began 100 s ago."""
    start = site.clock() - 100
    made: dict[str, Any] = {
        "id": f"req_{len(await site.ledger.page())}",
        "account": site.key.id,
        "at": start,
        "ended_at": start,
        "model": "m1",
        "cost": round(amount * NANO),
        "starts": {"5h": start, "7d": start},
        **fields,
    }
    await site.ledger.append([Entry(**made)])


async def limits(site: Site) -> dict[str, Any]:
    grant = await site.directory.find(site.key.digest)
    assert grant is not None
    found: dict[str, Any] = await site.parts.usage_report.limits(grant.principal)
    return found


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


async def opened(site: Site) -> Browser:
    return await site.signed_in()


async def test_windows_are_those_of_the_limits_to_the_second(site: Site) -> None:
    await used(site, 4.1)
    page = (await (await opened(site)).get("/app")).text
    found = await limits(site)
    assert [window["length"] for window in found["windows"]] == ["5h", "7d"]
    for window in found["windows"]:
        assert f'datetime="{window["resets_at"]}"' in page
        assert utc(window["resets_at"]) in page
    text = words(page)
    assert "82 % used" in text
    assert "10 % used" in text
    assert "0.90 of 5.00 credits left" in text
    assert "Used 4.10 Reserved 0.00" in text
    assert "in 4 h 58 min" in text


@pytest.mark.parametrize(("amount", "warned"), [(3.99, False), (4, True)])
async def test_window_from_eighty_percent_on_has_a_warning(
    site: Site, amount: float, warned: bool
) -> None:
    await used(site, amount)
    text = words((await (await opened(site)).get("/app")).text)
    assert ("80 % of the 5h window is used." in text) is warned


async def test_exhausted_key_opens_every_page(site: Site) -> None:
    """Reading passes no limit and no budget."""
    _, fresh = await management.create(site.keys, PREFIXES, now=site.clock(), name="fresh")
    unused = await site.signed_in(fresh)
    await used(site, 5)
    browser = await opened(site)
    page = await browser.get("/app")
    assert "100 % of the 5h window is used." in words(page.text)
    assert "Until then requests are refused." in words(page.text)
    for row in PAGES:
        if "GET" in row.methods and "holder" in row.roles and "{" not in row.path:
            answer = await browser.get(row.path)
            assert answer.status == (await unused.get(row.path)).status, row.path


async def test_credits_pay_for_an_exhausted_window(site: Site) -> None:
    await used(site, 5)
    at = site.clock()
    credit = Entry(
        id="crd_1", account=site.key.id, at=at, ended_at=at, kind="credit", granted=7 * NANO
    )
    await site.ledger.append([credit])
    text = words((await (await opened(site)).get("/app")).text)
    assert "7.00 credits" in text
    assert "Until then requests are paid from credits." in text


async def test_spend_of_today_and_of_seven_days(site: Site) -> None:
    day = 86400.0
    await used(site, 1.25, at=site.clock())
    await used(site, 2, at=site.clock() - 3 * day, starts={})
    await used(site, 9, at=site.clock() - 8 * day, starts={})
    text = words((await (await opened(site)).get("/app")).text)
    assert "Today 1.25 credits 1 request" in text
    assert "7 days 3.25 credits 2 requests" in text


async def test_rates_and_slots_are_shown(site: Site) -> None:
    text = words((await (await opened(site)).get("/app")).text)
    assert "Requests per minute 60 of 60 left" in text
    assert "Tokens per minute 10,000 of 10,000 left" in text
    assert "0 of 3 in use" in text


async def test_key_without_limits_says_so(site: Site) -> None:
    _, secret = await management.create(site.keys, PREFIXES, now=site.clock(), name="free")
    text = words((await (await site.signed_in(secret)).get("/app")).text)
    assert "No budget limits this key." in text
    assert "No rate limits this key." in text


async def test_live_figures_are_a_fragment(site: Site) -> None:
    browser = await opened(site)
    page = await browser.get("/app")
    assert 'hx-get="/app/overview/live"' in page.text
    assert 'hx-trigger="every 15s"' in page.text
    answer = await browser.fragment("/app/overview/live")
    assert answer.status == 200
    assert "<html" not in answer.text
    assert "5h window" in answer.text


async def test_failed_requests_say_what_to_do(site: Site) -> None:
    attempt = AttemptRecord(problem="upstream_timeout", upstream="secret-upstream", error="secret")
    await used(site, 0, ended="failed", status=504, attempts=[attempt])
    text = (await (await opened(site)).get("/app")).text
    assert "upstream_timeout" in text
    assert "The provider was too slow" in text
    assert "secret" not in text.replace(site.secret, "")


async def test_key_of_another_owner_answers_like_one_that_does_not_exist(site: Site) -> None:
    other, _ = await management.create(
        site.keys, PREFIXES, now=site.clock(), name="Bob's", owner="bob"
    )
    browser = await opened(site)
    known = await browser.get(f"/app?key={other.id}")
    unknown = await browser.get("/app?key=key_00000000000000000000")
    assert known.status == unknown.status == 404
    assert re.sub(r"<code>[^<]*</code>|key_\w+", "", known.text) == re.sub(
        r"<code>[^<]*</code>|key_\w+", "", unknown.text
    )


@pytest.mark.parametrize("self_service", [False, True])
async def test_other_keys_of_the_owner_are_seen_with_self_service_only(
    open_site: OpenSite, self_service: bool
) -> None:
    site = await open_site(dashboard={"self_service": self_service})
    other, _ = await management.create(
        site.keys, PREFIXES, now=site.clock(), name="sibling", owner="ann"
    )
    stranger, _ = await management.create(
        site.keys, PREFIXES, now=site.clock(), name="stranger", owner="bob"
    )
    browser = await site.signed_in()
    page = await browser.get(f"/app?key={other.id}")
    assert page.status == (200 if self_service else 404)
    assert ("sibling" in (await browser.get("/app")).text) is self_service
    assert (await browser.get(f"/app?key={stranger.id}")).status == 404


async def test_keys_without_an_owner_are_no_siblings(open_site: OpenSite) -> None:
    site = await open_site(dashboard={"self_service": True})
    one, secret = await management.create(site.keys, PREFIXES, now=site.clock(), name="one")
    two, _ = await management.create(site.keys, PREFIXES, now=site.clock(), name="two")
    browser = await site.signed_in(secret)
    assert (await browser.get(f"/app?key={two.id}")).status == 404
    assert (await browser.get(f"/app?key={one.id}")).status == 200


async def test_key_whose_plan_is_gone_says_whom_to_ask(site: Site) -> None:
    def change(key: Key) -> Key:
        return msgspec.structs.replace(key, plan="gone")

    browser = await opened(site)
    await site.keys.update(site.key.id, change)
    await site.directory.refresh()
    page = await browser.get("/app")
    assert page.status == 403
    assert "Ask the operator of Acme" in words(page.text)


@pytest.mark.parametrize(("excess", "said"), [("throttle", True), ("reject", False)])
async def test_plan_that_throttles_says_so_beside_the_rates(
    open_site: OpenSite, excess: str, said: bool
) -> None:
    plan = {"id": "gold", "requests": "60/min", "on_excess": excess}
    site = await open_site(plans=[plan], limits={"throttle_max_wait": "45s"})
    text = words((await (await opened(site)).get("/app")).text)
    assert ("wait for their turn and are not refused, unless that would take" in text) is said
    assert ("longer than 45s" in text) is said
