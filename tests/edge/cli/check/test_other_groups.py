"""The rows of prices, limits, sign-in, alerts, media and the configuration."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from edge.cli.check import limits, systemd
from edge.cli.check.limits import available_cores
from tests.clients.oidc_provider import oidc_provider

from .conftest import Check
from .servers import Answer, Scripted, closed_port, scripted

# Configuration


def test_configuration_is_counted_and_advised(check: Check) -> None:
    checked = check(
        "--only",
        "config",
        upstreams=[{"name": "u", "dialect": "openai", "base_url": "https://api.example.com"}],
        models=[{"id": "m", "targets": ["u/m"]}],
        dashboard={
            "public_url": "https://llm.example.com",
            "oidc": {"issuer": "https://accounts.google.com", "client_id": "x"},
        },
    )
    ok, warning, note = checked.lines
    assert checked.status == 0
    assert ok.startswith("ok config: ") and ok.endswith("1 upstream, 1 model, 0 plans")
    assert warning.startswith("warning dashboard.oidc.allowed_domains: is not given, so every")
    assert note.startswith("note upstreams[0].base_url: https://api.example.com has no path")
    assert check("--only", "config", "--strict", brand="Acme").status == 0


def test_media_without_packages_is_a_warning(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "upstreams": [{"name": "u", "dialect": "simulator"}],
        "models": [{"id": "m", "targets": ["u/m"], "modalities": ["text", "image"]}],
        "media": {"image": "m"},
    }
    monkeypatch.setattr("edge.cli.check.extras.missing_extras", lambda settings: [])
    assert check("--only", "media", **given).lines == [
        "ok media: the packages that decode media are installed"
    ]
    sentence = "media: images cannot be decoded without pip"
    monkeypatch.setattr("edge.cli.check.extras.missing_extras", lambda settings: [sentence])
    assert check("--only", "media", **given).lines == [f"warning {sentence}"]
    assert check("--only", "media", brand="Acme").lines == []


# Prices


def price_rows(check: Check, *models: dict[str, Any], **tables: Any) -> list[str]:
    upstream = {"name": "u", "dialect": "simulator"}
    return check("--only", "prices", upstreams=[upstream], models=list(models), **tables).lines


FULL = {"cache_read": "0.1", "cache_write": "1.25", "hosted_call": "0"}


def model(name: str, input_price: str, output_price: str, **more: Any) -> dict[str, Any]:
    price = {"input": input_price, "output": output_price, **FULL, **more.pop("price", {})}
    return {"id": name, "targets": [f"u/{name}"], "price": price, "max_output": 9, **more}


def test_prices_that_are_whole_are_ok(check: Check) -> None:
    assert price_rows(check, model("a", "1", "4"), model("b", "2", "2")) == [
        "ok prices: 2 of 2 models have a price"
    ]


def test_prices_missing_beside_others_is_a_warning(check: Check) -> None:
    found = price_rows(check, model("a", "1", "4"), {"id": "free", "targets": ["u/free"]})
    assert found[0].startswith("warning models[1].price: is not given; requests to free cost")


def test_prices_output_below_input_is_a_warning(check: Check) -> None:
    (found,) = price_rows(check, model("a", "15", "3"))
    assert found.startswith("warning models[0].price.output: 3.00 is less than input, 15.00")


def test_prices_of_the_cache(check: Check) -> None:
    claude = model("claude-sonnet-5", "3", "15")
    del claude["price"]["cache_write"], claude["price"]["cache_read"]
    plain = model("m", "3", "15")
    del plain["price"]["cache_write"]
    write, read, *_ = price_rows(check, claude, plain)
    assert write.startswith("warning models[0].price.cache_write: is not given, so 3.00 is")
    assert read.startswith("note models[].price.cache_read: is not given for claude-sonnet-5;")


def test_prices_of_a_dearer_fallback_is_a_note(check: Check) -> None:
    cheap = model("cheap", "1", "2", fallbacks=["dear", "same"])
    found = price_rows(check, cheap, model("dear", "1", "9"), model("same", "1", "2"))
    assert found[1:] == [
        "note models[0].fallbacks[0]: dear is dearer than cheap; callers pay the price of the "
        "model that answers"
    ]


# Limits


def test_limits_of_this_machine(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check("--only", "limits")
    assert found.status == 0
    assert found.of("ok descriptors", "warning descriptors")
    assert found.of("ok server.workers: 1 worker on ")
    assert found.of("note server.drain: a stop takes up to 601 s")
    monkeypatch.setattr(limits, "allowed", lambda: 1024)
    few = check("--only", "limits")
    assert few.of("warning descriptors: 1024 file descriptors are enough for 435 open requests")
    assert "LimitNOFILE" in few.hints
    monkeypatch.setattr(limits, "available_cores", lambda root: 1.5)
    redis = {"counters": "redis://127.0.0.1/0"}
    many = check("--only", "limits", server={"workers": 4}, store=redis)
    assert many.of("warning server.workers: 4 workers on 1.5 cores")
    assert "set server.workers to 1, or less" in many.hints


def test_cores_are_those_of_the_control_group(tmp_path: Path) -> None:
    own = len(os.sched_getaffinity(0))
    assert available_cores(tmp_path) == own
    group = tmp_path / "sys/fs/cgroup/pods/one"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pods/one\n")
    assert available_cores(tmp_path) == own
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("50000 100000\n")
    assert available_cores(tmp_path) == 0.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90.0),
        ("10min 1s 500ms", 601.5),
        ("infinity", float("inf")),
        ("1h", 3600.0),
        ("", None),
        ("soon", None),
    ],
)
def test_systemd_spans(text: str, seconds: float | None) -> None:
    assert systemd.of_span(text) == seconds


def test_systemd_unit_of_a_process(tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text("0::/system.slice/penstock.service\n")
    assert systemd.unit_of(7, tmp_path) == "penstock.service"
    (folder / "cgroup").write_text("0::/user.slice/user@1000.service/app.slice/x.scope\n")
    assert systemd.unit_of(7, tmp_path) == ""
    assert systemd.unit_of(8, tmp_path) == ""


@pytest.mark.parametrize(
    ("said", "state"), [("10min 20s", "ok"), ("1min 30s", "warning"), ("", "note")]
)
def test_drain_is_compared_with_the_unit(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, state: str
) -> None:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(limits, "unit_of", lambda pid: "penstock.service")
    checked = check("--only", "limits")
    (row,) = [line for line in checked.lines if " server.drain: " in line]
    assert row.startswith(f"{state} ")
    assert ("set TimeoutStopSec=616" in checked.hints) == (state == "warning")


def test_systemd_that_fails_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asyncio.run(systemd.stop_timeout("penstock.service")) is None
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    assert asyncio.run(systemd.stop_timeout("penstock.service")) is None


# Sign-in


def signing_in(issuer: str) -> dict[str, Any]:
    oidc = {"issuer": issuer, "client_id": "x", "client_secret": "canary-client-secret"}
    return {"dashboard": {"public_url": "https://llm.example.com", "oidc": oidc}}


def test_sign_in_by_a_real_provider_is_ok(check: Check, tmp_path: Path) -> None:
    with oidc_provider("http://127.0.0.1/app/oidc/callback", tmp_path) as provider:
        checked = check("--only", "oidc", **signing_in(provider.url))
    (row,) = checked.lines
    assert row.startswith(f"ok dashboard.oidc: {provider.url} has its discovery document and ")


def discovery(server: Scripted, **changes: str) -> Answer:
    document = {
        "issuer": server.url,
        "authorization_endpoint": f"{server.url}/a",
        "token_endpoint": f"{server.url}/t",
        "jwks_uri": f"{server.url}/keys",
    }
    return Answer({**document, **changes})


@pytest.mark.parametrize(
    ("changes", "keys", "said", "hint"),
    [
        ({"issuer": "https://other.example"}, Answer({"keys": [{}]}), "its issuer is", "exactly"),
        ({}, Answer(status=500), "key set: /keys answers 500", "works"),
        ({}, Answer({"keys": []}), "its key set is empty", ""),
        ({}, Answer(b"<html>"), "key set: its answer cannot be read", ""),
    ],
)
def test_sign_in_by_a_provider_that_is_wrong(
    check: Check, changes: dict[str, str], keys: Answer, said: str, hint: str
) -> None:
    with scripted() as server:
        server.answers["/.well-known/openid-configuration"] = discovery(server, **changes)
        server.answers["/keys"] = keys
        checked = check("--only", "oidc", **signing_in(server.url))
    assert checked.status == 1
    (row,) = checked.lines
    assert said in row and hint in checked.hints


def test_sign_in_without_a_discovery_document(check: Check) -> None:
    with scripted() as server:
        checked = check("--only", "oidc", **signing_in(f"{server.url}/realms/x"))
    assert checked.of("error dashboard.oidc: discovery document: /realms/x/.well-known/")
    assert "its discovery document is not there" in checked.hints


# Alerts


def test_alerts_address_that_takes_connections_is_ok(check: Check) -> None:
    with scripted() as server:
        given = {"webhook": f"{server.url}/hook?token=canary-of-the-url"}
        checked = check("--only", "alerts", alerts=given)
        assert checked.lines == ["ok alerts.webhook: localhost accepts connections"]
        assert server.asked == []


def test_alerts_address_that_does_not(check: Check) -> None:
    refused = {"webhook": f"http://localhost:{closed_port()}/hook"}
    checked = check("--only", "alerts", alerts=refused)
    assert checked.status == 1
    assert checked.of("error alerts.webhook: TCP connection with localhost failed: ")
    unknown = {"webhook": "https://no-such-host.invalid/hook"}
    assert check("--only", "alerts", alerts=unknown).of(
        "error alerts.webhook: name lookup of no-such-host.invalid: "
    )


# Traces


def test_collector_that_takes_spans_is_ok(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue,authorization=Bearer%20canary-1")
    with scripted() as server:
        server.answers["/v1/traces"] = Answer(b"")
        given = {"endpoint": server.url, "headers": {"Authorization": "Bearer canary-2"}}
        assert check("--only", "otlp", tracing=given).lines == [
            f"ok tracing.endpoint: localhost:{server.port} takes spans"
        ]
        ((line, headers, body),) = server.asked
    assert (line, body) == ("POST /v1/traces", b"")
    assert headers["content-type"] == "application/x-protobuf"
    assert (headers["x-team"], headers["authorization"]) == ("blue", "Bearer canary-2")


@pytest.mark.parametrize(
    ("status", "state", "hint"),
    [
        (401, "error", "tracing.headers"),
        (404, "error", "4318"),
        (400, "warning", ""),
        (503, "error", ""),
    ],
)
def test_collector_that_refuses(check: Check, status: int, state: str, hint: str) -> None:
    with scripted() as server:
        server.otherwise = Answer(b"", status)
        checked = check("--only", "otlp", tracing={"endpoint": f"{server.url}/v1/traces"})
    (row,) = checked.lines
    assert row.startswith(f"{state} tracing.endpoint: localhost:") and f"answers {status}" in row
    assert hint in checked.hints


def test_collector_that_is_away(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://localhost:{closed_port()}")
    checked = check("--only", "otlp", brand="Acme")
    assert checked.status == 1
    assert checked.of("error tracing.endpoint: localhost:") and "OTEL_EXPORTER" in checked.hints
    assert check("--only", "otlp", tracing={"enabled": False}).lines == []


def test_collector_without_the_extra_is_a_warning(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.cli.check.collector.otlp_installed", lambda: False)
    with scripted() as server:
        server.answers["/v1/traces"] = Answer(b"")
        checked = check("--only", "otlp", tracing={"endpoint": server.url})
    assert [line.partition(" ")[0] for line in checked.lines] == ["warning", "ok"]
    assert "pip install 'penstock[otlp]'" in checked.hints
