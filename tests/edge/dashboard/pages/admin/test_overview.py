"""The overview of administrators: figures of all keys."""

from typing import Any

from middlewares.pricing import NANO
from tests.edge.dashboard.visits import Site
from tests.middlewares.stores.entries import use

from .administrator import administrator, with_parts


async def test_figures_are_sums_over_all_keys(site: Site) -> None:
    now = site.clock()
    day = now // 86_400 * 86_400
    early = [
        use(account="key_x", key_name="x", at=day + 1, cost=NANO, model="m1"),
        use(account=site.key.id, at=day + 2, cost=2 * NANO, model="m1"),
        use(account="key_x", at=day - 20 * 86_400, cost=4 * NANO, model="m1"),
        use(account="key_x", at=day - 40 * 86_400, cost=8 * NANO, model="m1"),
    ]
    await site.ledger.append(early)
    page = await (await administrator(site)).get("/app/admin")
    assert page.status == 200
    assert "3.00 <small>credits</small>" in page.text
    assert "7.00 <small>credits</small>" in page.text
    first, second = page.text.index(f"/app/admin/keys/{site.key.id}"), page.text.index("key_x")
    assert first < second


async def test_live_part_is_a_fragment_of_the_page(site: Site) -> None:
    browser = await administrator(site)
    part = await browser.fragment("/app/admin/live")
    assert part.status == 200
    assert "<html" not in part.text
    assert 'hx-get="/app/admin/live"' in (await browser.get("/app/admin")).text


async def test_workers_and_the_last_reload_are_shown(site: Site) -> None:
    worker = {"state": "ready", "digest": "abc", "generation": 2, "requests": 3}
    status = {
        "workers": [
            {**worker, "pid": 71, "loaded": "2026-11-30T12:00:00+00:00"},
            {**worker, "pid": 72, "loaded": "2026-11-30T12:00:00+00:00", "fault": "out of date"},
        ],
        "last_reload": {
            "result": "refused",
            "at": "2026-11-30T12:01:00+00:00",
            "digest": "def",
            "reasons": ["plans[0].requests: expected a rate"],
        },
        "requests": 6,
        "streams": 4,
        "queued": 2,
        "upstreams": [{"name": "sim", "in_flight": 5}],
    }

    async def report() -> dict[str, Any]:
        return status

    with_parts(site, status=report)
    browser = await administrator(site)
    page = await browser.get("/app/admin")
    assert "The last reload was refused" in page.text
    assert "plans[0].requests: expected a rate" in page.text
    assert '<p class="figure">6 <small>requests</small>' in page.text
    assert "4 streams, 2 throttled" in page.text
    assert "<dt>In flight</dt><dd>5</dd>" in (await browser.get("/app/admin/upstreams")).text
    page = await browser.get("/app/admin/config")
    assert page.status == 200
    assert "out of date" in page.text and "refused" in page.text
