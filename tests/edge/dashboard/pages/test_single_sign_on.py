"""Sign-in by OpenID Connect, at a provider that can be made to lie."""

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from edge.dashboard.app import DashboardApp
from edge.dashboard.oidc import provider as provider_module
from edge.management import keys as management
from middlewares.stores.keys.base import digest
from middlewares.stores.sessions.base import Session
from tests.asgi import Recorded
from tests.edge.dashboard.conftest import OpenSite
from tests.edge.dashboard.oidc.issuer import CLIENT, CLIENT_SECRET, Issuer, Json
from tests.edge.dashboard.visits import PREFIXES, Browser, Site

AWAY = "The sign-in service does not answer as expected"
AGAIN = "Begin it again"
SECRET = re.compile(r"sk-[a-z0-9-]+-live-[0-9A-Za-z]{43}")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer.opened() as opened:
        yield opened


@pytest.fixture
async def site(issuer: Issuer, open_site: OpenSite) -> Site:
    oidc = issuer.settings(admin_groups=["ops"])
    opened = await open_site(dashboard={"oidc": oidc})
    issuer.clock = opened.clock
    return opened


async def start(browser: Browser, next_: str = "/app") -> str:
    """The URL of the provider that the browser is sent to."""
    answer = await browser.get(f"/app/oidc/start?{urlencode({'next': next_})}")
    assert answer.status == 303, answer.text
    return str(answer.header("location"))


def state_of(location: str) -> str:
    return parse_qs(urlsplit(location).query)["state"][0]


async def come_back(browser: Browser, **query: str) -> Recorded:
    """The callback, as the redirect of another site brings it."""
    headers = {"sec-fetch-site": "cross-site"}
    return await browser.send("GET", f"/app/oidc/callback?{urlencode(query)}", b"", headers)


async def sign_in(issuer: Issuer, browser: Browser, next_: str = "/app", **query: str) -> Recorded:
    location = await start(browser, next_)
    given = {"code": issuer.grant(location), "state": state_of(location), **query}
    return await come_back(browser, **given)


async def sessions(site: Site, subject: str) -> list[Session]:
    return await site.sessions.of_subject("oidc", subject)


async def roles(issuer: Issuer, site: Site) -> list[str]:
    return [one.role for one in await sessions(site, f"{issuer.url}|{issuer.claims['sub']}")]


def refused(answer: Recorded, browser: Browser, status: int, text: str) -> None:
    assert answer.status == status, answer.text
    assert text in answer.text
    assert "__Host-penstock" not in browser.cookies, "no session"
    assert "__Host-penstock-oidc" not in browser.cookies, "the attempt is over"
    assert CLIENT_SECRET not in answer.text


# Good


async def test_holder_sees_the_keys_of_issuer_and_subject(issuer: Issuer, site: Site) -> None:
    owner = f"{issuer.url}|ann-1"
    for name, whose in (("Mine", owner), ("Other", f"{issuer.url}|ann-10"), ("Typed", "ann-1")):
        await management.create(site.keys, PREFIXES, now=site.clock(), name=name, owner=whose)
    browser = site.browser()
    answer = await sign_in(issuer, browser, "/app/account")
    assert (answer.status, answer.header("location")) == (303, "/app/account")
    page = await browser.get("/app/account")
    assert page.status == 200
    assert "Ann" in page.text
    (session,) = await sessions(site, owner)
    assert (session.how, session.role) == ("oidc", "holder")
    assert (session.subject, session.owner) == (owner, owner)
    assert "/userinfo" not in issuer.fetched


