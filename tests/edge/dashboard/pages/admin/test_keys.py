"""Keys as administrators manage them: each action from its form to the store, audit and ledger."""

import re
from typing import Any

import msgspec
import pytest

from edge.management import keys as management
from middlewares.pricing import NANO
from middlewares.stores.keys.base import Key, digest
from tests.asgi import Recorded
from tests.edge.dashboard.visits import PREFIXES, Browser, Site
from tests.middlewares.stores.samples import new_team

from .administrator import ACTOR, administrator, secret_of, value


async def make(site: Site, name: str, **fields: Any) -> Key:
    key, _ = await management.create(
        site.keys,
        PREFIXES,
        now=site.clock(),
        name=name,
        **{"owner": "bob", **fields},
    )
    return key


async def fill(browser: Browser, path: str, to: str, **fields: str) -> Recorded:
    """Load a form, fill in fields, and send it with the others as they are."""
    page = await browser.get(path)
    assert page.status == 200, page.text
    given = dict(
        re.findall(r'<input id="[\w-]+" name="(\w+)" type="\w+" value="([^"]*)"', page.text)
    )
    given |= dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    given |= dict(re.findall(r'<textarea id="\w+" name="(\w+)"[^>]*>([^<]*)<', page.text))
    for name, options in re.findall(
        r'<select id="\w+" name="(\w+)"[^>]*>(.*?)</select>', page.text, re.DOTALL
    ):
        chosen = re.search(r'value="([^"]*)" selected', options)
        given[name] = chosen[1] if chosen else ""
    return await browser.post(to, {}, **{**given, **fields})


async def changes(site: Site, subject: str) -> list[tuple[str, str, dict[str, Any]]]:
    rows = await site.parts.audit.page(subject=subject)
    return [(row.actor, row.action, row.detail) for row in rows]


async def test_create_shows_the_secret_once_and_keeps_what_the_form_says(site: Site) -> None:
    browser = await administrator(site)
    team = await site.keys.teams.insert(new_team(name="red"))
    fields = {
        "name": "ci",
        "owner": "carol",
        "plan": "gold",
        "team": "red",
        "expires_in": "90d",
        "requests": "30/min",
        "concurrency": "4",
        "windows": "5h 2.50\ncalendar month 40",
        "overflow": "credits",
        "models": "m1",
        "endpoints": "chat.completions, embeddings",
        "networks": "10.0.0.0/8",
        "metadata": "project = apollo",
    }
    page = await fill(browser, "/app/admin/keys/new", "/app/admin/keys", **fields)
    assert page.status == 200
    secret = secret_of(page)
    key = await site.keys.find(digest(secret))
    assert key is not None
    assert (key.name, key.owner, key.plan, key.team) == ("ci", "carol", "gold", team.id)
    assert key.limits == {
        "requests": "30/min",
        "concurrency": 4,
        "windows": [
            {"length": "5h", "credits": "2.50"},
            {"length": "calendar month", "credits": "40"},
        ],
        "overflow": "credits",
    }
    assert (key.models, key.networks) == (("m1",), ("10.0.0.0/8",))
    assert key.endpoints == ("chat.completions", "embeddings")
    assert key.metadata == {"project": "apollo"}
    assert key.expires_at == pytest.approx(site.clock() + 90 * 86_400)
    ((actor, action, detail),) = await changes(site, key.id)
    assert (actor, action, detail["name"]) == (ACTOR, "key.create", "ci")
    for path in (f"/app/admin/keys/{key.id}", "/app/admin/keys", "/app/admin/audit"):
        assert secret not in (await browser.get(path)).text


async def test_create_sent_twice_makes_one_key(site: Site) -> None:
    browser = await administrator(site)
    form = value(await browser.get("/app/admin/keys/new"), "form")
    first = await browser.post("/app/admin/keys", {}, name="ci", form=form)
    again = await browser.post("/app/admin/keys", {}, name="ci", form=form)
    assert (first.status, again.status) == (200, 303)
    assert len(await site.keys.match("ci")) == 1
    assert secret_of(first) not in again.text


