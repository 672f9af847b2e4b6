"""The dashboard of the real program: sessions over restarts, reloads and workers."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from edge.dashboard.pages import PAGES
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import ADMIN_TOKEN, SECRETS, Start
from .program import Gateway, until

DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
}
ANSWERED = (200, 303, 400, 401, 404, 405, 415)
"""What pages for anyone may answer to a crawl."""
FORM = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("dashboard"), DOCUMENT, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def sign_in(gateway: Gateway, key: str) -> httpx.Cookies:
    """The cookies of a new session."""
    answer = httpx.post(
        f"{gateway.url}/app/sign-in", data={"key": key}, headers=FORM, trust_env=False
    )
    assert answer.status_code == 303, answer.text
    return answer.cookies


def cookie(cookies: httpx.Cookies) -> dict[str, str]:
    """As a header: httpx sends no `Secure` cookie over plain http, as browsers do to loopback."""
    return {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def status(gateway: Gateway, path: str, cookies: httpx.Cookies) -> int:
    """The status on a new connection, which may be any worker's."""
    url = f"{gateway.url}{path}"
    return httpx.get(url, headers=cookie(cookies), trust_env=False).status_code


def revoke(gateway: Gateway, key_id: str) -> None:
    answer = httpx.post(
        f"{gateway.url}/admin/v1/keys/{key_id}/revoke",
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text


def test_crawl_without_session_finds_no_data(gateway: Gateway) -> None:
    secret = gateway.new_key("name-canary")
    for page in PAGES:
        path = page.path.replace("{", "").replace("}", "")
        for method in (*page.methods, "HEAD"):
            answer = httpx.request(method, f"{gateway.url}{path}", headers=FORM, trust_env=False)
            public = "anyone" in page.roles
            assert answer.status_code in (ANSWERED if public else (303, 405)), path
            for word in (secret, "name-canary", ADMIN_TOKEN):
                assert word not in answer.text, path


def test_session_is_no_credential_of_the_api(gateway: Gateway) -> None:
    session = sign_in(gateway, gateway.key)
    for path in ("/v1/limits", "/v1/models", "/v1/usage"):
        assert status(gateway, path, session) == 401
    assert status(gateway, "/admin/v1/keys", session) == 401


def test_static_files_are_packed_and_kept(gateway: Gateway) -> None:
    page = gateway.get("/").text
    paths = [part.split('"')[0] for part in page.split('="')[1:] if part.startswith("/app/static/")]
    assert len(paths) >= 3
    for path in paths:
        answer = gateway.get(path, headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        plain = gateway.get(path, headers={"accept-encoding": "identity"})
        assert plain.content == answer.content


def _lines(gateway: Gateway, request_id: str) -> dict[str, dict[str, Any]]:
    """The lines of a request in the log, by their event."""
    return {line["event"]: line for line in gateway.log if line.get("request_id") == request_id}


def test_sign_in_is_counted_and_logged_without_secrets(gateway: Gateway) -> None:
    session = sign_in(gateway, gateway.key)
    wrong = httpx.post(
        f"{gateway.url}/app/sign-in?key=typed-into-the-query",
        data={"key": "typed-wrongly-canary"},
        headers=FORM,
        trust_env=False,
    )
    assert wrong.status_code == 401
    counted = gateway.metrics()
    assert counted["penstock_sign_ins_total", (("how", "key"), ("result", "ok"))] >= 1
    assert counted["penstock_sign_ins_total", (("how", "key"), ("result", "wrong"))] >= 1
    request_id = wrong.headers["x-request-id"]

    def both_lines() -> dict[str, dict[str, Any]] | None:
        lines = _lines(gateway, request_id)
        return lines if lines.keys() >= {"request", "sign-in"} else None

    lines = until(both_lines, what="the lines of the request")
    requests = {labels for name, labels in gateway.metrics() if name == "penstock_requests_total"}
    assert any(("endpoint", "dashboard") in labels for labels in requests)
    assert lines["request"]["path"] == "/app/sign-in"
    assert (lines["sign-in"]["how"], lines["sign-in"]["result"]) == ("key", "wrong")
    for word in (*session.values(), gateway.key, "typed-wrongly-canary", "typed-into-the-query"):
        assert word not in gateway.stderr


def test_session_outlives_a_restart_and_a_reload_takes_the_dashboard_away(start: Start) -> None:
    first = start(DOCUMENT)
    session = sign_in(first, first.key)
    assert status(first, "/app", session) == 200
    assert first.stop() == 0
    second = start(DOCUMENT, folder=first.folder)
    assert status(second, "/app", session) == 200
    document = json.loads(second.file.read_text())
    second.file.write_text(json.dumps({**document, "dashboard": {"enabled": False}}))
    until(lambda: status(second, "/app", session) == 404, what="the dashboard to be gone")
    assert second.get("/").status_code == 200
    second.file.write_text(json.dumps(document))
    until(lambda: status(second, "/app", session) == 200, what="the dashboard to be back")


def test_revoked_key_ends_its_session_on_every_worker(
    start: Start, redis_server: RedisServer, promised: float
) -> None:
    document = {
        **DOCUMENT,
        "server": {"workers": 2},
        "store": {"counters": redis_server.url()},
    }
    gateway = start(document)
    made = httpx.post(
        f"{gateway.url}/admin/v1/keys",
        json={"name": "ann"},
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        trust_env=False,
    ).json()
    session = sign_in(gateway, made["secret"])
    assert [status(gateway, "/app", session) for _ in range(8)] == [200] * 8
    revoke(gateway, made["id"])
    end = time.monotonic() + promised
    while 200 in [status(gateway, "/app", session) for _ in range(8)]:
        assert time.monotonic() < end, "the session outlived its key"
    assert [status(gateway, "/app", session) for _ in range(8)] == [303] * 8
