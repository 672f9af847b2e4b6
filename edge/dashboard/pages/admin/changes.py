"""What the forms of administrators share: fields, audit, credits, forms that are sent again."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from starlette.responses import Response

from edge.billing.period import last_days
from edge.dashboard.request import DashboardRequest
from edge.management import money
from edge.management.audit import Audit
from edge.management.fields import Refused
from middlewares.problem import Problem
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.spend import Filters
from middlewares.stores.teams.base import TeamRecord

ROWS = 50
"""Of one page of a list."""
_LONGEST = 4000
_AUDITED = 20
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def audit_of(request: DashboardRequest) -> Audit:
    """The audit, with the visitor as the actor."""
    return Audit(request.parts.audit, request.visitor.actor, clock=request.parts.clock)


async def texts_of(request: DashboardRequest, names: tuple[str, ...]) -> dict[str, str]:
    """These fields of the form. Raises Problem."""
    return {name: await request.field(name, longest=_LONGEST) for name in names}


def plan_ids(request: DashboardRequest) -> list[str]:
    """The plans of the configuration."""
    return [plan.id for plan in request.parts.settings.plans]


def id_of_form(request: DashboardRequest, prefix: str, form: str) -> str:
    """Id of what a form creates. A form that is sent again names the same one; the session is in
    it, so it cannot be chosen."""
    if not form:
        raise Problem("invalid_request", message="The form is not complete; load it again.")
    digest = sha256(request.visitor.session.digest + prefix.encode() + form.encode()).digest()
    number, text = int.from_bytes(digest, "big"), ""
    while len(text) < 20:
        number, place = divmod(number, 36)
        text += _DIGITS[place]
    return f"{prefix}_{text}"


async def check_revision(request: DashboardRequest, holder: Key | TeamRecord) -> None:
    """Raises Refused if the key or team was changed since its form was loaded."""
    if await request.field("revision") != str(holder.revision):
        raise Refused("revision", "it was changed meanwhile; look at it, and send the form again")


async def catch_up(request: DashboardRequest) -> None:
    """Have a change in force in this worker at once; others follow within a second."""
    if request.parts.directory is not None:
        try:
            await request.parts.directory.refresh()
        except StoreUnavailable:
            return


async def give_credits(request: DashboardRequest, holder: Key | TeamRecord, path: str) -> Response:
    """Add or remove credits, once for each form. Raises Refused."""
    texts = await texts_of(request, ("amount", "note", "form"))
    if not texts["form"]:
        raise Problem("invalid_request", message="The form is not complete; load it again.")
    amount = texts["amount"].removeprefix("+")
    await money.credit(
        request.parts.ledger,
        audit_of(request),
        holder,
        money.amount(amount),
        now=request.now,
        note=texts["note"],
        credit_id=id_of_form(request, "form", texts["form"]),
    )
    return request.redirect(path, note="credits_changed")


async def about_holder(
    request: DashboardRequest, holder: Key | TeamRecord, limits: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the pages of a key and of a team show alike: money, use of 30 days, changes."""
    parts = request.parts
    await parts.flush()
    month = last_days(30, request.now)
    filters = Filters(key=holder.id) if isinstance(holder, Key) else Filters(team=holder.id)
    used = await parts.ledger.grouped(
        ("model",), filters, since=month.since, until=month.until, limit=100
    )
    credits_ = await parts.ledger.page(account=holder.id, kind="credit", limit=10)
    return {
        "limits": limits,
        "used": sorted(used.groups, key=lambda group: -group.spend.cost),
        "used_total": used.total,
        "balance": await money.balance(parts.ledger, holder.id, request.now),
        "credits_rows": credits_,
        "changes": await parts.audit.page(subject=holder.id, limit=_AUDITED),
    }
