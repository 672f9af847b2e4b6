"""The page of API keys: who may do what with which key, and secrets that are shown once."""

import re
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from edge.dashboard.oidc.identity import rules_digest
from edge.dashboard.sessions.cookies import SECURE
from edge.management import keys as management
from middlewares.stores.keys.base import Key, is_secret
from middlewares.stores.sessions.base import Session, new_id
from tests.asgi import Recorded
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import PREFIXES, Browser, Site
from tests.middlewares.stores.samples import new_team

replace = msgspec.structs.replace
SECRET = re.compile(r"sk-[a-z0-9-]+-(?:live|test)-[0-9A-Za-z]{43}")
SELF_SERVICE = {"self_service": True}
OIDC = {"issuer": "https://id.example", "client_id": "pages"}
VERBS = ("rename", "rotate", "revoke")


async def new_key(site: Site, name: str = "other", **fields: Any) -> tuple[Key, str]:
    given = {"owner": "ann", "plan": "gold", **fields}
    changes = {field: given.pop(field) for field in ("team", "expires_at") if field in given}
    key, secret = await management.create(site.keys, PREFIXES, now=site.clock(), name=name, **given)
    if changes:
        key = await site.keys.update(key.id, lambda key: replace(key, **changes))
    return key, secret


def value(page: Recorded, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, f"no field {name}"
    return found[1]


async def do(browser: Browser, verb: str, key: Key) -> Recorded:
    """Send the form of a verb, complete, whether or not it is shown."""
    current = await browser.site.keys.get(key.id)
    revision = 0 if current is None else current.revision
    fields: dict[str, dict[str, str]] = {
        "rename": {"name": "renamed"},
        "rotate": {"grace": "0", "revision": str(revision)},
        "revoke": {"confirm": key.name},
    }
    return await browser.post(f"/app/api-keys/{key.id}/{verb}", {}, **fields[verb])


async def create(browser: Browser, **fields: str) -> Recorded:
    form = await browser.get("/app/api-keys/new")
    assert form.status == 200, form.text
    given = {"name": "child", "form": value(form, "form"), "parent": value(form, "parent")}
    return await browser.post("/app/api-keys", {}, **{**given, **fields})


async def test_own_key_is_the_only_one_without_self_service(site: Site) -> None:
    await new_key(site, "sibling of Ann")
    browser = await site.signed_in()
    page = await browser.get("/app/api-keys")
    assert page.status == 200
    assert "Ann&#39;s key" in page.text and "this one" in page.text
    assert "sibling" not in page.text and "Create a key" not in page.text
    assert site.secret not in page.text
    about = await browser.get(f"/app/api-keys/{site.key.id}")
    assert "gold" in about.text and "Rotate" in about.text and "Rename" not in about.text


async def test_siblings_are_listed_with_self_service_and_no_other(open_site: OpenSite) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    team = await site.keys.teams.insert(new_team(id="team_search", name="Search & co"))
    await new_key(site, "sibling", team=team.id, limits={"concurrency": 2})
    await new_key(site, "of bob", owner="bob")
    browser = await site.signed_in()
    page = await browser.get("/app/api-keys")
    assert "sibling" in page.text and "of bob" not in page.text
    assert "Search &amp; co" in page.text and "2 at the same time" in page.text
    assert "never" in page.text


WIDER: dict[str, dict[str, Any]] = {
    "nothing": {},
    "team": {"team": "team_a"},
    "plan": {"plan": None},
    "models": {"models": None},
    "endpoints": {"endpoints": None},
    "networks": {"networks": None},
    "limits": {"limits": None},
    "expiry": {"expires_at": None},
}
"""By field, what a sibling has more than the key that was signed in with."""
NARROW: dict[str, Any] = {
    "models": ["m1"],
    "endpoints": ["messages", "models"],
    "networks": ["127.0.0.0/8"],
    "limits": {"concurrency": 2},
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("field", WIDER)
@pytest.mark.parametrize("role", ["holder", "self_service", "stranger"])
async def test_matrix_of_role_field_and_verb(
    open_site: OpenSite, role: str, field: str, verb: str
) -> None:
    """A key changes no sibling that may do more than it, and none at all without self-service; to
    the holder of another owner's key there is no such key."""
    site = await open_site(dashboard={"self_service": role != "holder"})
    until = site.clock() + 3600
    same: dict[str, Any] = {**NARROW, "expires_at": until}
    owner = "bob" if role == "stranger" else "ann"
    _, mine = await new_key(site, "mine", owner=owner, **same)
    sibling, secret = await new_key(site, "sibling", **{**same, **WIDER[field]})
    browser = await site.signed_in(mine)
    before = await site.keys.get(sibling.id)
    answer = await do(browser, verb, sibling)
    after = await site.keys.get(sibling.id)
    if role == "self_service" and field == "nothing":
        assert answer.status in (200, 303), answer.text
        assert after != before
        return
    assert after == before
    assert not SECRET.search(answer.text) and secret not in answer.text
    if role == "self_service":
        assert answer.status == 403
    else:
        nothing = await do(browser, verb, replace(sibling, id="key_" + "0" * 20))
        assert (answer.status, nothing.status) == (404, 404)
        shown = [re.sub(r"[0-9a-f-]{36}", "", page.text) for page in (answer, nothing)]
        assert shown[0] == shown[1]


@pytest.mark.parametrize("verb", VERBS)
async def test_own_key_is_rotated_and_revoked_but_renamed_with_self_service_only(
    open_site: OpenSite, verb: str
) -> None:
    for self_service in (False, True):
        site = await open_site(dashboard={"self_service": self_service})
        browser = await site.signed_in()
        answer = await do(browser, verb, site.key)
        changed = await site.keys.get(site.key.id) != site.key
        assert changed == (self_service or verb != "rename"), answer.text


async def by_identity(site: Site, owner: str) -> Browser:
    """A visitor that has signed in by OIDC, to whom the keys of this owner belong."""
    value, now = new_id(), site.clock()
    oidc = site.parts.settings.dashboard.oidc
    assert oidc is not None
    await site.sessions.insert(
        Session(
            digest=sha256(value.encode()).digest(),
            how="oidc",
            role="holder",
            subject="https://id.example|7",
            bound_to=rules_digest(oidc),
            owner=owner,
            name="Ann",
            created_at=now,
            seen_at=now,
            expires_at=now + 3600,
        )
    )
    return site.browser(cookies={SECURE: value})


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("self_service", [True, False])
async def test_identity_manages_the_keys_of_its_owner_and_no_other(
    open_site: OpenSite, self_service: bool, verb: str
) -> None:
    """Renaming and creating need self-service; a new key is made with one that it has."""
    site = await open_site(dashboard={"self_service": self_service, "oidc": OIDC})
    other, _ = await new_key(site, "bob", owner="bob")
    ownerless, _ = await new_key(site, "without an owner", owner="")
    browser = await by_identity(site, "ann")
    page = await browser.get("/app/api-keys")
    assert "Ann&#39;s key" in page.text
    assert "bob" not in page.text and "without an owner" not in page.text
    for key in (other, ownerless):
        assert (await do(browser, verb, key)).status == 404
        assert await site.keys.get(key.id) == key
    created = await browser.post("/app/api-keys", name="x", form="f", parent=site.key.id)
    assert created.status == (200 if self_service else 403)
    assert (await browser.post("/app/api-keys", name="x", form="g")).status == 403
    await do(browser, verb, site.key)
    changed = await site.keys.get(site.key.id) != site.key
    assert changed == (self_service or verb != "rename")
    assert (await browser.get("/app/api-keys")).status == 200


async def test_identity_without_an_owner_has_no_keys(open_site: OpenSite) -> None:
    site = await open_site(dashboard={**SELF_SERVICE, "oidc": OIDC})
    ownerless, _ = await new_key(site, "without an owner", owner="")
    browser = await by_identity(site, "")
    page = await browser.get("/app/api-keys")
    assert "You have no keys" in page.text
    assert (await browser.get(f"/app/api-keys/{ownerless.id}")).status == 404
    for path in ("/app/files", "/app/jobs"):
        assert (await browser.get(path)).status == 404  # this site has neither


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"models": "m2"}, "models"),
        ({"endpoints": "chat.completions"}, "endpoints"),
        ({"networks": "0.0.0.0/0"}, "networks"),
        ({"requests": "600/min"}, "requests"),
        ({"tokens": "10M/min"}, "tokens"),
        ({"concurrency": "9"}, "concurrency"),
        ({"concurrency": "9" * 40}, "concurrency"),
        ({"window_length": "5h", "window_credits": "500"}, "windows"),
        ({"window_length": "5h"}, "window_credits"),
        ({"expires_in": "2h"}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"name": ""}, "name"),
        ({"name": "sk-" + "a1" * 12}, "name"),
    ],
)
async def test_create_key_that_may_do_more_is_refused(
    open_site: OpenSite, given: dict[str, str], field: str
) -> None:
    site = await open_site(
        dashboard=SELF_SERVICE,
        models=[
            {"id": name, "targets": [f"sim/{name}"], "price": {"input": "1", "output": "2"}}
            for name in ("m1", "m2")
        ],
    )
    _, mine = await new_key(site, "mine", **NARROW, expires_at=site.clock() + 3600)
    browser = await site.signed_in(mine)
    before = await site.keys.every()
    answer = await create(browser, **given)
    assert answer.status == 400, answer.text
    assert "<form" in answer.text and not SECRET.search(answer.text)
    assert 'class="fault"' in answer.text or "alert bad" in answer.text
    assert await site.keys.every() == before
    assert await site.parts.audit.page() == []
    assert field


