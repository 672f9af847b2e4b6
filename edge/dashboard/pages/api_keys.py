"""The API keys of the visitor: list, show, create, rename, rotate and revoke.

A secret is in the answer to the form that made it, and nowhere else. A form that is sent again,
as browsers do when such an answer is loaded again, changes nothing: it names the id of the key
that it creates, or the revision of the key that it rotates.
"""

from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, NamedTuple

from starlette.responses import Response

from edge.config.units import Duration
from edge.dashboard.oidc.identity import allowed_for
from edge.dashboard.own_limits import limits_text
from edge.dashboard.page import HOLDERS, Page
from edge.dashboard.request import DashboardRequest
from edge.management import keys
from edge.management.audit import Audit
from edge.management.fields import Refused
from edge.management.money import principal
from edge.management.self_service import ChildKey, create_child, create_for_owner, longest_window
from middlewares.exchange import Principal
from middlewares.problem import Problem
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.base import Key, KeysWanted
from middlewares.stores.teams.base import TeamRecord

_ROWS = 25
_DAY = 86_400
_GRACES = {"0": 0, "1h": 3_600, "1d": _DAY, "7d": 7 * _DAY}
"""Seconds for which a rotated secret still works, by what the form sends."""
MOST = 100
"""Usable keys of one owner that its holders may create."""


class Verbs(NamedTuple):
    """What the visitor may do with one key."""

    manage: bool
    """Rotate and revoke it."""
    rename: bool
    create: bool
    """Create further keys with it."""


def verbs(request: DashboardRequest, key: Key) -> Verbs:
    """What the visitor may do with a key that it sees."""
    self_service = request.parts.settings.dashboard.self_service
    manage = request.may_work_with(key)
    usable = key.usable_until(key.digest) > request.now
    # With another key than the one that was signed in with, it may do more than that.
    create = self_service and bool(key.owner) and usable and manage
    return Verbs(manage and key.revoked_at is None, manage and self_service, create)


async def list_keys(request: DashboardRequest) -> Response:
    """The visitor's keys, newest first."""
    return await _list(request)


async def _list(request: DashboardRequest, fault: Refused | None = None) -> Response:
    after = _place(request.query.get("after", ""))
    visitor, parts = request.visitor, request.parts
    following = None
    if visitor.owner:
        page = await parts.keys.search(
            KeysWanted(owner=visitor.owner), now=request.now, after=after, limit=_ROWS
        )
        found, following = page.keys, page.next
    else:
        found = [] if visitor.key is None else [await request.key(visitor.key.id)]
    teams = await _teams_of(request, found)
    rows = [await _row(request, key, teams) for key in found]
    return request.render(
        "api_keys.html",
        200 if fault is None else 400,
        allowed=allowed_for(visitor, parts.settings),
        form=token_urlsafe(16),
        fault=fault,
        rows=rows,
        parents=[row["key"] for row in rows if row["verbs"].create],
        next=None if following is None else f"{following[0]!r}_{following[1]}",
        first=after is None,
    )


async def show_key(request: DashboardRequest) -> Response:
    """One key, with the forms that change it."""
    return await _shown(request, await request.key(request.params["id"]))


async def _shown(
    request: DashboardRequest, key: Key, fault: Refused | None = None, status: int = 200
) -> Response:
    teams = await _teams_of(request, [key])
    return request.render(
        "api_key.html",
        status,
        **await _row(request, key, teams),
        graces=_GRACES,
        fault=fault,
        endpoints=key.endpoints,
    )


async def new_key(request: DashboardRequest) -> Response:
    """The form for a new key. `parent` names the key that it is created with."""
    return await _form(request, await _parent(request, request.query.get("parent", "")), {})


async def _form(
    request: DashboardRequest,
    parent: Key,
    given: dict[str, list[str]],
    fault: Refused | None = None,
) -> Response:
    may = principal(parent, None)
    offered = request.parts.settings.offered
    limits = request.parts.plans.limits(may)
    return request.render(
        "api_key_new.html",
        200 if fault is None else 400,
        parent=parent,
        limits=limits,
        models=[model.id for model in request.parts.catalog.visible(may)],
        endpoints=sorted(offered.intersection(parent.endpoints or offered)),
        given=given,
        fault=fault,
        form=token_urlsafe(16),
    )


async def create(request: DashboardRequest) -> Response:
    """Create a key, and show its secret."""
    form = await request.form()
    parent = await _parent(request, await request.field("parent"))
    key_id = _id_of(request, await request.field("form", longest=64))
    if await request.parts.keys.get(key_id) is not None:
        return await _sent_before(request)
    try:
        await _check_room(request, parent)
        asked = await _asked(request, form)
        key, secret = await create_child(
            _audit(request).keys(request.parts.keys, "key.create"),
            request.parts.teams,
            request.parts.settings.key_prefixes,
            parent,
            asked,
            request.parts.plans,
            now=request.now,
            key_id=key_id,
            known_plans={plan.id for plan in request.parts.settings.plans},
        )
    except Refused as fault:
        return await _form(request, parent, form, fault)
    except ValueError:  # the same form, sent twice at once
        return await _sent_before(request)
    return request.render("api_key_secret.html", key=key, secret=secret, created=True, grace=0)


