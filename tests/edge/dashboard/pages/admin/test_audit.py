"""The audit: pages of fifty, by subject."""

import re

from middlewares.stores.audit.base import AuditChange
from tests.edge.dashboard.visits import Site

from .administrator import administrator


async def test_pages_have_every_row_once_newest_first(site: Site) -> None:
    for n in range(120):
        change = AuditChange(
            at=float(n),
            actor="cli",
            action=f"key.edit{n}.",
            subject=f"key_{n % 2}",
            detail={"plan": {"from": None, "to": "gold"}, "models": ["a", "b"]},
        )
        await site.parts.audit.note(change)
    browser = await administrator(site)
    for query, expected in (("", range(119, -1, -1)), ("?subject=key_1", range(119, 0, -2))):
        path, seen = f"/app/admin/audit{query}", list[int]()
        while path:
            page = await browser.get(path)
            seen += map(int, re.findall(r"key\.edit(\d+)\.", page.text))
            older = re.search(r'href="([^"]+)" rel="next"', page.text)
            path = older[1].replace("&amp;", "&") if older else ""
        assert seen == list(expected)
    assert "not set → gold" in page.text