@pytest.mark.parametrize("name", ["owner", "team", "plan", "metadata", "disabled", "id", "limits"])
async def test_create_ignores_fields_that_the_form_does_not_have(
    open_site: OpenSite, name: str
) -> None:
    """CVE-2026-47101: what is not on the form is taken from the parent, whatever is sent."""
    site = await open_site(dashboard=SELF_SERVICE)
    await site.keys.teams.insert(new_team(id="team_a"))
    browser = await site.signed_in()
    answer = await create(browser, **{name: "team_a"})
    assert answer.status == 200, answer.text
    child = (await site.keys.every())[-1]
    assert (child.owner, child.team, child.plan) == ("ann", None, "gold")
    assert (child.metadata, child.disabled, child.limits) == (None, False, None)


@pytest.mark.parametrize("self_service", [True, False])
async def test_create_with_the_key_of_another_is_as_with_one_that_does_not_exist(
    open_site: OpenSite, self_service: bool
) -> None:
    site = await open_site(dashboard={"self_service": self_service})
    other, _ = await new_key(site, "bob", owner="bob")
    browser = await site.signed_in()
    before = await site.keys.every()
    answers = [
        await browser.post("/app/api-keys", name="x", form="f", parent=parent)
        for parent in (other.id, "key_" + "0" * 20, "%", "'")
    ]
    assert {answer.status for answer in answers} == {404}
    assert await site.keys.every() == before
    if not self_service:
        assert (await browser.post("/app/api-keys", name="x", form="f")).status == 403
        assert (await browser.get("/app/api-keys/new")).status == 403
        assert await site.keys.every() == before