@pytest.mark.parametrize(
    ("field", "text", "fault"),
    [
        ("name", "", "name"),
        ("plan", "nope", "plan"),
        ("team", "blue", "team"),
        ("models", "m2", "models"),
        ("endpoints", "chat", "endpoints"),
        ("networks", "10.0.0.1/8", "networks"),
        ("expires_in", "soon", "expires_in"),
        ("requests", "often", "limits.requests"),
        ("concurrency", "-1", "limits.concurrency"),
        ("windows", "5h", "limits.windows"),
        ("windows", "5h lots", "limits.windows"),
        ("metadata", "apollo", "metadata"),
        ("name", "sk-acme-live-" + "a" * 43, "name"),
    ],
)
async def test_create_with_a_fault_names_the_field_and_keeps_the_rest(
    site: Site, field: str, text: str, fault: str
) -> None:
    browser = await administrator(site)
    given = {"name": "ci", "owner": "carol", field: text}
    page = await fill(browser, "/app/admin/keys/new", "/app/admin/keys", **given)
    assert page.status == 400
    assert f'role="alert">{fault}' in page.text
    assert 'value="carol"' in page.text
    assert not await site.keys.match("ci")


async def test_edit_changes_what_the_form_says_and_nothing_else(site: Site) -> None:
    browser = await administrator(site)
    limits = {"requests": "30/min", "on_hangup": "drain"}
    key = await make(site, "before", plan="gold", models=["m1"], limits=limits, expires_in=86_400.0)
    path = f"/app/admin/keys/{key.id}"
    page = await fill(browser, f"{path}/edit", f"{path}/edit", name="after", tokens="9k/min")
    assert page.header("location") == f"{path}?note=key_saved"
    edited = await site.keys.get(key.id)
    assert edited is not None
    assert edited.limits == {"requests": "30/min", "tokens": "9k/min", "on_hangup": "drain"}
    same = msgspec.structs.replace(
        key, name="after", limits=edited.limits, revision=edited.revision
    )
    assert edited == same
    ((actor, action, detail), *_) = await changes(site, key.id)
    assert (actor, action) == (ACTOR, "key.edit")
    assert detail["name"] == {"from": "before", "to": "after"}
    shown = await browser.get(path)
    assert "before → after" in shown.text
    await fill(browser, f"{path}/edit", f"{path}/edit", expires_in="never", requests="", tokens="")
    edited = await site.keys.get(key.id)
    assert edited is not None
    assert (edited.expires_at, edited.limits) == (None, {"on_hangup": "drain"})


@pytest.mark.parametrize("verb", ["edit", "rotate"])
async def test_form_of_a_key_that_was_changed_meanwhile_changes_nothing(
    site: Site, verb: str
) -> None:
    browser = await administrator(site)
    key = await make(site, "k")
    changed = await site.keys.update(key.id, lambda key: msgspec.structs.replace(key, owner="dave"))
    fields = {"revision": str(key.revision), "name": "mine", "grace": "0"}
    page = await browser.post(f"/app/admin/keys/{key.id}/{verb}", {}, **fields)
    assert page.status == 400
    assert "it was changed meanwhile" in page.text
    assert await site.keys.get(key.id) == changed


async def test_disable_and_enable_are_in_force_and_in_the_audit(site: Site) -> None:
    browser = await administrator(site)
    path = f"/app/admin/keys/{site.key.id}"
    holder = await site.signed_in()
    await browser.post(f"{path}/disable", {}, disabled="yes")
    assert (await holder.get("/app")).status == 303
    assert "disabled" in (await browser.get(path)).text
    await browser.post(f"{path}/disable", {}, disabled="no")
    assert (await (await site.signed_in()).get("/app")).status == 200
    assert [action for _, action, _ in await changes(site, site.key.id)] == ["key.edit"] * 2


async def test_rotate_shows_a_new_secret_and_ends_sessions_of_the_old_one(site: Site) -> None:
    browser = await administrator(site)
    holder = await site.signed_in()
    path = f"/app/admin/keys/{site.key.id}"
    revision = value(await browser.get(path), "revision")
    page = await browser.post(f"{path}/rotate", {}, grace="0", revision=revision)
    secret = secret_of(page)
    assert secret != site.secret
    assert (await holder.get("/app")).status == 303
    assert (await (await site.signed_in(secret)).get("/app")).status == 200
    again = await browser.post(f"{path}/rotate", {}, grace="0", revision=revision)
    assert again.status == 400
    assert (await site.keys.find(digest(secret))) is not None


