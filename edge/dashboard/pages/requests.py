"""Finished requests of a key: a list with filters, and one request with its fallback path.

`list_page` and `detail_page` serve administrators too, with requests of every key and with columns
for operators.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import msgspec
from msgspec.structs import replace
from starlette.responses import Response

from edge.billing.period import PeriodRefused, read_moment
from edge.dashboard.links import link
from edge.dashboard.page import SIGNED_IN, Page
from edge.dashboard.request import DashboardRequest
from edge.dashboard.request_view import OUTCOMES, request_view
from middlewares.exchange import Principal
from middlewares.problem import Problem
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import Ended, Place, StatusClass, Wanted

ROWS = 50
"""Of one page."""
STATUSES: dict[str, StatusClass] = {"2xx": 2, "4xx": 4, "5xx": 5}
_BEFORE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)~([A-Za-z0-9._:-]{1,100})", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)
_LONGEST = 200
_TEXTS = ("model", "tag", "start", "end")
_OF_OPERATORS = ("account", "team", "owner")
_UNKNOWN = "There is no finished request with this id that you may see."


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The filters of an address, as their fields show them. wanted: what they mean. before: where
    the page before ended. fault: what could not be read, and is left out."""

    texts: dict[str, str]
    outcome: str
    status: str
    wanted: Wanted
    before: Place | None
    fault: str

    @property
    def any(self) -> bool:
        """Whether they leave requests out."""
        return bool(any(self.texts.values()) or self.outcome or self.status)


def chosen(query: Mapping[str, str], scope: Wanted, *, operator: bool = False) -> Chosen:
    """The filters of a query, within `scope`. operator: also by key, team and owner."""
    names = (*_TEXTS, *(_OF_OPERATORS if operator else ()))
    texts = {name: query.get(name, "").strip() for name in names}
    faults = [
        f"{name}: expected at most {_LONGEST} characters."
        for name in names
        if len(texts[name]) > _LONGEST
    ]
    texts = {name: text[:_LONGEST] for name, text in texts.items()}
    given: dict[str, Any] = {
        name: text for name, text in texts.items() if text and name not in ("start", "end")
    }
    for name, field in (("start", "since"), ("end", "until")):
        if texts[name]:
            try:
                given[field] = read_moment(name, texts[name], end=name == "end")
            except PeriodRefused as raised:
                faults.append(f"{raised.field}: expected {raised.expected}.")
                texts[name] = ""
    outcome = next((one for one in get_args(Ended) if one == query.get("outcome")), None)
    status = next((one for one in STATUSES if one == query.get("status")), "")
    match = _BEFORE.fullmatch(query.get("before", ""))
    return Chosen(
        texts=texts,
        outcome=outcome or "",
        status=status,
        wanted=replace(scope, kind="use", ended=outcome, status=STATUSES.get(status), **given),
        before=(float(match[1]), match[2]) if match else None,
        fault=" ".join(faults),
    )


async def requests(request: DashboardRequest) -> Response:
    """The list of a key. Administrators without one go on to the requests of all."""
    if request.holds_no_key:
        return request.redirect("/app/admin/requests")
    key = await request.key()
    about = f"What {key.name or key.prefix} asked for, newest first."
    return await list_page(request, about, Wanted(account=key.id), key)


async def detail(request: DashboardRequest) -> Response:
    """One request of a key."""
    return await detail_page(request, (await request.key()).id)


async def list_page(
    request: DashboardRequest,
    about: str,
    scope: Wanted,
    key: Key | None = None,
    *,
    operator: bool = False,
) -> Response:
    """The list. scope: which requests may be seen. key: the one that is shown, where the visitor
    may choose another. operator: with columns for operators."""
    filters = chosen(request.query, scope, operator=operator)
    await request.parts.flush()
    found = await request.parts.ledger.search(filters.wanted, before=filters.before, limit=ROWS)
    models = request.parts.catalog.visible(Principal(id=""))
    return request.render(
        "requests.html",
        400 if filters.fault else 200,
        about=about,
        key=key,
        choices=await request.keys() if key is not None else [],
        operator=operator,
        rows=found.rows,
        outcomes=OUTCOMES,
        statuses=tuple(STATUSES),
        chosen=filters,
        models=[model.id for model in models],
        link=partial(link, request.path, request.query),
        detail_link=partial(_detail_link, request.path, _kept(request)),
        older="" if found.next is None else f"{found.next[0]!r}~{found.next[1]}",
    )


async def detail_page(
    request: DashboardRequest, account: str | None, *, operator: bool = False
) -> Response:
    """One request. Raises Problem `not_found` also for those of other accounts."""
    wanted = request.params["id"]
    ledger = request.parts.ledger
    entry = await ledger.get(account, wanted) if _ID.fullmatch(wanted) else None
    if entry is None:
        await request.parts.flush()
        entry = await ledger.get(account, wanted) if _ID.fullmatch(wanted) else None
    if entry is None or entry.kind != "use" or (entry.parent and not operator):
        raise Problem("not_found", message=_UNKNOWN)
    children = await ledger.children(entry.account, entry.id)
    path = request.path.rpartition("/")[0]
    return request.render(
        "request.html",
        view=request_view(entry, children, request.exchange.error_style),
        entry=entry,
        operator=operator,
        back=link(path, _kept(request)),
        link=partial(link, path, _kept(request)),
        detail_link=partial(_detail_link, path, _kept(request)),
    )


def _kept(request: DashboardRequest) -> dict[str, str]:
    """What links to other pages keep of the query."""
    return {"key": request.query.get("key", "")}


def _detail_link(path: str, query: dict[str, str], entry_id: str) -> str:
    return link(f"{path}/{entry_id}", query)


PAGES = (
    Page("/app/requests", ("GET",), SIGNED_IN, requests, "Requests"),
    Page("/app/requests/{id}", ("GET",), SIGNED_IN, detail),
)
