"""The overview of administrators: figures of all keys."""

from middlewares.pricing import NANO
from tests.edge.dashboard.visits import Site
from tests.middlewares.stores.entries import use

from .administrator import administrator


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
