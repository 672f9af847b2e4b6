"""Teams: list, create, edit, disable, credits, and the keys of a team."""

from secrets import token_urlsafe
from typing import Any

from starlette.responses import Response

from edge.dashboard.limits_form import limits_values, metadata_text, read_limits, read_metadata
from edge.dashboard.links import link
from edge.dashboard.own_limits import limits_text
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.request import DashboardRequest
from edge.management import teams
from edge.management.fields import Refused
from middlewares.problem import Problem
from middlewares.stores.keys.base import KeysWanted
from middlewares.stores.teams.base import TeamRecord, team_of

from .changes import (
    ROWS,
    about_holder,
    audit_of,
    catch_up,
    check_revision,
    give_credits,
    plan_ids,
    texts_of,
)

_FIELDS = (
    *("name", "plan", "metadata"),
    *("requests", "burst", "tokens", "concurrency", "storage", "on_excess", "overflow", "windows"),
)


async def list_teams(request: DashboardRequest) -> Response:
    """The teams, oldest first; or those with a name or id."""
    query = request.query
    text = query.get("q", "").strip()[:200]
    if text:
        found, more = await request.parts.teams.match(text), False
    else:
        found = await request.parts.teams.page(_place(query.get("after", "")), ROWS + 1)
        more, found = len(found) > ROWS, found[:ROWS]
    last = found[-1] if found else None
    return request.render(
        "admin/teams.html",
        rows=[{"team": team, "limits": limits_text(team.limits)} for team in found],
        q=text,
        first="after" not in query,
        oldest=link(request.path, query, after=None),
        newer=link(request.path, query, after=f"{last.created_at!r}~{last.id}")
        if more and last
        else "",
    )


def _place(text: str) -> tuple[float, str] | None:
    at, found, team_id = text.partition("~")
    try:
        return (float(at), team_id) if found else None
    except ValueError:
        return None


async def new_team(request: DashboardRequest) -> Response:
    """The form for a new team."""
    return _form(request, dict.fromkeys(_FIELDS, ""))


async def create(request: DashboardRequest) -> Response:
    """Create a team."""
    texts = await texts_of(request, _FIELDS)
    try:
        team = await teams.create(
            audit_of(request).teams(request.parts.teams, "team.create"),
            now=request.now,
            limits=read_limits(texts),
            plans=plan_ids(request),
            **_read(texts),
        )
    except Refused as fault:
        return _form(request, texts, fault=fault)
    return request.redirect(f"/app/admin/teams/{team.id}", note="team_created")


async def show_team(request: DashboardRequest) -> Response:
    """One team."""
    return await _shown(request, await _team(request))


async def edit_form(request: DashboardRequest) -> Response:
    """The form that changes a team."""
    team = await _team(request)
    texts = {
        "name": team.name,
        "plan": team.plan or "",
        "metadata": metadata_text(team.metadata),
        **limits_values(team.limits),
    }
    return _form(request, texts, team)


async def edit(request: DashboardRequest) -> Response:
    """Change a team."""
    team = await _team(request)
    texts = await texts_of(request, _FIELDS)
    try:
        await check_revision(request, team)
        await _edit(request, team, limits=read_limits(texts, team.limits), **_read(texts))
    except Refused as fault:
        return _form(request, texts, team, fault)
    await catch_up(request)
    return request.redirect(f"/app/admin/teams/{team.id}", note="team_saved")


async def set_disabled(request: DashboardRequest) -> Response:
    """Disable a team, which refuses all its keys, or enable it again."""
    team = await _team(request)
    disabled = await request.field("disabled") == "yes"
    await _edit(request, team, disabled=disabled)
    await catch_up(request)
    note = "team_disabled" if disabled else "team_enabled"
    return request.redirect(f"/app/admin/teams/{team.id}", note=note)


async def change_credits(request: DashboardRequest) -> Response:
    """Add or remove credits."""
    team = await _team(request)
    try:
        return await give_credits(request, team, f"/app/admin/teams/{team.id}")
    except Refused as fault:
        return await _shown(request, team, fault)


async def _team(request: DashboardRequest) -> TeamRecord:
    try:
        return await teams.get(request.parts.teams, request.params["id"])
    except Refused:
        raise Problem("not_found", message="There is no such team.") from None


def _read(texts: dict[str, str]) -> dict[str, Any]:
    return {
        "name": texts["name"],
        "plan": texts["plan"] or None,
        "metadata": read_metadata(texts["metadata"]),
    }


async def _edit(request: DashboardRequest, team: TeamRecord, **given: Any) -> TeamRecord:
    return await teams.edit(
        audit_of(request).teams(request.parts.teams, "team.edit"),
        team.id,
        plans=plan_ids(request),
        **given,
    )


def _form(
    request: DashboardRequest,
    texts: dict[str, str],
    team: TeamRecord | None = None,
    fault: Refused | None = None,
) -> Response:
    return request.render(
        "admin/team_form.html",
        200 if fault is None else 400,
        team=team,
        texts=texts,
        fault=fault,
        plan_options=[("", "none"), *((name, name) for name in plan_ids(request))],
    )


async def _shown(
    request: DashboardRequest, team: TeamRecord, fault: Refused | None = None
) -> Response:
    unreadable, limits = "", None
    try:
        limits = await request.parts.usage_report.team_limits(team_of(team))
    except Problem as problem:  # a plan that is not configured
        unreadable = problem.reason
    page = await request.parts.keys.search(KeysWanted(team=team.id), now=request.now, limit=ROWS)
    return request.render(
        "admin/team.html",
        200 if fault is None else 400,
        team=team,
        own_limits=limits_text(team.limits),
        keys=[(key, key.state(request.now)) for key in page.keys],
        more_keys=page.next is not None,
        unreadable=unreadable,
        fault=fault,
        form=token_urlsafe(16),
        **await about_holder(request, team, limits),
    )


NOTES = {
    "team_created": "The team is created.",
    "team_saved": "The team is changed. It is in force for all its keys within a second.",
    "team_disabled": "The team is disabled. Requests of its keys are refused within a second.",
    "team_enabled": "The team is enabled.",
}

PAGES = (
    Page("/app/admin/teams", ("GET",), ADMINS, list_teams, "Teams"),
    Page("/app/admin/teams", ("POST",), ADMINS, create),
    Page("/app/admin/teams/new", ("GET",), ADMINS, new_team),
    Page("/app/admin/teams/{id}", ("GET",), ADMINS, show_team),
    Page("/app/admin/teams/{id}/edit", ("GET",), ADMINS, edit_form),
    Page("/app/admin/teams/{id}/edit", ("POST",), ADMINS, edit),
    Page("/app/admin/teams/{id}/disable", ("POST",), ADMINS, set_disabled),
    Page("/app/admin/teams/{id}/credits", ("POST",), ADMINS, change_credits),
)
