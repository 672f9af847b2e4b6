"""The rows of upstreams: what is wrong between here and a list of models."""

import datetime
import json
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.edge.cli.commands import Checked

from .conftest import Check
from .servers import Answer, Scripted, closed_port, models, proxy, scripted

KEY = "sk-canary-4f1b2c7d9e"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as found:
        yield found


def upstream(url: str, dialect: str = "openai", **more: Any) -> dict[str, Any]:
    return {"name": "up", "dialect": dialect, "base_url": url, "api_key": KEY, **more}


def tables(*upstreams: dict[str, Any], targets: tuple[str, ...] = ("up/m",)) -> dict[str, Any]:
    return {
        "upstreams": list(upstreams),
        "models": [{"id": "one", "targets": list(targets), "max_output": 9}],
    }


def rows(checked: Checked) -> list[str]:
    return checked.of("ok upstreams", "warning upstreams", "error upstreams")


def test_upstream_that_takes_the_key_is_ok(check: Check, server: Scripted) -> None:
    server.answers["/v1/models"] = models("m", "other")
    checked = check(**tables(upstream(f"{server.url}/v1")))
    assert (checked.status, rows(checked)) == (
        0,
        ["ok upstreams.up: takes our key, has 2 models"],
    )
    ((line, headers, _),) = server.asked
    assert line == "GET /v1/models"
    assert headers["authorization"] == f"Bearer {KEY}"


def test_upstream_of_anthropic_is_asked_with_its_version(check: Check, server: Scripted) -> None:
    server.answers["/v1/models"] = models("claude-sonnet-5-20260101")
    given = tables(upstream(f"{server.url}/v1", "anthropic"), targets=("up/claude-sonnet-5",))
    assert rows(check(**given)) == ["ok upstreams.up: takes our key, has 1 model"]
    ((line, headers, _),) = server.asked
    assert line == "GET /v1/models?limit=1000"
    assert headers["x-api-key"] == KEY
    assert headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    ("answer", "row", "hint", "status"),
    [
        (
            Answer({"error": {"message": f"Incorrect API key provided: {KEY}\n\x1b[31m"}}, 401),
            "error upstreams.up: refuses our key: answers 401: Incorrect API key provided: ***",
            "check upstreams[0].api_key",
            1,
        ),
        (
            Answer(b"<html>" + b"x" * 9000, 403),
            "error upstreams.up: refuses our key: answers 403",
            "check upstreams[0].api_key",
            1,
        ),
        (
            Answer({"error": "n" * 5000}, 400),
            f"warning upstreams.up: answers 400: {'n' * 160}…",
            "",
            0,
        ),
        (
            Answer(status=404),
            "ok upstreams.up: is reachable, and has no list of models (status 404)",
            "if calls fail, check upstreams[0].base_url",
            0,
        ),
        (
            Answer(status=405),
            "ok upstreams.up: is reachable, and has no list of models (status 405)",
            "",
            0,
        ),
        (Answer(status=429), "warning upstreams.up: answers 429", "its limit is reached", 0),
        (Answer(status=503), "error upstreams.up: answers 503", "", 1),
        (
            Answer(status=301, headers={"location": "/x"}),
            "error upstreams.up: answers 301",
            "base_url has to name where it redirects to",
            1,
        ),
        (
            Answer(b"<html>no list"),
            "ok upstreams.up: takes our key, has no list of models that can be read",
            "",
            0,
        ),
        (
            models("n"),
            "warning upstreams.up: its list has no m",
            "check models[].targets",
            0,
        ),
    ],
)
def test_upstream_answer_becomes_a_row(
    check: Check, server: Scripted, answer: Answer, row: str, hint: str, status: int
) -> None:
    server.answers["/v1/models"] = answer
    checked = check(**tables(upstream(f"{server.url}/v1")))
    assert checked.status == status
    assert any(line.startswith(row) for line in rows(checked)), checked.lines
    assert hint in checked.hints
    assert not [line for line in checked.lines if not line.isprintable() or len(line) > 500]


def test_upstream_lacks_many_models_names_five(check: Check, server: Scripted) -> None:
    server.answers["/v1/models"] = models("a:free", "b-2025-01-31", "models/c", "d")
    wanted = [f"up/x{n}" for n in range(7)] + ["up/a", "up/a:free", "up/b", "up/c", "up/d-latest"]
    found = rows(check(**tables(upstream(f"{server.url}/v1"), targets=tuple(wanted))))
    assert found[1:] == [
        "warning upstreams.up: its list has no x0, x1, x2, x3, x4 and 4 more",
    ]