async def test_cookie_of_the_attempt_is_bound_to_the_host(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    answer = await browser.get("/app/oidc/start")
    cookie = str(answer.header("set-cookie"))
    assert cookie.startswith("__Host-penstock-oidc=")
    assert cookie.partition("; ")[2] == "Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=600"
    for part in ("state", "nonce"):
        (value,) = parse_qs(urlsplit(str(answer.header("location"))).query)[part]
        assert value not in cookie


async def test_member_of_an_admin_group_is_admin_inside_the_networks(
    issuer: Issuer, site: Site
) -> None:
    issuer.claims["groups"] = ["staff", "ops"]
    for client, role in (("10.0.0.1", "admin"), ("203.0.113.9", "holder")):
        browser = site.browser(client=client)
        assert (await sign_in(issuer, browser)).status == 303
        assert await roles(issuer, site) == [role]
        await browser.post("/app/sign-out")


@pytest.mark.parametrize(
    ("claim", "groups"), [("groups", "ops"), ("realm.roles", ["ops"]), ("https://x.y/z", ["ops"])]
)
async def test_groups_are_read_from_a_name_or_a_path(
    issuer: Issuer, open_site: OpenSite, claim: str, groups: Any
) -> None:
    oidc = issuer.settings(admin_groups=["ops"], groups_claim=claim)
    site = await open_site(dashboard={"oidc": oidc})
    issuer.claims |= {"realm": {"roles": groups}} if claim == "realm.roles" else {claim: groups}
    await sign_in(issuer, site.browser())
    assert await roles(issuer, site) == ["admin"]


@pytest.mark.parametrize("groups", [None, "opsx", ["OPS"], {"ops": True}, [["ops"]], 7])
async def test_other_groups_are_holders(issuer: Issuer, site: Site, groups: Any) -> None:
    issuer.claims["groups"] = groups
    await sign_in(issuer, site.browser())
    assert await roles(issuer, site) == ["holder"]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSAKey.generate_key(2048, {"kid": "a"}), "PS256"),
        (ECKey.generate_key("P-256", {"kid": "a"}), "ES256"),
        (OKPKey.generate_key("Ed25519", {"kid": "a"}), "EdDSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_token_by_another_algorithm_is_taken(
    issuer: Issuer, site: Site, key: Any, algorithm: str
) -> None:
    issuer.key, issuer.algorithm = key, algorithm
    assert (await sign_in(issuer, site.browser())).status == 303


@pytest.mark.parametrize("method", ["client_secret_post", "none"])
async def test_client_is_named_as_the_provider_wants_it(
    issuer: Issuer, open_site: OpenSite, method: str
) -> None:
    issuer.auth_method = method
    oidc = issuer.settings()
    if method == "none":
        del oidc["client_secret"]
    site = await open_site(dashboard={"oidc": oidc})
    assert (await sign_in(issuer, site.browser())).status == 303


async def test_sign_in_begins_a_new_session(issuer: Issuer, site: Site) -> None:
    browser = await site.signed_in()
    before = browser.cookies["__Host-penstock"]
    assert (await sign_in(issuer, browser)).status == 303
    assert browser.cookies["__Host-penstock"] != before
    assert not await site.sessions.of_subject("key", site.key.id)
    assert await roles(issuer, site) == ["holder"]


@pytest.mark.parametrize("next_", ["https://evil.example/", "//evil.example", "/app/../x", "/v1"])
async def test_sign_in_goes_on_to_pages_of_ours_only(
    issuer: Issuer, site: Site, next_: str
) -> None:
    answer = await sign_in(issuer, site.browser(), next_)
    assert answer.header("location") == "/app"


async def test_sign_in_page_has_a_link(issuer: Issuer, open_site: OpenSite) -> None:
    site = await open_site(dashboard={"oidc": issuer.settings(name="Acme Login")})
    page = await site.browser().get("/app/sign-in?next=/app/usage%3Fdays%3D7")
    assert 'href="/app/oidc/start?next=/app/usage%3Fdays%3D7"' in page.text
    assert "Continue with Acme Login" in page.text
    assert not issuer.fetched


# The attempt


async def test_callback_with_another_state_is_refused(issuer: Issuer, site: Site) -> None:
    for state in ("", "x", "é"):
        browser = site.browser()
        refused(await sign_in(issuer, browser, state=state), browser, 400, AGAIN)
    assert "/token" not in issuer.fetched


async def test_callback_of_another_browser_is_refused(issuer: Issuer, site: Site) -> None:
    """One person cannot sign another in to an account of their own."""
    theirs, mine = site.browser(), site.browser()
    location = await start(theirs)
    code, state = issuer.grant(location), state_of(location)
    refused(await come_back(mine, code=code, state=state), mine, 400, AGAIN)
    await start(mine)
    refused(await come_back(mine, code=code, state=state), mine, 400, AGAIN)