async def create_own(request: DashboardRequest) -> Response:
    """Create a key for a person, as `dashboard.oidc.auto_create` allows, and show its secret."""
    parts, owner = request.parts, request.visitor.owner
    allowed = allowed_for(request.visitor, parts.settings)
    if allowed is None:
        raise _may_not()
    key_id = _id_of(request, await request.field("form", longest=64))
    if await parts.keys.get(key_id) is not None:
        return await _sent_before(request)
    try:
        key, secret = await create_for_owner(
            _audit(request).keys(parts.keys, "key.create"),
            parts.teams,
            parts.settings.key_prefixes,
            owner,
            name=await request.field("name"),
            plan=allowed.plan,
            team=allowed.team,
            most=allowed.keys,
            counts_for=longest_window(parts.plans.limits(Principal(id="", plan=allowed.plan))),
            now=request.now,
            key_id=key_id,
        )
    except Refused as fault:
        return await _list(request, fault)
    except ValueError:  # the same form, sent twice at once
        return await _sent_before(request)
    return request.render("api_key_secret.html", key=key, secret=secret, created=True, grace=0)


async def _check_room(request: DashboardRequest, parent: Key) -> None:
    wanted = KeysWanted(owner=parent.owner, state="active")
    count, after = 0, None
    while True:
        page = await request.parts.keys.search(
            wanted, now=request.now, after=after, limit=MOST - count
        )
        count, after = count + len(page.keys), page.next
        if count >= MOST:
            raise Refused("name", f"{MOST} keys are active; revoke one first")
        if after is None:
            return


async def _asked(request: DashboardRequest, form: dict[str, list[str]]) -> ChildKey:
    """What the form asks for. Raises Refused."""

    async def text(name: str) -> str | None:
        return await request.field(name) or None

    concurrency, length = await text("concurrency"), await text("window_length")
    cap, expires = await text("window_credits"), await text("expires_in")
    if concurrency is not None and not (
        concurrency.isascii() and concurrency.isdigit() and 0 < len(concurrency) < 7
    ):
        raise Refused("concurrency", "expected a whole number, or nothing")
    if (length is None) != (cap is None):
        raise Refused("window_credits", "expected both a length and credits, or neither")
    try:
        expires_in = None if expires is None else float(Duration.parse(expires))
    except ValueError as raised:
        raise Refused("expires_in", str(raised)) from None
    networks = (await request.field("networks", longest=2_000)).split()
    chosen = [name for name in form.get("models", []) if name]
    for name in chosen:
        if request.parts.catalog.grant(name) != name:
            raise Refused("models", "expected models of the list")
    return ChildKey(
        name=await request.field("name"),
        models=chosen or None,
        endpoints=[name for name in form.get("endpoints", []) if name] or None,
        networks=networks or None,
        requests=await text("requests"),
        tokens=await text("tokens"),
        concurrency=None if concurrency is None else int(concurrency),
        window=None if length is None or cap is None else (length, cap),
        expires_in=expires_in,
    )


async def rename(request: DashboardRequest) -> Response:
    """Give a key another name."""
    key = await request.key(request.params["id"])
    if not verbs(request, key).rename:
        raise _may_not()
    try:
        await keys.edit(
            _audit(request).keys(request.parts.keys, "key.edit"),
            key.id,
            now=request.now,
            name=await request.field("name"),
        )
    except Refused as fault:
        return await _shown(request, key, fault, 400)
    await _catch_up(request)
    return request.redirect(f"/app/api-keys/{key.id}", note="key_renamed")


async def rotate(request: DashboardRequest) -> Response:
    """Give a key a new secret, and show it."""
    key = await request.key(request.params["id"])
    if not verbs(request, key).manage:
        raise _may_not()
    grace = _GRACES.get(await request.field("grace"))
    if grace is None:
        raise Problem("invalid_request", message="Choose how long the old secret still works.")
    if await request.field("revision") != str(key.revision):
        return await _sent_before(request)
    try:
        turned, secret = await keys.rotate(
            _audit(request).keys(request.parts.keys, "key.rotate"),
            request.parts.settings.key_prefixes,
            key.id,
            now=request.now,
            grace=grace,
            revision=key.revision,
        )
    except Refused as fault:
        return await _shown(request, key, fault, 400)
    response = request.render(
        "api_key_secret.html", key=turned, secret=secret, created=False, grace=grace
    )
    own = request.visitor.key
    if own is not None and own.id == key.id:
        # The session ends with the old secret; this browser goes on with the new one.
        cookie = await request.sessions.open(
            request.scope, "key", "holder", key.id, bound_to=turned.digest
        )
        response.headers.append("set-cookie", cookie)
    await _catch_up(request)
    return response


