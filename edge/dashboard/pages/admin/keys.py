"""Keys: search, create, edit, disable, rotate, revoke, credits.

A secret is in the answer to the form that made it, and nowhere else.
"""

from secrets import token_urlsafe
from typing import Any

from starlette.responses import Response

from edge.config.units import Duration
from edge.dashboard.limits_form import (
    limits_values,
    metadata_text,
    read_limits,
    read_metadata,
    read_names,
)
from edge.dashboard.links import link
from edge.dashboard.own_limits import limits_text
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.request import DashboardRequest
from edge.management import keys, teams
from edge.management.fields import Refused
from edge.management.money import principal
from middlewares.problem import Problem
from middlewares.stores.keys.base import Key, KeysWanted
from middlewares.stores.teams.base import TeamRecord

from .changes import (
    ROWS,
    about_holder,
    audit_of,
    catch_up,
    check_revision,
    give_credits,
    id_of_form,
    plan_ids,
    texts_of,
)

_STATES = ("active", "disabled", "expired", "revoked")
_FIELDS = (
    *("name", "owner", "plan", "team", "models", "endpoints", "networks", "metadata"),
    *("requests", "burst", "tokens", "concurrency", "storage", "on_excess", "overflow", "windows"),
    *("expires_in", "mode"),
)
GRACES = {"0": 0, "1h": 3_600, "1d": 86_400, "7d": 7 * 86_400}
"""Seconds for which a rotated secret still works, by what the form sends."""


async def list_keys(request: DashboardRequest) -> Response:
    """The keys that match, newest first."""
    query = request.query
    text, team = query.get("q", "").strip()[:200], query.get("team", "").strip()[:64]
    state = next((one for one in _STATES if one == query.get("state")), None)
    page = await request.parts.keys.search(
        KeysWanted(text=text, team=team or None, state=state),  # type: ignore[arg-type]
        now=request.now,
        after=_place(query.get("after", "")),
        limit=ROWS,
    )
    used = await request.parts.ledger.last_used([key.id for key in page.keys])
    ids = {key.team for key in page.keys if key.team}
    return request.render(
        "admin/keys.html",
        rows=[
            {
                "key": key,
                "state": key.state(request.now),
                "limits": limits_text(key.limits),
                "last_used": used.get(key.id),
            }
            for key in page.keys
        ],
        teams={one.id: one.name for one in await request.parts.teams.get_many(ids)},
        q=text,
        team=team,
        state=state or "",
        states=_STATES,
        filtered=bool(text or team or state),
        first="after" not in query,
        newest=link(request.path, query, after=None),
        older=""
        if page.next is None
        else link(request.path, query, after=f"{page.next[0]!r}~{page.next[1]}"),
    )


def _place(text: str) -> tuple[float, str] | None:
    at, found, key_id = text.partition("~")
    try:
        return (float(at), key_id) if found else None
    except ValueError:
        return None


async def new_key(request: DashboardRequest) -> Response:
    """The form for a new key."""
    team = request.query.get("team", "")[:64]
    return await _form(request, dict.fromkeys(_FIELDS, "") | {"team": team})


async def create(request: DashboardRequest) -> Response:
    """Create a key, and show its secret."""
    texts = await texts_of(request, _FIELDS)
    key_id = id_of_form(request, "key", await request.field("form"))
    if await request.parts.keys.get(key_id) is not None:
        return request.redirect(f"/app/admin/keys/{key_id}", note="sent_before")
    parts = request.parts
    try:
        given = await _read(request, texts)
        key, secret = await keys.create(
            audit_of(request).keys(parts.keys, "key.create"),
            parts.settings.key_prefixes,
            now=request.now,
            mode="test" if texts["mode"] == "test" else "live",
            limits=read_limits(texts),
            expires_in=_expires_in(texts),
            plans=plan_ids(request),
            teams=parts.teams,
            key_id=key_id,
            **given,
        )
    except Refused as fault:
        return await _form(request, texts, fault=fault)
    return request.render("admin/secret.html", key=key, secret=secret, created=True, grace=0)


async def show_key(request: DashboardRequest) -> Response:
    """One key."""
    return await _shown(request, await _key(request))


async def edit_form(request: DashboardRequest) -> Response:
    """The form that changes a key."""
    key = await _key(request)
    texts = {
        **dict.fromkeys(_FIELDS, ""),
        "name": key.name,
        "owner": key.owner,
        "plan": key.plan or "",
        "team": key.team or "",
        "models": "\n".join(key.models or ()),
        "endpoints": "\n".join(key.endpoints or ()),
        "networks": "\n".join(key.networks or ()),
        "metadata": metadata_text(key.metadata),
        **limits_values(key.limits),
    }
    return await _form(request, texts, key)


async def edit(request: DashboardRequest) -> Response:
    """Change a key."""
    key = await _key(request)
    texts = await texts_of(request, _FIELDS)
    try:
        await check_revision(request, key)
        given = await _read(request, texts)
        if texts["expires_in"]:
            given["expires_in"] = None if texts["expires_in"] == "never" else _expires_in(texts)
        await _edit(request, key, limits=read_limits(texts, key.limits), **given)
    except Refused as fault:
        return await _form(request, texts, key, fault)
    await catch_up(request)
    return request.redirect(f"/app/admin/keys/{key.id}", note="key_saved")


async def set_disabled(request: DashboardRequest) -> Response:
    """Disable a key, or enable it again."""
    key = await _key(request)
    disabled = await request.field("disabled") == "yes"
    try:
        await _edit(request, key, disabled=disabled)
    except Refused as fault:
        return await _shown(request, key, fault)
    await catch_up(request)
    note = "key_disabled" if disabled else "key_enabled"
    return request.redirect(f"/app/admin/keys/{key.id}", note=note)


