"""Usage of a key and of its team: pages and CSV, against the rows of the ledger."""

import asyncio
import csv
import json
import re
import threading
from io import StringIO
from typing import Any

import msgspec
import pytest

from edge.billing.period import DAY, moment
from edge.dashboard.pages import usage_charts
from middlewares.pricing import nano
from middlewares.stores.teams.base import TeamRecord
from tests.edge.dashboard.visits import Browser, Site
from tests.middlewares.stores.entries import use


async def fill(site: Site, days: int = 9) -> list[Any]:
    """Rows of the holder, of two models on each of the last days, and one of another key."""
    rows = []
    for day in range(days):
        for model, cost in (("m1", 1_500_000_000), ("m2", 7), ("=cmd()", 20_000)):
            at = site.clock.now - day * DAY
            rows.append(
                use(
                    account=site.key.id,
                    owner="ann",
                    at=at,
                    ended_at=at + 1,
                    model=model,
                    cost=cost + day,
                    input=100 + day,
                    output=10,
                    cache_read=3,
                    reasoning=2,
                    ended="failed" if model == "m2" else "completed",
                )
            )
    other = use(account="key_other", at=site.clock.now, model="hidden-model", cost=99 * 10**9)
    await site.ledger.append([*rows, other])
    return rows


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline="")))


def drawn(text: str) -> dict[str, Any]:
    """The data of the chart."""
    found = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


async def test_usage_page_shows_the_key_and_no_other(site: Site) -> None:
    await fill(site)
    page = await (await site.signed_in()).get("/app/usage")
    assert page.status == 200
    assert "<code" not in drawn(page.text)
    assert {one["name"] for one in drawn(page.text)["series"]} == {"m1", "m2", "=cmd()"}
    assert "hidden-model" not in page.text
    assert "Days are UTC days" in page.text


@pytest.mark.parametrize(("period", "days"), [("7d", 7), ("30d", 9), ("24h", 1)])
async def test_usage_csv_sums_to_the_ledger(site: Site, period: str, days: int) -> None:
    rows = await fill(site)
    browser = await site.signed_in()
    answer = await browser.get(f"/app/usage.csv?period={period}")
    assert answer.header("content-type") == "text/csv; charset=utf-8"
    assert "attachment" in str(answer.header("content-disposition"))
    lines = table(answer.text)
    counted = [row for row in rows if row.at > site.clock.now - (days - 0.5) * DAY]
    assert sum(nano(line["credits"]) for line in lines) == sum(row.cost for row in counted)
    for name in ("input", "output", "cache_read", "reasoning"):
        whole = sum(getattr(row, name) for row in counted)
        assert sum(int(line[f"{name}_tokens"]) for line in lines) == whole
    assert sum(int(line["requests"]) for line in lines) == len(counted)
    assert sum(int(line["errors"]) for line in lines) == len(counted) / 3


async def test_usage_single_days_sum_to_seven(site: Site) -> None:
    await fill(site)
    browser = await site.signed_in()

    async def credits_of(query: str) -> int:
        lines = table((await browser.get(f"/app/usage.csv?{query}")).text)
        return sum(nano(line["credits"]) for line in lines)

    days = [str(moment(site.clock.now - day * DAY))[:10] for day in range(7)]
    single = [await credits_of(f"period=custom&start={day}&end={day}") for day in days]
    assert sum(single) == await credits_of("period=7d")
    assert all(single)


async def test_usage_csv_has_no_formulas(site: Site) -> None:
    await fill(site)
    text = (await (await site.signed_in()).get("/app/usage.csv")).text
    assert "'=cmd()" in text
    assert ",=cmd()" not in text


async def test_usage_24h_has_24_hours(site: Site) -> None:
    await fill(site)
    page = await (await site.signed_in()).get("/app/usage?period=24h&measure=tokens")
    data = drawn(page.text)
    assert len(data["labels"]) == 24
    assert sum(sum(one["values"]) for one in data["series"]) == 3 * 113


async def test_usage_without_any_says_so(site: Site) -> None:
    page = await (await site.signed_in()).get("/app/usage")
    assert "No use in this period" in page.text
    assert "data-chart" not in page.text


