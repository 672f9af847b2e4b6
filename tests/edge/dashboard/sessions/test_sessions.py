"""Sessions begin at sign-in and end with what they were opened with, by age, and at sign-out."""

import msgspec
import pytest

from edge.dashboard.sessions.password_hash import new_hash
from edge.management import keys as management
from middlewares.stores.keys.base import Key
from middlewares.stores.sessions.base import IDLE, LONGEST, Session
from middlewares.stores.teams.base import TeamRecord
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.visits import PASSWORD, PREFIXES, Browser, Site

HASH = new_hash(PASSWORD)
ADMIN = {"dashboard": {"admin_password": "env:ADMIN"}}
ENV = {"ADMIN": HASH}


def is_open(answer: object) -> bool:
    status: int = answer.status  # type: ignore[attr-defined]
    assert status in (200, 303)
    return status == 200


async def changed(site: Site, **fields: object) -> None:
    """Change the key, and let the directory hear of it."""

    def change(key: Key) -> Key:
        return msgspec.structs.replace(key, **fields)

    await site.keys.update(site.key.id, change)
    await site.directory.refresh()


def sessions(site: Site) -> list[Session]:
    return list(site.sessions.sessions.values())


async def sign_in_as_admin(site: Site, password: str = PASSWORD, **options: str) -> Browser:
    browser = site.browser(**options)
    answer = await browser.post("/app/sign-in/password", password=password)
    assert answer.status == 303, answer.text
    return browser


async def test_cookie_at_loopback_is_bound_to_the_host_and_hidden_from_scripts(site: Site) -> None:
    browser = site.browser()
    answer = await browser.post("/app/sign-in", key=site.secret)
    cookie = str(answer.header("set-cookie"))
    name, _, rest = cookie.partition("=")
    value, _, attributes = rest.partition("; ")
    assert name == "__Host-penstock"
    assert attributes == "Secure; HttpOnly; SameSite=Lax; Path=/"
    assert len(value) == 43
    (kept,) = sessions(site)
    assert value.encode() not in msgspec.json.encode(kept)
    assert site.secret not in repr(kept)
    assert (kept.subject, kept.role, kept.address) == (site.key.id, "holder", "127.0.0.1")


async def test_sign_in_gives_a_new_id_and_ends_the_session_before(site: Site) -> None:
    browser = await site.signed_in()
    old = dict(browser.cookies)
    await browser.post("/app/sign-in", key=site.secret)
    assert browser.cookies != old
    assert len(sessions(site)) == 1
    replayed = site.browser(cookies=old)
    assert not is_open(await replayed.get("/app"))


async def test_chosen_session_id_is_not_taken(site: Site) -> None:
    """Session fixation: an id that an attacker has set is not the one of the session."""
    browser = site.browser(cookies={"__Host-penstock": "x" * 43})
    await browser.post("/app/sign-in", key=site.secret)
    assert browser.cookies["__Host-penstock"] != "x" * 43
    assert not is_open(await site.browser(cookies={"__Host-penstock": "x" * 43}).get("/app"))


async def test_signed_out_cookie_opens_nothing(site: Site) -> None:
    browser = await site.signed_in()
    old = dict(browser.cookies)
    answer = await browser.post("/app/sign-out")
    assert answer.header("location") == "/app/sign-in?note=signed_out"
    assert "Max-Age=0" in str(answer.header("set-cookie"))
    assert sessions(site) == []
    assert not is_open(await site.browser(cookies=old).get("/app"))


async def test_sign_out_everywhere_ends_all_sessions_of_the_key_only(site: Site) -> None:
    one, two = await site.signed_in(), await site.signed_in()
    other, secret = await management.create(site.keys, PREFIXES, now=site.clock(), name="other")
    third = await site.signed_in(secret)
    await one.post("/app/account/sign-out-everywhere")
    assert not is_open(await two.get("/app"))
    assert is_open(await third.get("/app"))
    assert [session.subject for session in sessions(site)] == [other.id]


@pytest.mark.parametrize(
    "fields",
    [{"revoked_at": 1.0}, {"disabled": True}, {"expires_at": 1.0}, {"digest": b"another secret"}],
    ids=["revoked", "disabled", "expired", "rotated"],
)
async def test_session_ends_with_its_key(site: Site, fields: dict[str, object]) -> None:
    browser = await site.signed_in()
    assert is_open(await browser.get("/app"))
    await changed(site, **fields)
    assert not is_open(await browser.get("/app"))
    assert sessions(site) == []


async def test_session_of_a_rotated_key_ends_during_the_grace_too(site: Site) -> None:
    browser = await site.signed_in()
    await management.rotate(site.keys, PREFIXES, site.key.id, now=site.clock(), grace=3600)
    await site.directory.refresh()
    assert not is_open(await browser.get("/app"))
    answer = await site.browser().post("/app/sign-in", key=site.secret)
    assert answer.status == 401


async def test_session_of_a_key_with_networks_is_used_from_these_only(site: Site) -> None:
    browser = await site.signed_in(client="10.0.0.7")
    await changed(site, networks=("10.0.0.0/8",))
    assert is_open(await browser.get("/app"))
    browser.client = "192.0.2.1"
    assert not is_open(await browser.get("/app"))
    browser.client = "10.0.0.8"
    assert is_open(await browser.get("/app"))
    answer = await site.browser(client="192.0.2.1").post("/app/sign-in", key=site.secret)
    assert answer.status == 401