async def test_create_with_a_sibling_that_may_do_more_is_refused(open_site: OpenSite) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    _, mine = await new_key(site, "mine", **NARROW)
    browser = await site.signed_in(mine)
    answer = await browser.post("/app/api-keys", name="x", form="f", parent=site.key.id)
    assert answer.status == 403
    assert len(await site.keys.every()) == 2


async def test_create_shows_the_secret_once(open_site: OpenSite) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    browser = await site.signed_in()
    form = await browser.get("/app/api-keys/new")
    fields = {"name": "laptop", "form": value(form, "form"), "parent": value(form, "parent")}
    made = await browser.post("/app/api-keys", {}, **fields)
    assert made.status == 200
    (secret,) = set(SECRET.findall(made.text))
    assert is_secret(secret) and "data-copy" in made.text
    assert made.header("cache-control") == "no-store"
    child = next(key for key in await site.keys.every() if key.name == "laptop")
    assert (await site.directory.find(child.digest)) is not None

    again = await browser.post("/app/api-keys", {}, **fields)  # the answer is loaded again
    assert again.status == 303
    assert len(await site.keys.every()) == 2
    note = await browser.get(str(again.header("location")))
    assert "Nothing was done again" in note.text
    for path in ("/app/api-keys", f"/app/api-keys/{child.id}", "/app/api-keys/new"):
        assert secret not in (await browser.get(path)).text
    (row,) = await site.parts.audit.page()
    assert (row.actor, row.action) == (f"dashboard:{site.key.id}", "key.create")
    assert secret not in str(row)


async def test_form_of_another_session_creates_another_id(open_site: OpenSite) -> None:
    """The id of a new key cannot be chosen, nor asked for."""
    site = await open_site(dashboard=SELF_SERVICE)
    ids = set()
    for _ in range(2):
        browser = await site.signed_in()
        await browser.post("/app/api-keys", name="x", form="same", parent=site.key.id)
        ids |= {key.id for key in await site.keys.every()}
    assert len(ids) == 3
    browser = await site.signed_in()
    assert (await browser.post("/app/api-keys", name="x", parent=site.key.id)).status == 400