@pytest.mark.parametrize(
    "query", ["start=2026-02-31", "start=2026-03-02&end=2026-03-01", "start=x"]
)
async def test_usage_of_impossible_dates_says_what_is_expected(site: Site, query: str) -> None:
    await fill(site)
    browser = await site.signed_in()
    page = await browser.get(f"/app/usage?period=custom&{query}")
    assert page.status == 400
    assert "start: expected" in page.text
    assert (await browser.get(f"/app/usage.csv?period=custom&{query}")).status == 400


async def test_usage_links_keep_what_is_chosen(site: Site) -> None:
    await fill(site)
    page = await (await site.signed_in()).get("/app/usage?period=30d&measure=tokens")
    assert 'href="/app/usage?period=30d&amp;measure=credits"' in page.text
    assert 'href="/app/usage?period=7d&amp;measure=tokens"' in page.text
    assert 'href="/app/usage.csv?period=30d&amp;measure=tokens"' in page.text


async def test_usage_of_another_key_does_not_exist(site: Site) -> None:
    browser = await site.signed_in()
    for path in ("/app/usage?key=key_other", "/app/usage.csv?key=key_other"):
        assert (await browser.get(path)).status == 404


async def test_usage_of_a_team_is_that_of_all_its_keys(site: Site) -> None:
    browser = await with_team(site)
    rows = [
        use(account=account, team="team_1", at=site.clock.now, model="m1", cost=cost)
        for account, cost in ((site.key.id, 1), ("key_other", 20))
    ]
    alone = use(account="key_other", team="team_2", at=site.clock.now, model="m1", cost=300)
    await site.ledger.append([*rows, alone])
    own = table((await browser.get("/app/usage.csv")).text)
    team = table((await browser.get("/app/usage.csv?of=team")).text)
    assert (own[0]["credits"], team[0]["credits"]) == ("0.000000001", "0.000000021")
    assert "Its team" in (await browser.get("/app/usage")).text


async def test_usage_of_no_team_is_that_of_the_key(site: Site) -> None:
    await fill(site)
    browser = await site.signed_in()
    assert "Its team" not in (await browser.get("/app/usage")).text
    own, team = [(await browser.get(f"/app/usage.csv{query}")).text for query in ("", "?of=team")]
    assert own == team


async def with_team(site: Site) -> Browser:
    """The holder, whose key is in a team."""
    browser = await site.signed_in()
    await site.keys.teams.insert(TeamRecord(id="team_1", created_at=site.clock.now))
    await site.keys.update(site.key.id, lambda key: msgspec.structs.replace(key, team="team_1"))
    await site.directory.refresh()
    return browser


@pytest.mark.parametrize(
    ("path", "step"), [("/app/usage", "usage_view"), ("/app/usage.csv", "csv_rows")]
)
async def test_usage_is_added_up_beside_the_loop(
    site: Site, path: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(site)
    threads = []
    made = getattr(usage_charts, step)

    def noted(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return made(*given)

    monkeypatch.setattr(usage_charts, step, noted)
    answer = await (await site.signed_in()).get(path)
    assert answer.status == 200
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_usage_of_hours_reads_one_after_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(site)
    browser = await site.signed_in()
    reading, most, reads = 0, 0, 0
    grouped = site.ledger.grouped

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal reading, most, reads
        reading, reads = reading + 1, reads + 1
        most = max(most, reading)
        try:
            await asyncio.sleep(0)
            return await grouped(*given, **named)
        finally:
            reading -= 1

    monkeypatch.setattr(site.ledger, "grouped", counted)
    await browser.get("/app/usage?period=24h")
    assert (most, reads) == (1, 24)


async def test_usage_of_too_many_groups_says_so_and_makes_no_file(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(site)
    browser = await site.signed_in()
    grouped = site.ledger.grouped
    reads = 0

    async def narrow(*given: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        return await grouped(*given, **{**named, "limit": 1})

    monkeypatch.setattr(site.ledger, "grouped", narrow)
    page = await browser.get("/app/usage?period=30d")
    assert page.status == 200
    assert "There are more rows than one page shows" in page.text
    assert reads == 20 + 1  # and the total
    file = await browser.get("/app/usage.csv?period=30d")
    assert file.status == 400
    assert "There are more rows than one file has" in file.text
    assert "There are more rows" not in (await browser.get("/app/usage?period=24h")).text
