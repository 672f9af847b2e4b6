"""What a key used, or its team: charts, the same numbers as tables, and as CSV.

`usage_page` and `usage_csv` serve administrators too, with other filters and names.
"""

from collections.abc import Callable, Sequence
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
from edge.runtime.worker_thread import run_in_thread
from middlewares.problem import Problem
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import LedgerStore
from middlewares.stores.ledger.spend import Cursor, Dimension, Filters, Group, Spend

By = Literal["model", "endpoint", "key", "owner", "team", "tag"]
_MOST_PAGES = 20
"""Of groups that one page of usage reads, or two for each hour; what is left out is said."""
_TOO_MANY = "There are more rows than one file has. Choose fewer days, or a filter."


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
    read, whole, total = await _read(request.parts.ledger, subject, period)
    choices = await request.keys() if key is not None else []

    def rendered() -> Response:
        return request.render(
            "usage.html",
            400 if fault else 200,
            subject=subject,
            key=key,
            choices=choices,
            view=usage_view(_cells(read, subject, period), period, measure, total),
            whole=whole,
            periods=NAMES,
            measures=MEASURES,
            chosen={
                "of": query.get("of", ""),
                "start": query.get("start"),
                "end": query.get("end"),
            },
            fault=fault,
            link=partial(link, subject.path, query),
            csv=link(f"{subject.path}.csv", query),
        )

    return await run_in_thread(rendered)  # of thousands of groups it takes long


async def usage_csv(request: DashboardRequest, subject: Subject) -> Response:
    """The numbers of `usage_page` as CSV. Raises Problem for more than one answer has."""
    period = read_usage_period(request.query, request.now)
    await request.parts.flush()
    read, whole, _ = await _read(request.parts.ledger, subject, period)
    if not whole:
        raise Problem("invalid_request", message=_TOO_MANY)
    name = f"usage-{period.first}-{period.last}.csv"
    text = await run_in_thread(
        lambda: csv_text(csv_rows(_cells(read, subject, period), period, subject.by))
    )
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


_Read = Sequence[tuple[int, Sequence[Group]]]
"""Groups with the number of their slot, which is -1 where each group names its day."""


async def _read(
    ledger: LedgerStore, subject: Subject, period: UsagePeriod
) -> tuple[_Read, bool, Spend]:
    """Groups by slot and name, whether they are all there are, and the total with each row once.

    Page after page: a visitor has one connection of the database at a time, never all of them.
    """
    by, filters, read = subject.by, subject.filters, []
    purposes = filters.key is not None
    totals: list[Spend] = []
    parts: list[tuple[int, tuple[Dimension, ...], float, float]]
    if period.hours:
        slots = enumerate(period.slots())
        parts = [(number, (by,), slot.since, slot.until) for number, slot in slots]
    else:
        parts = [(-1, (by, "day"), period.since, period.until)]
    left = max(_MOST_PAGES, 2 * len(parts))
    for number, dimensions, since, until in parts:
        after: Cursor | None = None
        while left:
            page = await ledger.grouped(
                dimensions,
                filters,
                since=since,
                until=until,
                after=after,
                purposes=purposes,
            )
            read.append((number, page.groups))
            totals += [page.total] if page.total is not None else []
            after, left = page.next, left - 1
            if after is None:
                break
        else:
            whole = await ledger.grouped(
                (), filters, since=period.since, until=period.until, purposes=purposes
            )
            return read, False, whole.total or Spend()
    return read, True, added(totals)


def _cells(read: _Read, subject: Subject, period: UsagePeriod) -> list[Cell]:
    days = {slot.title: number for number, slot in enumerate(period.slots())}
    name_of = _name_of(subject.by)
    return [
        Cell(days[group.day or ""] if number < 0 else number, name_of(group), group.spend)
        for number, groups in read
        for group in groups
    ]


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