async def revoke(request: DashboardRequest) -> Response:
    """Revoke a key whose name was typed."""
    key = await request.key(request.params["id"])
    if not verbs(request, key).manage:
        raise _may_not()
    if await request.field("confirm") != key.name.strip():
        fault = Refused("confirm", "expected the name of the key, as it is written above")
        return await _shown(request, key, fault, 400)
    await keys.revoke(
        _audit(request).keys(request.parts.keys, "key.revoke"), key.id, now=request.now
    )
    await _catch_up(request)
    own = request.visitor.key
    if own is not None and own.id == key.id:
        await request.sessions.close_all(request.visitor)
        response = request.redirect("/app/sign-in", note="own_key_revoked")
        response.headers.append("set-cookie", await request.sessions.close(request.scope))
        return response
    return request.redirect("/app/api-keys", note="key_revoked")


async def _row(request: DashboardRequest, key: Key, teams: dict[str, TeamRecord]) -> dict[str, Any]:
    """What the templates show of a key."""
    used = await request.parts.ledger.page(account=key.id, kind="use", limit=1)
    team = None if key.team is None else teams.get(key.team)
    state = keys.described(key, request.now)["state"]
    if state == "active" and key.team is not None and (team is None or team.disabled):
        state = "team disabled"
    return {
        "key": key,
        "state": state,
        "team": team,
        "limits": limits_text(key.limits),
        "last_used": used[0].at if used else None,
        "own": request.visitor.key is not None and request.visitor.key.id == key.id,
        "verbs": verbs(request, key),
    }


async def _teams_of(request: DashboardRequest, found: list[Key]) -> dict[str, TeamRecord]:
    ids = {key.team for key in found if key.team is not None}
    return {team.id: team for team in await request.parts.teams.get_many(ids)}


async def _parent(request: DashboardRequest, key_id: str) -> Key:
    """The key that a new one is created with. Raises Problem, the same for every reason."""
    own = request.visitor.key
    if not key_id and own is not None:
        key_id = own.id
    if key_id:
        parent = await request.key(key_id)
        if verbs(request, parent).create:
            return parent
    raise _may_not()


def _may_not() -> Problem:
    return Problem(
        "endpoint_not_allowed", message="You may not do this with this key.", reason="self-service"
    )


async def _sent_before(request: DashboardRequest) -> Response:
    return request.redirect("/app/api-keys", note="sent_before")


def _id_of(request: DashboardRequest, form: str) -> str:
    """Id of the key that a form creates. The session is in it, so it cannot be chosen."""
    if not form:
        raise Problem("invalid_request", message="The form is not complete; load it again.")
    digest = sha256(request.visitor.session.digest + form.encode()).digest()
    number, text = int.from_bytes(digest, "big"), ""
    while len(text) < 20:
        number, place = divmod(number, 36)
        text += "0123456789abcdefghijklmnopqrstuvwxyz"[place]
    return f"key_{text}"


def _audit(request: DashboardRequest) -> Audit:
    return Audit(request.parts.audit, request.visitor.actor, clock=request.parts.clock)


async def _catch_up(request: DashboardRequest) -> None:
    """Have the change in force in this worker at once; others follow within a second."""
    if request.parts.directory is not None:
        try:
            await request.parts.directory.refresh()
        except StoreUnavailable:
            return


def _place(text: str) -> tuple[float, str] | None:
    at, found, key_id = text.partition("_")
    try:
        return (float(at), key_id) if found else None
    except ValueError:
        return None


NOTES = {
    "key_renamed": "The key has its new name.",
    "key_revoked": "The key is revoked. Requests with it are refused within a second.",
    "own_key_revoked": "The key is revoked, and you are signed out.",
    "sent_before": "This form was sent before, or the key was changed meanwhile. Nothing was done "
    "again. A secret is shown once: if you have not kept it, rotate the key.",
}

PAGES = (
    Page("/app/api-keys", ("GET",), HOLDERS, list_keys, "API keys"),
    Page("/app/api-keys", ("POST",), HOLDERS, create),
    Page("/app/api-keys/own", ("POST",), HOLDERS, create_own),
    Page("/app/api-keys/new", ("GET",), HOLDERS, new_key),
    Page("/app/api-keys/{id}", ("GET",), HOLDERS, show_key),
    Page("/app/api-keys/{id}/rename", ("POST",), HOLDERS, rename),
    Page("/app/api-keys/{id}/rotate", ("POST",), HOLDERS, rotate),
    Page("/app/api-keys/{id}/revoke", ("POST",), HOLDERS, revoke),
)