async def test_number_of_keys_of_an_owner_is_bounded(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.dashboard.pages.api_keys.MOST", 3)
    site = await open_site(dashboard=SELF_SERVICE)
    browser = await site.signed_in()
    assert [(await create(browser)).status for _ in range(3)] == [200, 200, 400]
    page = await browser.get("/app/api-keys")
    child = next(key for key in await site.keys.every() if key.name == "child")
    assert page.text.count("child") == 2
    await do(browser, "revoke", child)
    assert (await create(browser)).status == 200


async def test_rotate_shows_the_secret_once_and_keeps_the_browser_signed_in(site: Site) -> None:
    browser, other = await site.signed_in(), await site.signed_in()
    page = await browser.get(f"/app/api-keys/{site.key.id}")
    fields = {"grace": "1h", "revision": value(page, "revision")}
    turned = await browser.post(f"/app/api-keys/{site.key.id}/rotate", {}, **fields)
    (secret,) = set(SECRET.findall(turned.text))
    assert secret != site.secret
    key = await site.keys.get(site.key.id)
    assert key is not None and key.previous_until == site.clock() + 3600
    again = await browser.post(f"/app/api-keys/{site.key.id}/rotate", {}, **fields)
    assert again.status == 303
    assert await site.keys.get(site.key.id) == key
    assert (await browser.get("/app/api-keys")).status == 200
    assert (await other.get("/app/api-keys")).status == 303  # that of the old secret has ended
    assert (await site.signed_in(secret)).cookies


async def test_revoke_needs_the_name_and_ends_the_session(site: Site) -> None:
    browser, other = await site.signed_in(), await site.signed_in()
    path = f"/app/api-keys/{site.key.id}/revoke"
    for wrong in ("", "ann's key", site.key.id):
        answer = await browser.post(path, confirm=wrong)
        assert answer.status == 400
        assert "expected the name of the key" in answer.text
    assert await site.keys.get(site.key.id) == site.key
    answer = await browser.post(path, confirm=" Ann's key ")
    assert (answer.status, answer.header("location")) == (
        303,
        "/app/sign-in?note=own_key_revoked",
    )
    assert not browser.cookies
    for one in (browser, other):
        assert (await one.get("/app/api-keys")).status == 303
    key = await site.keys.get(site.key.id)
    assert key is not None and key.revoked_at is not None
    (row,) = await site.parts.audit.page()
    assert (row.actor, row.action) == (f"dashboard:{site.key.id}", "key.revoke")


async def test_forms_of_a_revoked_or_expired_sibling_do_nothing(open_site: OpenSite) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    gone, _ = await new_key(site, "gone")
    await management.revoke(site.keys, gone.id, now=1.0)
    browser = await site.signed_in()
    page = await browser.get(f"/app/api-keys/{gone.id}")
    assert page.status == 200 and "<form" not in page.text.partition("<main")[2]
    for verb in VERBS:
        assert (await do(browser, verb, gone)).status in (400, 403)
    late, _ = await new_key(site, "late", expires_at=site.clock() - 1)
    assert (await do(browser, "rotate", late)).status == 400


@pytest.mark.parametrize("path", ["/app/api-keys", "/app/api-keys/new"])
async def test_pages_of_many_keys_have_each_once(open_site: OpenSite, path: str) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    for n in range(60):
        site.clock.now += 1
        await new_key(site, f"sibling-{n:02}-")
    browser = await site.signed_in()
    if path.endswith("new"):
        assert (await browser.get(path)).status == 200
        return
    seen: list[str] = []
    where = path
    while True:
        page = await browser.get(where)
        assert page.status == 200
        seen += re.findall(r"sibling-\d\d-", page.text)
        older = re.search(r'href="(/app/api-keys\?after=[^"]+)"', page.text)
        if older is None:
            break
        where = older[1]
    assert seen == [f"sibling-{n:02}-" for n in range(59, -1, -1)]
    for wrong in ("x", "_", "nan_x", "1e999_x", "1_", "%00"):
        assert (await browser.get(f"/app/api-keys?after={wrong}")).status == 200


NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "'-alert(1)-'")


@pytest.mark.parametrize("name", NASTY)
async def test_names_are_escaped(open_site: OpenSite, name: str) -> None:
    site = await open_site(dashboard=SELF_SERVICE)
    await site.keys.teams.insert(new_team(id="team_a", name=name))
    key, _ = await new_key(site, name, team="team_a")
    browser = await site.signed_in()
    for path in (
        "/app/api-keys",
        f"/app/api-keys/{key.id}",
        f"/app/api-keys/new?parent={site.key.id}",
    ):
        page = await browser.get(path)
        assert page.status == 200
        assert "<script>alert" not in page.text and "<img" not in page.text
        assert "49" not in re.findall(r">(49)<", page.text)
    answer = await create(browser, name=name, models="no such")
    assert answer.status == 400 and "<script>alert" not in answer.text


async def test_new_key_is_offered_the_endpoints_of_the_gateway(open_site: OpenSite) -> None:
    site = await open_site(
        endpoints=["chat.completions", "models"], dashboard={"self_service": True}
    )
    page = (await (await site.signed_in()).get(f"/app/api-keys/new?parent={site.key.id}")).text
    assert 'value="chat.completions"' in page
    assert 'value="embeddings"' not in page
