"""What a key used, or its team: charts, the same numbers as tables, and as CSV.

`usage_page` and `usage_csv` serve administrators too, with other filters and names.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from starlette.responses import Response

from edge.billing.csv_text import csv_text
from edge.billing.period import PeriodRefused
from edge.dashboard.links import link
from edge.dashboard.page import SIGNED_IN, Page
from edge.dashboard.request import DashboardRequest
from edge.dashboard.usage_period import NAMES, UsagePeriod, read_usage_period
from edge.dashboard.usage_view import MEASURES, Cell, added, csv_rows, usage_view
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import LedgerStore
from middlewares.stores.ledger.spend import Cursor, Dimension, Filters, Group, Spend

By = Literal["model", "endpoint", "key", "owner", "team", "tag"]
_MOST_PAGES = 20
"""Of groups that one page of usage reads; what is left out is said."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose usage a page shows, and where the page is.

    title, about: heading and the sentence below it. filters: rows that count. by: what the series
    are. choices: of `by`, for administrators. tabs: (name, value) of whose usage may be chosen.
    """

    path: str
    title: str
    about: str
    filters: Filters
    by: By = "model"
    choices: tuple[By, ...] = ()
    tabs: tuple[tuple[str, str], ...] = ()


async def usage(request: DashboardRequest) -> Response:
    """The page of a key. Administrators without one go on to the usage of all."""
    if request.holds_no_key:
        return request.redirect("/app/admin/usage")
    key = await request.key()
    return await usage_page(request, _subject(request, key), key)


async def as_csv(request: DashboardRequest) -> Response:
    """Its numbers as CSV."""
    return await usage_csv(request, _subject(request, await request.key()))


def _subject(request: DashboardRequest, key: Key) -> Subject:
    tabs = (("This key", ""), ("Its team", "team")) if key.team else ()
    if key.team and request.query.get("of") == "team":
        filters, about = Filters(team=key.team), "What all keys of the team used together."
    else:
        filters, about = Filters(key=key.id), f"What {key.name or key.prefix} used."
    return Subject(path="/app/usage", title="Usage", about=about, filters=filters, tabs=tabs)


async def usage_page(
    request: DashboardRequest, subject: Subject, key: Key | None = None
) -> Response:
    """The page of a subject. key: the one that is shown, where the visitor may choose another."""
    query, fault = dict(request.query), ""
    try:
        period = read_usage_period(query, request.now)
    except PeriodRefused as raised:
        fault = f"{raised.field}: expected {raised.expected}."
        period = read_usage_period({}, request.now)
    measure = next((one for one in MEASURES if one == query.get("measure")), MEASURES[0])
    await request.parts.flush()
    cells, whole, total = await _cells(request.parts.ledger, subject, period)
    return request.render(
        "usage.html",
        400 if fault else 200,
        subject=subject,
        key=key,
        choices=await request.keys() if key is not None else [],
        view=usage_view(cells, period, measure, total),
        whole=whole,
        periods=NAMES,
        measures=MEASURES,
        chosen={"of": query.get("of", ""), "start": query.get("start"), "end": query.get("end")},
        fault=fault,
        link=partial(link, subject.path, query),
        csv=link(f"{subject.path}.csv", query),
    )


async def usage_csv(request: DashboardRequest, subject: Subject) -> Response:
    """The numbers of `usage_page` as CSV."""
    period = read_usage_period(request.query, request.now)
    await request.parts.flush()
    cells, _, _ = await _cells(request.parts.ledger, subject, period)
    name = f"usage-{period.first}-{period.last}.csv"
    return Response(
        csv_text(csv_rows(cells, period, subject.by)),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _cells(
    ledger: LedgerStore, subject: Subject, period: UsagePeriod
) -> tuple[list[Cell], bool, Spend]:
    """Sums by slot and name, whether they are all there are, and the total with each row once."""
    slots = period.slots()
    by, name_of = subject.by, _name_of(subject.by)
    if period.hours:
        parts = await asyncio.gather(
            *(_groups(ledger, (by,), subject.filters, slot.since, slot.until) for slot in slots)
        )
        cells = [
            Cell(number, name_of(group), group.spend)
            for number, (groups, _, _) in enumerate(parts)
            for group in groups
        ]
        return cells, all(whole for _, whole, _ in parts), added(total for _, _, total in parts)
    days = {slot.title: number for number, slot in enumerate(slots)}
    groups, whole, total = await _groups(
        ledger, (by, "day"), subject.filters, period.since, period.until
    )
    cells = [Cell(days[group.day or ""], name_of(group), group.spend) for group in groups]
    return cells, whole, total


async def _groups(
    ledger: LedgerStore, by: tuple[Dimension, ...], filters: Filters, since: float, until: float
) -> tuple[list[Group], bool, Spend]:
    groups: list[Group] = []
    total = Spend()
    after: Cursor | None = None
    for _ in range(_MOST_PAGES):
        page = await ledger.grouped(
            by, filters, since=since, until=until, after=after, purposes=filters.key is not None
        )
        groups += page.groups
        total = page.total or total
        after = page.next
        if after is None:
            return groups, True, total
    return groups, False, total


def _name_of(by: By) -> Callable[[Group], str]:
    nothing = {"team": "no team", "owner": "no owner", "tag": "no tag"}.get(by, "unknown")

    def name(group: Group) -> str:
        value = getattr(group, by) or ""
        named = {"key": group.key_name, "team": group.team_name}.get(by, "")
        return named or value or nothing

    return name


PAGES = (
    Page("/app/usage", ("GET",), SIGNED_IN, usage, "Usage"),
    Page("/app/usage.csv", ("GET",), SIGNED_IN, as_csv),
)