async def test_callback_after_ten_minutes_is_refused(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    location = await start(browser)
    site.clock.now += 600
    answer = await come_back(browser, code=issuer.grant(location), state=state_of(location))
    refused(answer, browser, 400, AGAIN)


async def test_callback_is_used_once(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    location = await start(browser)
    kept = dict(browser.cookies)
    query = {"code": issuer.grant(location), "state": state_of(location)}
    assert (await come_back(browser, **query)).status == 303
    again = site.browser()
    refused(await come_back(again, **query), again, 400, AGAIN)
    again.cookies = kept  # one who has the cookie too: the provider takes a code once
    refused(await come_back(again, **query), again, 400, AGAIN)


async def test_callback_with_a_verifier_of_another_attempt_is_refused(
    issuer: Issuer, site: Site
) -> None:
    first, second = site.browser(), site.browser()
    code = issuer.grant(await start(first))
    location = await start(second)
    refused(await come_back(second, code=code, state=state_of(location)), second, 400, AGAIN)


async def test_altered_cookie_is_no_attempt(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    location = await start(browser)
    value = browser.cookies["__Host-penstock-oidc"]
    browser.cookies["__Host-penstock-oidc"] = value[:-2] + ("AA" if value[-2:] != "AA" else "BB")
    answer = await come_back(browser, code=issuer.grant(location), state=state_of(location))
    refused(answer, browser, 400, AGAIN)


async def test_refusal_of_the_provider_is_not_repeated(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    location = await start(browser)
    said = "<script>alert(1)</script>"
    answer = await come_back(
        browser, error="access_denied", error_description=said, state=state_of(location)
    )
    refused(answer, browser, 403, "did not let you sign in")
    assert "alert(1)" not in answer.text
    assert "access_denied" not in answer.text


@pytest.mark.parametrize("iss", [None, "https://evil.example"])
async def test_callback_of_another_issuer_is_refused(
    issuer: Issuer, site: Site, iss: str | None
) -> None:
    """RFC 9207: mix-up of providers."""
    issuer.metadata = {"authorization_response_iss_parameter_supported": True}
    browser = site.browser()
    query = {} if iss is None else {"iss": iss}
    refused(await sign_in(issuer, browser, **query), browser, 403, "did not let you sign in")
    assert "/token" not in issuer.fetched
    assert (await sign_in(issuer, browser, iss=issuer.url)).status == 303


# Tokens

Change = Callable[[Json], Json]


def without(*names: str) -> Change:
    return lambda claims: {name: value for name, value in claims.items() if name not in names}


def with_(**more: Any) -> Change:
    return lambda claims: {**claims, **more}


def moved(name: str, seconds: float) -> Change:
    return lambda claims: {**claims, name: claims[name] + seconds}


FAULTS: dict[str, Change] = {
    "nonce of another": with_(nonce="x" * 43),
    "nonce that is no text": with_(nonce=["x"]),
    "no nonce": without("nonce"),
    "another audience": with_(aud="other"),
    "part of the audience": with_(aud=CLIENT + "-admin"),
    "no audience": without("aud"),
    "several audiences without azp": with_(aud=[CLIENT, "other"]),
    "azp of another": with_(aud=[CLIENT, "other"], azp="other"),
    "azp of another, one audience": with_(azp="other"),
    "another issuer": with_(iss="https://evil.example"),
    "issuer with a slash": lambda claims: {**claims, "iss": claims["iss"] + "/"},
    "no issuer": without("iss"),
    "expired": moved("exp", -400),
    "no exp": without("exp"),
    "exp that is text": with_(exp="9999999999"),
    "exp that is true": with_(exp=True),
    "issued long ago": moved("iat", -700),
    "issued later": moved("iat", 120),
    "no iat": without("iat"),
    "valid later": lambda claims: {**claims, "nbf": claims["iat"] + 120},
    "no subject": without("sub"),
    "subject that is a number": with_(sub=7),
    "empty subject": with_(sub=""),
    "subject of two lines": with_(sub="a\nb"),
    "long subject": with_(sub="x" * 256),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_token_with_a_wrong_claim_is_refused(issuer: Issuer, site: Site, name: str) -> None:
    issuer.change = FAULTS[name]
    browser = site.browser()
    refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")


async def test_token_for_several_audiences_is_taken_with_our_azp(
    issuer: Issuer, site: Site
) -> None:
    issuer.change = with_(aud=["other", CLIENT], azp=CLIENT)
    assert (await sign_in(issuer, site.browser())).status == 303


async def test_clocks_may_differ_by_a_minute(issuer: Issuer, site: Site) -> None:
    issuer.change = lambda claims: moved("exp", -330)(moved("iat", 30)(claims))
    assert (await sign_in(issuer, site.browser())).status == 303


def _forged(issuer: Issuer, claims: Json) -> str:
    """By another key with the same id."""
    own, issuer.key = issuer.key, RSAKey.generate_key(2048, {"kid": "one"})
    try:
        return issuer.signed(claims)
    finally:
        issuer.key = own


SIGNED: dict[str, Callable[[Issuer, Json], str]] = {
    "alg none": lambda issuer, claims: issuer.unsigned(claims),
    "HS256 by the public key": lambda issuer, claims: issuer.signed_with_public_key(claims),
    "another key": _forged,
    "unknown kid": lambda issuer, claims: issuer.signed(claims, kid="two"),
    "altered": lambda issuer, claims: issuer.signed(claims)[:-8] + "AAAAAAAA",
    "no signature": lambda issuer, claims: issuer.signed(claims).rpartition(".")[0] + ".",
    "two parts": lambda issuer, claims: issuer.signed(claims).rpartition(".")[0],
    "five parts": lambda issuer, claims: issuer.signed(claims) + ".e.e",
    "unknown crit": lambda issuer, claims: issuer.signed_by_hand(
        {"alg": "RS256", "kid": "one", "crit": ["x"], "x": 1}, claims
    ),
    "nothing": lambda issuer, claims: "",
    "no JSON": lambda issuer, claims: "eA.eA.eA",
    "huge": lambda issuer, claims: "e" * 100_000 + ".e.e",
}


@pytest.mark.parametrize("name", SIGNED)
async def test_token_that_the_provider_did_not_sign_is_refused(
    issuer: Issuer, site: Site, name: str
) -> None:
    issuer.sign = lambda claims: SIGNED[name](issuer, claims)
    browser = site.browser()
    refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")


async def test_short_key_verifies_nothing(issuer: Issuer, site: Site) -> None:
    with pytest.warns(SecurityWarning):
        issuer.key = RSAKey.import_key(generate_private_key(65537, 1024), {"kid": "one"})
    browser = site.browser()
    refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")


async def test_token_signed_by_hand_is_taken(issuer: Issuer, site: Site) -> None:
    """What is refused with `crit` is good without it."""
    header = {"alg": "RS256", "kid": "one"}
    issuer.sign = lambda claims: issuer.signed_by_hand(header, claims)
    assert (await sign_in(issuer, site.browser())).status == 303


async def test_key_of_another_use_or_algorithm_verifies_nothing(issuer: Issuer, site: Site) -> None:
    own = issuer.key.as_dict(private=False)
    for change in ({"use": "enc"}, {"alg": "PS256"}, {"kty": "oct", "k": "c2VjcmV0"}):
        issuer.published = [{**own, **change}]
        browser = site.browser()
        refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")


async def test_token_without_kid_needs_the_only_key(issuer: Issuer, site: Site) -> None:
    issuer.sign = lambda claims: issuer.signed(claims, kid=None)
    assert (await sign_in(issuer, site.browser())).status == 303
    own = issuer.key.as_dict(private=False)
    issuer.published = [own, {**own, "kid": "two"}]
    site.clock.now += provider_module.KEPT
    browser = site.browser()
    refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")


# Keys and metadata are kept


async def test_new_key_of_the_provider_is_fetched_at_the_first_unknown_id(
    issuer: Issuer, site: Site
) -> None:
    assert (await sign_in(issuer, site.browser())).status == 303
    issuer.rotate("two")
    browser = site.browser()
    refused(await sign_in(issuer, browser), browser, 403, "did not let you sign in")
    assert issuer.fetched.count("/keys") == 1, "not twice within 30 seconds"
    site.clock.now += provider_module.KEYS_AGAIN
    assert (await sign_in(issuer, site.browser())).status == 303
    issuer.sign = lambda claims: issuer.signed(claims, kid="made-up")
    for _ in range(5):
        await sign_in(issuer, site.browser())
    assert issuer.fetched.count("/keys") == 2
    assert issuer.fetched.count("/.well-known/openid-configuration") == 1
    site.clock.now += provider_module.KEPT
    await start(site.browser())
    assert issuer.fetched.count("/.well-known/openid-configuration") == 2


# A provider that is away


async def test_provider_that_is_away_is_a_page_and_the_rest_works(
    issuer: Issuer, site: Site
) -> None:
    issuer.stopped = True
    answer = await site.browser().get("/app/oidc/start")
    assert answer.status == 503
    assert AWAY in answer.text
    assert answer.header("retry-after")
    assert "127.0.0.1" not in answer.text
    assert (await site.browser().get("/app/sign-in")).status == 200
    await site.signed_in()
    issuer.stopped = False
    site.clock.now += provider_module.FAILURE_KEPT
    assert (await sign_in(issuer, site.browser())).status == 303
    browser = site.browser()
    location = await start(browser)
    code = issuer.grant(location)
    issuer.stopped = True
    answer = await come_back(browser, code=code, state=state_of(location))
    refused(answer, browser, 503, AWAY)


def _response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", _response("500 x")),
        ("/.well-known/openid-configuration", _response("200 x", b"<html>")),
        ("/.well-known/openid-configuration", _response("200 x", b"{}")),
        ("/.well-known/openid-configuration", _response("302 x", b"", "location: /x")),
        ("/.well-known/openid-configuration", b"HTTP/1.1 200 x\r\n\r\n" + b" " * (2 << 20)),
        ("/.well-known/openid-configuration", b"\0\0"),
        ("/keys", _response("404 x")),
        ("/keys", _response("200 x", b'{"keys": 7}')),
        ("/token", _response("500 x")),
        ("/token", _response("401 x", b'{"error": "invalid_client"}')),
        ("/token", _response("200 x", b'{"access_token": "x"}')),
        ("/token", _response("307 x", b"", "location: /x")),
    ],
)
async def test_answer_that_cannot_be_used_is_no_sign_in(
    issuer: Issuer, site: Site, path: str, answer: bytes
) -> None:
    issuer.answers[path] = answer
    browser = site.browser()
    first = await browser.get("/app/oidc/start")
    if path.startswith("/."):
        refused(first, browser, 503, AWAY)
        return
    location = str(first.header("location"))
    answered = await come_back(browser, code=issuer.grant(location), state=state_of(location))
    refused(answered, browser, 503, AWAY)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "ftp://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
async def test_metadata_of_another_provider_is_not_used(
    issuer: Issuer, site: Site, changed: Json
) -> None:
    issuer.metadata = changed
    browser = site.browser()
    refused(await browser.get("/app/oidc/start"), browser, 503, AWAY)


async def test_provider_that_hangs_is_given_up(
    issuer: Issuer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "TIMEOUT", 0.2)
    issuer.answers["/.well-known/openid-configuration"] = b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n"
    browser = site.browser()
    refused(await browser.get("/app/oidc/start"), browser, 503, AWAY)


# Guesses


async def test_attempts_are_counted_and_throttled(issuer: Issuer, site: Site) -> None:
    """Those that were right take nothing from the rate."""

    def count(result: str) -> float:
        labels = {"how": "oidc", "result": result}
        return site.parts.metrics.registry.get_sample_value("penstock_sign_ins_total", labels) or 0

    for _ in range(20):
        assert (await sign_in(issuer, site.browser())).status == 303
    assert count("ok") == 20
    seen = []
    for _ in range(30):
        browser = site.browser()
        location = await start(browser)
        seen.append(await come_back(browser, code="guessed", state=state_of(location)))
    assert count("wrong") == issuer.fetched.count("/token") - 20 == 15
    assert [answer.status for answer in seen] == [400] * 15 + [429] * 15
    assert count("throttled") == 15
    assert (await sign_in(issuer, site.browser(client="10.0.0.7"))).status == 303


# Who may


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"email": "ann@example.com", "email_verified": True}, 303),
        ({"email": "ann@EXAMPLE.com", "email_verified": True}, 303),
        ({"email": "ann@example.com"}, 403),
        ({"email": "ann@example.com", "email_verified": False}, 403),
        ({"email": "ann@example.com", "email_verified": "true"}, 403),
        ({"email": "ann@example.com.evil.example", "email_verified": True}, 403),
        ({"email": "ann@evil.example@sub.example.com", "email_verified": True}, 403),
        ({"email": "example.com", "email_verified": True}, 403),
        ({"email": ["ann@example.com"], "email_verified": True}, 403),
        ({}, 403),
    ],
)
async def test_domains_count_for_verified_addresses_only(
    issuer: Issuer, open_site: OpenSite, claims: Json, status: int
) -> None:
    oidc = issuer.settings(allowed_domains=["example.com"])
    site = await open_site(dashboard={"oidc": oidc})
    issuer.claims |= claims
    browser = site.browser()
    answer = await sign_in(issuer, browser)
    assert answer.status == status
    if status == 403:
        refused(answer, browser, 403, "may not use this dashboard")