async def test_session_ends_for_want_of_requests_and_by_age(site: Site) -> None:
    browser = await site.signed_in()
    for _ in range(int(LONGEST["holder"] / IDLE["holder"]) + 1):
        site.clock.now += IDLE["holder"] - 60
        if site.clock.now - site.key.created_at >= LONGEST["holder"]:
            break
        assert is_open(await browser.get("/app"))
    assert not is_open(await browser.get("/app"))
    again = await site.signed_in()
    site.clock.now += IDLE["holder"]
    assert not is_open(await again.get("/app"))


async def test_administrator_signs_in_by_password_for_an_hour(open_site: OpenSite) -> None:
    site = await open_site(ENV, **ADMIN)
    browser = await sign_in_as_admin(site)
    assert is_open(await browser.get("/app/account"))
    assert sessions(site)[0].role == "admin"
    site.clock.now += IDLE["admin"]
    assert not is_open(await browser.get("/app/account"))


async def test_changed_password_ends_the_sessions_of_administrators(open_site: OpenSite) -> None:
    site = await open_site(ENV, **ADMIN)
    browser = await sign_in_as_admin(site)
    other = await open_site({"ADMIN": new_hash("another long password")}, **ADMIN)
    other.sessions.sessions.update(site.sessions.sessions)
    browser.site = other
    assert not is_open(await browser.get("/app/account"))
    assert sessions(other) == []


async def test_administrators_sign_in_and_work_from_their_networks_only(
    open_site: OpenSite,
) -> None:
    site = await open_site(ENV, **ADMIN)
    browser = await sign_in_as_admin(site)
    browser.client = "8.8.8.8"
    assert not is_open(await browser.get("/app/account"))
    answer = await browser.post("/app/sign-in/password", password=PASSWORD)
    assert answer.status == 404
    assert "/app/sign-in/password" not in (await browser.get("/app/sign-in")).text


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
async def test_unlisted_proxy_does_not_open_the_pages_of_administrators(
    open_site: OpenSite, header: str
) -> None:
    """The world must not pass for the private address of the balancer in front."""
    site = await open_site(ENV, **ADMIN)
    browser = site.browser(headers={header: "for=8.8.8.8"})
    answer = await browser.post("/app/sign-in/password", password=PASSWORD)
    assert answer.status == 404


async def test_password_is_not_asked_for_where_there_is_none(site: Site) -> None:
    answer = await site.browser().post("/app/sign-in/password", password="anything at all")
    assert answer.status == 404


async def test_two_cookies_of_one_name_are_no_session(site: Site) -> None:
    """A neighbour that sets a second cookie cannot choose which one counts."""
    browser = await site.signed_in()
    value = browser.cookies["__Host-penstock"]
    doubled = f"__Host-penstock={value}; __Host-penstock={value}"
    answer = await site.browser().get("/app", cookie=doubled)
    assert not is_open(answer)


async def test_api_reads_no_cookie(site: Site) -> None:
    """No outside request gets a principal from a session: `/v1` and `/admin/v1` know none."""
    browser = await site.signed_in()
    for path in ("/v1/limits", "/admin/v1/keys"):
        assert (await browser.get(path)).status in (403, 404)


async def test_plain_name_is_read_where_insecure_http_is_allowed_only(open_site: OpenSite) -> None:
    plain = await open_site(dashboard={"insecure_http": True, "public_url": "http://10.0.0.5:8080"})
    browser = plain.browser(host="10.0.0.5:8080", fetch_site=None)
    form = {"origin": "http://10.0.0.5:8080"}
    answer = await browser.post("/app/sign-in", form, key=plain.secret)
    assert answer.status == 303
    cookie = str(answer.header("set-cookie"))
    assert cookie.startswith("penstock=")
    assert cookie.endswith("; HttpOnly; SameSite=Lax; Path=/")
    assert is_open(await browser.get("/app"))
    strict = await open_site()
    strict.sessions.sessions.update(plain.sessions.sessions)
    assert not is_open(await strict.browser(cookies=browser.cookies).get("/app"))


@pytest.mark.parametrize("host", ["10.0.0.5:8080", "llm.example.com", "evil.test"])
async def test_sign_in_over_plain_http_is_refused_with_a_sentence(site: Site, host: str) -> None:
    browser = site.browser(host=host)
    page = await browser.get("/app/sign-in")
    assert "dashboard.public_url" in page.text
    assert host not in page.text
    answer = await browser.post("/app/sign-in", key=site.secret)
    assert answer.status == 400
    assert sessions(site) == []


async def test_session_ends_with_a_disabled_team(site: Site) -> None:
    team = TeamRecord(id="team_00000000000000000001", name="t", created_at=site.clock())
    await site.keys.teams.insert(team)
    await changed(site, team=team.id)
    browser = await site.signed_in()
    assert is_open(await browser.get("/app"))
    await site.keys.teams.update(team.id, lambda one: msgspec.structs.replace(one, disabled=True))
    await site.directory.refresh()
    assert not is_open(await browser.get("/app"))
    assert sessions(site) == []
