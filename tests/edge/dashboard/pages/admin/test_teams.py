"""Teams as administrators manage them."""

import re

import pytest

from middlewares.pricing import NANO
from middlewares.stores.keys.base import digest
from tests.edge.dashboard.visits import Site
from tests.middlewares.stores.samples import new_team

from .administrator import ACTOR, administrator, secret_of, value


async def test_create_edit_and_disable_a_team(site: Site) -> None:
    browser = await administrator(site)
    made = await browser.post(
        "/app/admin/teams",
        {},
        name="red",
        plan="gold",
        requests="90/min",
        windows="7d 10 aligned",
        metadata="cost = 7",
    )
    assert made.status == 303
    (team,) = await site.keys.teams.match("red")
    assert (team.plan, team.metadata) == ("gold", {"cost": "7"})
    assert team.limits == {
        "requests": "90/min",
        "windows": [{"length": "7d", "credits": "10", "aligned": True}],
    }
    path = f"/app/admin/teams/{team.id}"
    page = await browser.get(path)
    assert "10.00" in page.text and "90" in page.text
    form = await browser.get(f"{path}/edit")
    assert "7d 10 aligned" in form.text
    saved = await browser.post(f"{path}/edit", {}, name="crimson", revision=value(form, "revision"))
    assert saved.header("location") == f"{path}?note=team_saved"
    stale = await browser.post(f"{path}/edit", {}, name="x", revision=value(form, "revision"))
    assert stale.status == 400
    edited = await site.keys.teams.get(team.id)
    assert edited is not None
    assert (edited.name, edited.plan, edited.limits) == ("crimson", None, None)
    await browser.post(f"{path}/disable", {}, disabled="yes")
    disabled = await site.keys.teams.get(team.id)
    assert disabled is not None and disabled.disabled
    rows = await site.parts.audit.page(subject=team.id)
    assert [row.action for row in rows] == ["team.edit", "team.edit", "team.create"]
    assert {row.actor for row in rows} == {ACTOR}


async def test_disabled_team_refuses_its_keys_at_once(site: Site) -> None:
    browser = await administrator(site)
    team = await site.keys.teams.insert(new_team(name="red"))
    form = await browser.get(f"/app/admin/keys/new?team={team.id}")
    page = await browser.post(
        "/app/admin/keys", {}, name="member", team=team.id, form=value(form, "form")
    )
    secret = secret_of(page)
    key = await site.keys.find(digest(secret))
    assert key is not None and key.team == team.id
    assert (await (await site.signed_in(secret)).get("/app")).status == 200
    assert "member" in (await browser.get(f"/app/admin/teams/{team.id}")).text
    await browser.post(f"/app/admin/teams/{team.id}/disable", {}, disabled="yes")
    refused = await site.browser().post("/app/sign-in", key=secret)
    assert refused.status == 401
    assert "team disabled" in (await browser.get(f"/app/admin/keys/{key.id}")).text


async def test_credits_of_a_team(site: Site) -> None:
    browser = await administrator(site)
    team = await site.keys.teams.insert(new_team(name="red"))
    path = f"/app/admin/teams/{team.id}"
    form = value(await browser.get(path), "form")
    for _ in range(2):
        await browser.post(f"{path}/credits", {}, amount="7", form=form)
    spent, _ = await site.ledger.spent(team.id, site.clock(), ())
    assert spent.credits == 7 * NANO


@pytest.mark.parametrize(
    ("field", "text"), [("name", ""), ("plan", "nope"), ("tokens", "x"), ("burst", "1.5")]
)
async def test_create_with_a_fault_names_the_field(site: Site, field: str, text: str) -> None:
    browser = await administrator(site)
    page = await browser.post("/app/admin/teams", {}, **{"name": "red", field: text})
    assert page.status == 400
    assert field in page.text.partition('role="alert">')[2][:60]
    assert not await site.keys.teams.match("red")


async def test_list_has_pages_of_fifty(site: Site) -> None:
    browser = await administrator(site)
    for n in range(60):
        await site.keys.teams.insert(new_team(name=f"team number {n}"))
    path, seen = "/app/admin/teams", list[str]()
    while path:
        page = await browser.get(path)
        found = re.findall(r'<th scope="row"><a href="/app/admin/teams/(team_\w+)"', page.text)
        assert len(found) <= 50
        seen += found
        newer = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = newer[1].replace("&amp;", "&") if newer else ""
    assert len(seen) == len(set(seen)) == 60
    one = await browser.get("/app/admin/teams?q=team%20number%2059")
    assert one.text.count("/app/admin/teams/team_") == 1


async def test_team_that_does_not_exist_is_not_found(site: Site) -> None:
    browser = await administrator(site)
    for path in ("/app/admin/teams/team_x", "/app/admin/teams/team_x/edit"):
        assert (await browser.get(path)).status == 404