async def rotate(request: DashboardRequest) -> Response:
    """Give a key a new secret, and show it."""
    key = await _key(request)
    grace = GRACES.get(await request.field("grace"))
    if grace is None:
        raise Problem("invalid_request", message="Choose how long the old secret still works.")
    try:
        await check_revision(request, key)
        turned, secret = await keys.rotate(
            audit_of(request).keys(request.parts.keys, "key.rotate"),
            request.parts.settings.key_prefixes,
            key.id,
            now=request.now,
            grace=grace,
            revision=key.revision,
        )
    except Refused as fault:
        return await _shown(request, key, fault)
    await catch_up(request)
    return request.render(
        "admin/secret.html", key=turned, secret=secret, created=False, grace=grace
    )


async def revoke(request: DashboardRequest) -> Response:
    """Revoke a key whose name was typed."""
    key = await _key(request)
    if await request.field("confirm") != (key.name.strip() or key.id):
        fault = Refused("confirm", "expected the name of the key, as it is written above")
        return await _shown(request, key, fault)
    await keys.revoke(
        audit_of(request).keys(request.parts.keys, "key.revoke"), key.id, now=request.now
    )
    await catch_up(request)
    return request.redirect(f"/app/admin/keys/{key.id}", note="admin_key_revoked")


async def change_credits(request: DashboardRequest) -> Response:
    """Add or remove credits."""
    key = await _key(request)
    try:
        return await give_credits(request, key, f"/app/admin/keys/{key.id}")
    except Refused as fault:
        return await _shown(request, key, fault)


async def _key(request: DashboardRequest) -> Key:
    try:
        return await keys.get(request.parts.keys, request.params["id"])
    except Refused:
        raise Problem("not_found", message="There is no such key.") from None


async def _edit(request: DashboardRequest, key: Key, **given: Any) -> Key:
    return await keys.edit(
        audit_of(request).keys(request.parts.keys, "key.edit"),
        key.id,
        now=request.now,
        plans=plan_ids(request),
        teams=request.parts.teams,
        **given,
    )


async def _read(request: DashboardRequest, texts: dict[str, str]) -> dict[str, Any]:
    """The fields that creation and editing have in common. Raises Refused."""
    granted: list[str] | None = None
    for name in read_names(texts["models"]) or ():
        grant = request.parts.catalog.grant(name)
        if grant is None:
            raise Refused("models", f"{name!r:.80} is no model of the configuration")
        granted = [*(granted or ()), grant]
    team = texts["team"]
    return {
        "name": texts["name"],
        "owner": texts["owner"],
        "plan": texts["plan"] or None,
        "team": (await teams.show(request.parts.teams, team)).id if team else None,
        "models": granted,
        "endpoints": read_names(texts["endpoints"]),
        "networks": read_names(texts["networks"]),
        "metadata": read_metadata(texts["metadata"]),
    }


def _expires_in(texts: dict[str, str]) -> float | None:
    text = texts["expires_in"]
    try:
        return float(Duration.parse(text)) if text else None
    except ValueError as raised:
        raise Refused("expires_in", str(raised)) from None


async def _form(
    request: DashboardRequest,
    texts: dict[str, str],
    key: Key | None = None,
    fault: Refused | None = None,
) -> Response:
    return request.render(
        "admin/key_form.html",
        200 if fault is None else 400,
        key=key,
        texts=texts,
        fault=fault,
        plan_options=[("", "none"), *((name, name) for name in plan_ids(request))],
        models=[model.id for model in request.parts.settings.models],
        endpoints=sorted(
            request.parts.settings.offered.union((key.endpoints if key else None) or ())
        ),
        form=token_urlsafe(16),
    )


async def _shown(request: DashboardRequest, key: Key, fault: Refused | None = None) -> Response:
    team: TeamRecord | None = None
    if key.team is not None:
        team = await request.parts.teams.get(key.team)
    unreadable, limits = "", None
    try:
        limits = await request.parts.usage_report.limits(principal(key, team))
    except Problem as problem:  # a plan that is not configured
        unreadable = problem.reason
    used = await request.parts.ledger.last_used([key.id])
    return request.render(
        "admin/key.html",
        200 if fault is None else 400,
        key=key,
        team=team,
        state=key.state(request.now),
        own_limits=limits_text(key.limits),
        last_used=used.get(key.id),
        unreadable=unreadable,
        fault=fault,
        graces=GRACES,
        form=token_urlsafe(16),
        **await about_holder(request, key, limits),
    )


NOTES = {
    "key_saved": "The key is changed. It is in force everywhere within a second.",
    "key_disabled": "The key is disabled. Requests with it are refused within a second.",
    "key_enabled": "The key is enabled.",
    "admin_key_revoked": "The key is revoked. Requests with it are refused within a second.",
    "credits_changed": "The credits are changed.",
}

PAGES = (
    Page("/app/admin/keys", ("GET",), ADMINS, list_keys, "All keys"),
    Page("/app/admin/keys", ("POST",), ADMINS, create),
    Page("/app/admin/keys/new", ("GET",), ADMINS, new_key),
    Page("/app/admin/keys/{id}", ("GET",), ADMINS, show_key),
    Page("/app/admin/keys/{id}/edit", ("GET",), ADMINS, edit_form),
    Page("/app/admin/keys/{id}/edit", ("POST",), ADMINS, edit),
    Page("/app/admin/keys/{id}/disable", ("POST",), ADMINS, set_disabled),
    Page("/app/admin/keys/{id}/rotate", ("POST",), ADMINS, rotate),
    Page("/app/admin/keys/{id}/revoke", ("POST",), ADMINS, revoke),
    Page("/app/admin/keys/{id}/credits", ("POST",), ADMINS, change_credits),
)