async def test_revoke_needs_the_name_and_is_final(site: Site) -> None:
    browser = await administrator(site)
    path = f"/app/admin/keys/{site.key.id}"
    wrong = await browser.post(f"{path}/revoke", {}, confirm="Bob's key")
    assert wrong.status == 400
    assert "expected the name of the key" in wrong.text
    await browser.post(f"{path}/revoke", {}, confirm="Ann's key")
    page = await browser.get(path)
    assert "revoked" in page.text
    assert "/revoke" not in page.text
    edited = await browser.post(f"{path}/edit", {}, name="x", revision="0")
    assert edited.status == 400


async def test_credits_are_added_and_removed_once_for_each_form(site: Site) -> None:
    browser = await administrator(site)
    path = f"/app/admin/keys/{site.key.id}"
    form = value(await browser.get(path), "form")
    for _ in range(2):
        page = await browser.post(f"{path}/credits", {}, amount="5.00", note="thanks", form=form)
        assert page.header("location") == f"{path}?note=credits_changed"
    page = await browser.get(path)
    assert "5.00 <small>credits</small>" in page.text
    assert "thanks" in page.text
    await browser.post(f"{path}/credits", {}, amount="-1.25", form=value(page, "form"))
    spent, _ = await site.ledger.spent(site.key.id, site.clock(), ())
    assert spent.credits == int(3.75 * NANO)
    actions = [(actor, action) for actor, action, _ in await changes(site, site.key.id)]
    assert actions == [(ACTOR, "credits.remove"), (ACTOR, "credits.add")]
    wrong = await browser.post(f"{path}/credits", {}, amount="lots", form="x")
    assert wrong.status == 400
    assert "amount-about" in wrong.text


async def test_search_finds_by_name_owner_prefix_id_state_and_team(site: Site) -> None:
    browser = await administrator(site)
    team = await site.keys.teams.insert(new_team(name="red"))
    key = await make(site, "Needle", owner="zoe", team=team.id, teams=site.keys.teams)
    for n in range(5):
        await make(site, f"hay {n}")
    for query in (
        "q=need",
        "q=zoe",
        f"q={key.prefix}",
        f"q={key.id}",
        f"team={team.id}",
        "q=Needle&state=active",
    ):
        page = await browser.get(f"/app/admin/keys?{query}")
        assert "Needle" in page.text, query
        assert "hay 1" not in page.text, query
    none = await browser.get("/app/admin/keys?q=Needle&state=revoked")
    assert "No key fits." in none.text


async def test_list_has_pages_of_fifty_with_every_key_once(site: Site) -> None:
    browser = await administrator(site)
    for n in range(119):
        site.clock.now += 1
        await make(site, f"key number {n}")
    path, seen = "/app/admin/keys", list[str]()
    while path:
        page = await browser.get(path)
        found = re.findall(r'href="/app/admin/keys/(key_\w+)"', page.text)
        assert len(found) <= 50
        seen += found
        older = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 120


async def test_key_of_a_plan_that_is_gone_says_why_it_is_refused(site: Site) -> None:
    browser = await administrator(site)
    key = await make(site, "old")
    await site.keys.update(key.id, lambda key: msgspec.structs.replace(key, plan="gone"))
    page = await browser.get(f"/app/admin/keys/{key.id}")
    assert page.status == 200
    assert "plan gone is not configured" in page.text
    form = await browser.get(f"/app/admin/keys/{key.id}/edit")
    assert '<option value="gone" selected>' in form.text


@pytest.mark.parametrize("verb", ["", "/edit"])
async def test_key_that_does_not_exist_is_not_found(site: Site, verb: str) -> None:
    browser = await administrator(site)
    for key_id in ("key_nothing", "x" * 150, "sk-acme-live-" + "a" * 43):
        page = await browser.get(f"/app/admin/keys/{key_id}{verb}")
        assert page.status == 404
        assert "a" * 43 not in page.text
