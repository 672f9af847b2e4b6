"""Sign-in by OpenID Connect in Chromium, at a certified provider."""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.clients.oidc_provider import CLIENT, CLIENT_SECRET, OidcProvider, oidc_provider
from tests.e2e.conftest import SECRETS
from tests.e2e.program import Gateway

from .conftest import Open
from .tab import shot, violations, wider_than_the_window


class Home(NamedTuple):
    """A gateway that sends people to a provider. url: as browsers have it."""

    gateway: Gateway
    provider: OidcProvider
    url: str


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://localhost:{listener.getsockname()[1]}"
        with oidc_provider(f"{url}/app/oidc/callback", tmp_path) as provider:
            oidc = {
                "name": "Acme Login",
                "issuer": provider.url,
                "client_id": CLIENT,
                "client_secret": CLIENT_SECRET,
                "scopes": ["openid", "profile", "email", "groups"],
                "admin_groups": ["ops"],
                "allowed_domains": ["example.com"],
                "auto_create": {"plan": "staff", "keys": 2},
            }
            document = {
                "auth": {"admin_token": "env:ADMIN_TOKEN"},
                "upstreams": [{"name": "near", "dialect": "simulator"}],
                "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
                "plans": [{"id": "staff", "windows": [{"length": "1d", "credits": "5"}]}],
                "dashboard": {"oidc": oidc},
            }
            gateway = Gateway(tmp_path, document, env=SECRETS, listener=listener)
            try:
                yield Home(gateway, provider, url)
            finally:
                assert gateway.stop() == 0, gateway.stderr


def through_the_provider(page: Page, home: Home, name: str) -> str:
    """Follow the link, sign in there as `name` and come back. Returns the URL of the callback."""
    callbacks: list[str] = []
    page.on(
        "request",
        lambda request: callbacks.append(request.url) if "/callback?" in request.url else None,
    )
    page.get_by_role("link", name="Continue with Acme Login").click()
    page.wait_for_url(f"{home.provider.url}/interaction/*")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{home.url}/app**")
    (callback,) = callbacks
    return callback


def sessions(home: Home) -> list[tuple[str, str, str]]:
    """How, role and subject of all sessions."""
    with closing(sqlite3.connect(home.gateway.database)) as database:
        return database.execute("SELECT how, role, subject FROM sessions").fetchall()


def test_people_sign_in_and_are_holders_or_admins(home: Home, open_page: Open) -> None:
    # Pages of the provider are not ours: they load what they like.
    there = (re.escape(urlsplit(home.provider.url).netloc), "fonts.googleapis.com")
    host = urlsplit(home.url).netloc
    for name, role in (("ann", "holder"), ("admin-bo", "admin")):
        page = open_page("/app/sign-in?next=/app/account", base=home.url, expected=there)
        assert not violations(page)
        callback = through_the_provider(page, home, name)
        assert urlsplit(page.url)[1:3] == (host, "/app/account")
        expect(page.locator("body")).to_contain_text(f"Person {name}")
        cookies = {one["name"]: one for one in page.context.cookies(home.url)}
        session = cookies["__Host-penstock"]
        assert (session["secure"], session["httpOnly"], session["sameSite"]) == (True, True, "Lax")
        assert "__Host-penstock-oidc" not in cookies
        assert sessions(home) == [("oidc", role, f"{home.provider.url}|{name}")]
        # The same callback once more: the browser no longer has what belongs to it.
        again = page.request.get(callback)
        assert again.status == 400
        page.reload()
        expect(page.locator("body")).to_contain_text(f"Person {name}")
        page.get_by_role("button", name="Sign out").first.click()
        page.wait_for_url(f"{home.url}/app/sign-in**")
    assert CLIENT_SECRET not in home.gateway.whole_log()


def test_person_creates_the_first_key(home: Home, open_page: Open) -> None:
    there = (re.escape(urlsplit(home.provider.url).netloc), "fonts.googleapis.com")
    page = open_page("/app/sign-in", base=home.url, expected=there)
    through_the_provider(page, home, "ann")
    page.wait_for_url(f"{home.url}/app/api-keys")
    for width, scheme in ((1280, "light"), (360, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert not violations(page)
        assert not wider_than_the_window(page)
        shot(page, f"person-api-keys-{scheme}-{width}")
    page.get_by_label("Name").fill("Laptop")
    page.get_by_role("button", name="Create").click()
    secret = page.locator("#secret").inner_text()
    answer = httpx.get(
        f"{home.url}/v1/limits", headers={"authorization": f"Bearer {secret}"}, trust_env=False
    )
    assert answer.json()["plan"] == "staff"
    page.goto("/app")
    expect(page.locator("main")).to_contain_text("1d window")
    assert not violations(page)


def test_provider_that_is_gone_leaves_the_key(home: Home, open_page: Open) -> None:
    home.provider.kill()
    page = open_page("/app/sign-in", base=home.url, expected=("503",))
    page.get_by_role("link", name="Continue with Acme Login").click()
    expect(page.locator("main")).to_contain_text("The sign-in service does not answer")
    page.goto("/app/sign-in")
    page.get_by_label("API key").fill(home.gateway.new_key("plain"))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{home.url}/app")
    assert httpx.get(f"{home.url}/app/oidc/start", trust_env=False).status_code == 503