def test_upstream_pattern_of_names_is_not_missing(check: Check, server: Scripted) -> None:
    server.answers["/v1/models"] = models("n")
    given = tables(upstream(f"{server.url}/v1"))
    given["models"] = [{"id": "up-*", "targets": ["up/*"]}]
    assert rows(check(**given)) == ["ok upstreams.up: takes our key, has 1 model"]


# Between here and there


def test_upstream_refused_is_an_error(check: Check) -> None:
    checked = check(**tables(upstream(f"http://127.0.0.1:{closed_port()}/v1")))
    assert checked.status == 1
    assert rows(checked)[0].startswith("error upstreams.up: no connection to http://127.0.0.1:")
    assert "nothing listens there" in checked.hints


def test_upstream_unknown_name_is_an_error(check: Check) -> None:
    checked = check(**tables(upstream("http://no-such-host.invalid/v1")))
    assert checked.status == 1
    assert "name lookup of no-such-host.invalid" in rows(checked)[0]
    assert "name servers" in checked.hints


class Host:
    """A server with TLS at `localhost`. folder: has the PEM file of its authority."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self._folder = folder

    def context(self, *names: str, days: float = 90.0) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        now = datetime.datetime.now(datetime.UTC)
        leaf = self.authority.issue_cert(
            *names,
            not_before=now - datetime.timedelta(days=100),
            not_after=now + datetime.timedelta(days=days),
        )
        leaf.configure_cert(context)
        return context

    def client_cert(self) -> Path:
        path = self._folder / "client.pem"
        self.authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(
            str(path)
        )
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("transport", ["native", "httpx"])
def test_upstream_certificate_says_how_long_it_is_valid(
    check: Check, host: Host, transport: str
) -> None:
    with scripted(host.context("localhost", days=61.5)) as server:
        server.answers["/v1/models"] = models("m")
        option = upstream(f"{server.url}/v1", ca=str(host.ca), transport=transport)
        assert rows(check(**tables(option))) == [
            "ok upstreams.up: takes our key, has 1 model, TLSv1.3, certificate valid for 61 days"
        ]


def test_upstream_certificate_that_ends_soon_is_a_warning(check: Check, host: Host) -> None:
    with scripted(host.context("localhost", days=3.5)) as server:
        server.answers["/v1/models"] = models("m")
        checked = check(**tables(upstream(f"{server.url}/v1", ca=str(host.ca))))
    assert checked.status == 0
    assert "warning upstreams.up: its certificate ends in 3 days" in rows(checked)


@pytest.mark.parametrize(
    ("names", "days", "trusted", "said", "hint"),
    [
        ("localhost", -1.0, True, "certificate has expired", "has to be renewed there"),
        ("other.example", 90.0, True, "Hostname mismatch", "a host of the certificate"),
        ("localhost", 90.0, False, "local issuer certificate", "its authority as upstreams[0].ca"),
    ],
)
def test_upstream_certificate_that_is_refused_says_why(
    check: Check, host: Host, names: str, days: float, trusted: bool, said: str, hint: str
) -> None:
    with scripted(host.context(names, days=days)) as server:
        option = upstream(f"{server.url}/v1", **({"ca": str(host.ca)} if trusted else {}))
        checked = check(**tables(option))
    assert checked.status == 1
    assert rows(checked)[0].startswith("error upstreams.up: its certificate is refused: ")
    assert said in rows(checked)[0]
    assert hint in checked.hints


def test_upstream_without_tls_is_recognised(check: Check, server: Scripted) -> None:
    checked = check(**tables(upstream(f"https://localhost:{server.port}/v1")))
    assert checked.status == 1
    assert rows(checked)[0].startswith("error upstreams.up: ")


@pytest.mark.parametrize("given", [True, False])
def test_upstream_with_client_certificate_is_asked_with_it(
    check: Check, host: Host, given: bool
) -> None:
    context = host.context("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=host.ca)
    with scripted(context) as server:
        server.answers["/v1/models"] = models("m")
        option = upstream(f"{server.url}/v1", ca=str(host.ca), transport="httpx")
        if given:
            option["client_cert"] = str(host.client_cert())
        checked = check(**tables(option))
    assert checked.status == (0 if given else 1), checked.lines


def test_upstream_behind_a_proxy_is_asked_through_it(check: Check, host: Host) -> None:
    with scripted(host.context("localhost", days=61.5)) as server, proxy() as way:
        server.answers["/v1/models"] = models("m")
        option = upstream(f"{server.url}/v1", ca=str(host.ca), transport="httpx", proxy=way.url)
        checked = check(**tables(option))
        assert rows(checked) == [
            "ok upstreams.up: takes our key, has 1 model, TLSv1.3, certificate valid for 61 days"
        ]
        assert way.tunnels == [f"localhost:{server.port}"]


def test_upstream_ca_that_is_no_certificate_is_an_error(check: Check, tmp_path: Path) -> None:
    (tmp_path / "wrong.pem").write_text("no certificate")
    option = upstream("https://localhost:1/v1", ca=str(tmp_path / "wrong.pem"))
    checked = check(**tables(option))
    assert checked.status == 1
    assert "is not a readable PEM file" in rows(checked)[0]


# Clocks


@pytest.mark.parametrize(
    ("ahead", "state", "said"),
    [
        (0.0, "ok", "agrees"),
        (12.0, "warning", "s ahead of that of this machine"),
        (-3600.0, "error", "60 min behind that of this machine"),
    ],
)
def test_clock_of_an_upstream_is_compared(
    check: Check, server: Scripted, ahead: float, state: str, said: str
) -> None:
    server.answers["/v1/models"] = models("m", date=formatdate(time.time() + ahead, usegmt=True))
    checked = check("--only", "clock", **tables(upstream(f"{server.url}/v1")))
    (row,) = checked.lines
    assert row.startswith(f"{state} upstreams.up: ") and said in row
    assert checked.status == (1 if state == "error" else 0)


def test_clock_date_that_is_no_date_is_left_out(check: Check, server: Scripted) -> None:
    server.answers["/v1/models"] = models("m", date="yesterday")
    assert check("--only", "clock", **tables(upstream(f"{server.url}/v1"))).lines == []


# Programs of this machine


def test_upstream_of_this_machine(check: Check, tmp_path: Path) -> None:
    there = tmp_path / "claude"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    local = [
        {"name": "sim", "dialect": "simulator"},
        {"name": "there", "dialect": "claude-cli", "command": str(there)},
        {"name": "gone", "dialect": "claude-cli", "command": "no-such-program"},
    ]
    checked = check("--offline", upstreams=local)
    assert checked.status == 1
    assert rows(checked) == [
        "ok upstreams.sim: is built in",
        f"ok upstreams.there: {there} is there; whether it is signed in is not checked",
        "error upstreams.gone: there is no program no-such-program in PATH",
    ]


# Calls that cost money


def test_models_are_called_only_when_asked_for(check: Check, server: Scripted) -> None:
    server.answers |= {"/v1/models": models("m", "gpt-5"), "/v1/chat/completions": Answer({})}
    given = tables(
        upstream(f"{server.url}/v1", extra_body={"store": False}), targets=("up/m", "up/gpt-5")
    )
    check(**given)
    assert [line for line, _, _ in server.asked] == ["GET /v1/models"]
    checked = check("--probe", **given)
    assert checked.of("ok target") and checked.status == 0
    called = [json.loads(body) for line, _, body in server.asked if line.startswith("POST")]
    assert sorted((body["model"], body["store"]) for body in called) == [
        ("gpt-5", False),
        ("m", False),
    ]
    assert {(body["model"], name) for body in called for name in body if "max" in name} == {
        ("m", "max_tokens"),
        ("gpt-5", "max_completion_tokens"),
    }


@pytest.mark.parametrize(
    ("dialect", "path", "member"),
    [("anthropic", "/v1/messages", "max_tokens"), ("responses", "/v1/responses", "input")],
)
def test_call_of_another_dialect(
    check: Check, server: Scripted, dialect: str, path: str, member: str
) -> None:
    server.answers |= {path: Answer({}), "/v1/models": models("m")}
    checked = check("--probe", **tables(upstream(f"{server.url}/v1", dialect)))
    assert checked.of("ok target up/m: answered in ")
    ((_, headers, body),) = [one for one in server.asked if one[0] == f"POST {path}"]
    assert member in json.loads(body)
    assert (headers.get("anthropic-version") is not None) == (dialect == "anthropic")


def test_call_that_is_refused_is_an_error(check: Check, server: Scripted) -> None:
    server.answers |= {
        "/v1/models": models("m"),
        "/v1/chat/completions": Answer({"error": {"message": "no such model"}}, 404),
    }
    checked = check("--probe", **tables(upstream(f"{server.url}/v1")))
    assert checked.status == 1
    assert checked.of("error target up/m: ")
