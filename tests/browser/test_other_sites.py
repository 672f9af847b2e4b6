"""Pages of another site cannot act with the session of a visitor, at loopback and at plain http."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright

from tests.e2e.program import DEADLINE, Gateway, until

from .chromium import ARGUMENTS, chromium

DOCUMENT: dict[str, Any] = {
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
}
EVIL = """<!doctype html><title>evil</title>
<form id="f" method="post" action="{base}/app/account/preferences"><input name="theme" value="dark">
<input name="times" value="utc"></form>"""
_FETCH = """async url => {
  try {
    const headers = {"content-type": "application/x-www-form-urlencoded"};
    const body = "theme=dark&times=utc";
    await fetch(url, {method: "POST", mode: "no-cors", credentials: "include", headers, body});
  } catch (error) { return String(error); }
  return "sent";
}"""


class EvilSite:
    """A site of someone else, on a port of its own."""

    def __init__(self) -> None:
        site = self
        self.base = ""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = EVIL.format(base=site.base).encode()
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)


@pytest.fixture
def evil() -> Iterator[EvilSite]:
    site = EvilSite()
    yield site
    site.close()


@pytest.fixture
def context(playwright: Playwright) -> Iterator[BrowserContext]:
    """Of a browser that finds both sites under names of their own, on this machine."""
    found = chromium()
    names = "--host-resolver-rules=MAP llm.test 127.0.0.1, MAP evil.test 127.0.0.1"
    browser = playwright.chromium.launch(
        executable_path=found.program,
        env={**found.env},
        args=[*(one for one in ARGUMENTS if "host-resolver" not in one), names],
        timeout=DEADLINE * 1000,
    )
    context = browser.new_context()
    context.set_default_timeout(DEADLINE * 1000)
    yield context
    browser.close()


def sign_in(context: BrowserContext, base: str, secret: str) -> Page:
    page = context.new_page()
    page.goto(f"{base}/app/sign-in")
    page.fill("#key", secret)
    page.click("form[action='/app/sign-in'] button")
    page.wait_for_url(f"{base}/app")
    return page


def statuses(gateway: Gateway) -> list[int]:
    """Of the requests to save preferences, from the log: the browser does not show what a fetch of
    another site was answered."""
    lines = [line for line in gateway.log if line["event"] == "request"]
    return [line["status"] for line in lines if line["path"] == "/app/account/preferences"]


@pytest.mark.parametrize("kind", ["loopback", "plain"])
def test_form_and_fetch_of_another_site_change_nothing(
    tmp_path: Path, context: BrowserContext, evil: EvilSite, kind: str
) -> None:
    """Browsers send `Sec-Fetch-Site` to loopback only; elsewhere `Origin` decides."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        loopback = kind == "loopback"
        ours, theirs = ("127.0.0.1", "localhost") if loopback else ("llm.test", "evil.test")
        base = f"http://{ours}:{port}"
        settings: dict[str, Any] = {**DOCUMENT}
        if kind == "plain":
            settings["dashboard"] = {"insecure_http": True, "public_url": base}
        gateway = Gateway(tmp_path, settings, listener=listener)
        try:
            page = sign_in(context, base, gateway.key)
            other = context.new_page()
            evil.base = base
            other.goto(f"http://{theirs}:{evil.port}/")
            other.evaluate(_FETCH, f"{base}/app/account/preferences")
            with other.expect_response("**/preferences") as submitted:
                other.evaluate("document.getElementById('f').submit()")
            assert submitted.value.status == 403
            until(lambda: statuses(gateway) == [403, 403], what="both requests in the log")
            page.goto(f"{base}/app/account")
            assert page.locator("html").get_attribute("data-theme") == "system"
            page.select_option("#theme", "dark")
            page.click("form[action='/app/account/preferences'] button")
            page.wait_for_url(f"{base}/app/account?note=preferences_saved")
            assert page.locator("html").get_attribute("data-theme") == "dark"
        finally:
            assert gateway.stop() == 0, gateway.stderr