@pytest.mark.parametrize(
    ("claim", "claims", "owner"),
    [
        ("email", {"email": "ann@example.com", "email_verified": True}, "ann@example.com"),
        ("email", {"email": "ann@example.com"}, None),
        ("employee", {"employee": "E-7"}, "E-7"),
        ("employee", {"employee": 7}, None),
        ("employee", {"employee": " "}, None),
        ("employee", {"employee": "x" * 513}, None),
        ("employee", {}, None),
    ],
)
async def test_owner_is_the_claim_that_the_operator_names(
    issuer: Issuer, open_site: OpenSite, claim: str, claims: Json, owner: str | None
) -> None:
    site = await open_site(dashboard={"oidc": issuer.settings(owner_claim=claim)})
    issuer.claims |= claims
    answer = await sign_in(issuer, site.browser())
    assert answer.status == (403 if owner is None else 303)
    owners = [one.owner for one in await sessions(site, f"{issuer.url}|ann-1")]
    assert owners == ([] if owner is None else [owner])


async def test_session_ends_when_the_rules_change(issuer: Issuer, site: Site) -> None:
    browser = site.browser()
    await sign_in(issuer, browser)
    assert (await browser.get("/app/account")).status == 200
    dashboard = site.parts.settings.dashboard
    assert dashboard.oidc is not None
    for oidc in (msgspec.structs.replace(dashboard.oidc, admin_groups=()), None):
        changed = msgspec.structs.replace(
            site.parts.settings, dashboard=msgspec.structs.replace(dashboard, oidc=oidc)
        )
        parts = msgspec.structs.replace(site.parts, settings=changed)
        (session,) = await sessions(site, f"{issuer.url}|ann-1")
        site.app.app.app.app.app = DashboardApp(parts)
        assert (await browser.get("/app/account")).status == 303
        assert not await sessions(site, session.subject)
        await site.sessions.insert(session)


async def test_without_a_provider_there_is_no_such_page(open_site: OpenSite) -> None:
    site = await open_site()
    for path in ("/app/oidc/start", "/app/oidc/callback"):
        assert (await site.browser().get(path)).status == 404
    assert "/app/oidc" not in (await site.browser().get("/app/sign-in")).text


async def test_address_that_no_cookie_survives_at_begins_nothing(
    issuer: Issuer, site: Site
) -> None:
    browser = site.browser(host="llm.example.com")
    answer = await browser.get("/app/oidc/start")
    assert answer.status == 400
    assert "dashboard.public_url" in answer.text
    assert not issuer.fetched


async def test_public_url_makes_the_redirect_uri(issuer: Issuer, open_site: OpenSite) -> None:
    site = await open_site(
        dashboard={"oidc": issuer.settings(), "public_url": "https://llm.example.com"}
    )
    answer = await site.browser(host="evil.example").get("/app/oidc/start")
    query = parse_qs(urlsplit(str(answer.header("location"))).query)
    assert query["redirect_uri"] == ["https://llm.example.com/app/oidc/callback"]


def test_secret_of_the_client_is_in_no_text_of_the_settings(issuer: Issuer) -> None:
    from edge.config.load import parse

    document = {
        "upstreams": [{"name": "sim", "dialect": "simulator"}],
        "dashboard": {"oidc": issuer.settings()},
    }
    settings = parse(document)
    assert CLIENT_SECRET not in repr(settings)
    assert CLIENT_SECRET not in json.dumps(msgspec.to_builtins(settings, enc_hook=str))


# Keys that people create for themselves


@pytest.fixture
async def open_keys(issuer: Issuer, open_site: OpenSite) -> Site:
    """A site where everyone who signs in may have two keys of the plan "gold"."""
    oidc = issuer.settings(auto_create={"plan": "gold", "keys": 2})
    site = await open_site(dashboard={"oidc": oidc})
    issuer.clock = site.clock
    return site


async def create(browser: Browser, name: str = "mine") -> Recorded:
    page = await browser.get("/app/api-keys")
    found = re.search(r'name="form" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return await browser.post("/app/api-keys/own", {}, name=name, form=found[1])


async def test_person_creates_keys_up_to_the_bound(issuer: Issuer, open_keys: Site) -> None:
    browser = open_keys.browser()
    await sign_in(issuer, browser)
    assert (await browser.get("/app/usage")).status == 404, "there is no key yet"
    first = await browser.get("/app")
    assert (first.status, first.header("location")) == (303, "/app/api-keys")
    made = [await create(browser, name) for name in ("one", "two", "three")]
    assert [answer.status for answer in made] == [200, 200, 400]
    assert "you have 2 keys" in made[2].text
    owner = f"{issuer.url}|ann-1"
    keys = [key for key in await open_keys.keys.every() if key.owner == owner]
    assert [(key.name, key.plan, key.team) for key in keys if key.revoked_at is None] == [
        ("one", "gold", None),
        ("two", "gold", None),
    ]
    secret = SECRET.search(made[0].text)
    assert secret is not None
    assert keys[0].holds(digest(secret[0]))
    assert not SECRET.search((await browser.get("/app/api-keys")).text)
    page = await browser.get("/app/usage")
    assert page.status == 200, "of the newest key"
    assert (await browser.get("/app")).status == 200
    records = await open_keys.parts.audit.page()
    assert [one.actor for one in records if one.action == "key.create"] == [
        f"dashboard:{owner}"
    ] * 2


async def test_revoked_key_makes_room_and_a_disabled_one_does_not(
    issuer: Issuer, open_keys: Site
) -> None:
    browser = open_keys.browser()
    await sign_in(issuer, browser)
    for name in ("one", "two"):
        assert (await create(browser, name)).status == 200
    one, two = [key for key in await open_keys.keys.every() if key.plan == "gold"][-2:]
    await management.edit(open_keys.keys, one.id, now=open_keys.clock(), disabled=True)
    await management.revoke(open_keys.keys, one.id, now=open_keys.clock())
    assert (await create(browser)).status == 400, "the operator has disabled it"
    await management.revoke(open_keys.keys, two.id, now=open_keys.clock())
    assert (await create(browser)).status == 200


async def test_form_that_is_sent_twice_creates_one_key(issuer: Issuer, open_keys: Site) -> None:
    browser = open_keys.browser()
    await sign_in(issuer, browser)
    page = await browser.get("/app/api-keys")
    found = re.search(r'name="form" value="([^"]*)"', page.text)
    assert found is not None
    answers = [
        await browser.post("/app/api-keys/own", {}, name="x", form=found[1]) for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 303]
    assert len([key for key in await open_keys.keys.every() if key.name == "x"]) == 1


async def test_others_create_no_key_so(issuer: Issuer, open_keys: Site, site: Site) -> None:
    by_key = await open_keys.signed_in()
    assert "/app/api-keys/own" not in (await by_key.get("/app/api-keys")).text
    assert (await by_key.post("/app/api-keys/own", {}, name="x", form="y")).status == 403
    without = site.browser()
    await sign_in(issuer, without)
    assert "/app/api-keys/own" not in (await without.get("/app/api-keys")).text
    assert (await without.post("/app/api-keys/own", {}, name="x", form="y")).status == 403
