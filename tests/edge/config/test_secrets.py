"""Secrets, locations, URLs and files: resolved, and never repeated in a message."""

import json
import pickle
from pathlib import Path

import msgspec
import pytest

from edge.config.load import load, parse
from edge.config.secrets import HttpUrl, Location, Secret

from .documents import CANARY, UPSTREAM, faults, upstream


@pytest.mark.parametrize("end", ["", "/", "?", "#", ":", "@", "://", "%"])
@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_location_shown_hides_any_password(scheme: str, end: str) -> None:
    written = Location.parse(f"{scheme}://ann:{CANARY}{end}x@cache:6379/0?name=x")
    assert written.shown == f"{scheme}://***@cache:6379/0"
    assert CANARY not in repr(written)


@pytest.mark.parametrize(
    "url",
    [
        "up.example/v1",
        "ftp://up.example",
        "https://",
        f"https://user:{CANARY}@up.example/v1",
        f"https://up.example/v1?key={CANARY}",
        f"https://up.example/v1#{CANARY}",
        "https://up.example:port/v1",
        "https://up.example/v1\r\nx: y",
        "https://[::1/v1",
    ],
)
def test_base_url_with_extra_parts_is_refused_without_echo(url: str) -> None:
    (fault,) = faults(upstream(base_url=url))
    assert fault.startswith("upstreams[0].base_url: ")
    assert CANARY not in fault


def test_base_url_trailing_slash_is_removed() -> None:
    assert HttpUrl.parse("http://[::1]:8080/v1/") == "http://[::1]:8080/v1"


def test_secret_is_hidden_in_every_rendering() -> None:
    settings = parse(
        upstream(
            api_key=CANARY,
            headers={"x-extra": CANARY},
            transport="httpx",
            proxy=f"http://u:{CANARY}@p",
        )
        | {
            "auth": {"admin_token": CANARY},
            "store": {
                "sql": f"postgresql://u:{CANARY}@db/p?password={CANARY}",
                "counters": f"redis://:{CANARY}@cache:6379/0",
            },
        },
        env={},
    )
    key = settings.upstreams[0].api_key
    assert key is not None
    assert key.reveal() == CANARY
    shown = [repr(settings), f"{settings}", f"{key} {key:>20} {key!r} %s" % key, str(vars)]
    shown.append(msgspec.json.encode(key, enc_hook=str).decode())
    shown.append(json.dumps(key, default=str))
    shown.append(str(pickle.dumps(key)))
    shown += [settings.store.sql.shown, settings.store.counters.shown]
    assert [text for text in shown if CANARY in text] == []
    assert pickle.loads(pickle.dumps(key)).reveal() == "***"
    assert settings.store.counters == f"redis://:{CANARY}@cache:6379/0"


def test_secret_is_read_from_environment_and_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n")
    settings = parse(
        upstream(api_key="env:UP_KEY") | {"auth": {"admin_token": "file:token"}},
        tmp_path,
        env={"UP_KEY": "sk-up"},
    )
    assert settings.upstreams[0].api_key == Secret("sk-up")
    assert settings.auth.admin_token == Secret(CANARY)


def test_missing_secret_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    document = {
        "upstreams": [
            {**UPSTREAM, "api_key": "env:UP_KEY"},
            {**UPSTREAM, "name": "b", "api_key": "env:EMPTY", "headers": {"x-a": "file:empty"}},
            {**UPSTREAM, "name": "c", "api_key": "file:nowhere"},
        ],
        "store": {"sql": "env:DATABASE_URL"},
    }
    assert faults(document, tmp_path, {"EMPTY": ""}) == (
        "store.sql: environment variable DATABASE_URL is not set",
        "upstreams[0].api_key: environment variable UP_KEY is not set",
        "upstreams[1].api_key: environment variable EMPTY is empty",
        "upstreams[1].headers.x-a: file empty is empty",
        "upstreams[2].api_key: file nowhere cannot be read: No such file or directory",
    )


def test_secret_of_wrong_type_is_not_echoed() -> None:
    (fault,) = faults(upstream(api_key={"value": CANARY}))
    assert CANARY not in fault


def test_certificate_path_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    settings = parse(upstream(ca="ca.pem"), tmp_path, env={})
    assert settings.upstreams[0].ca == tmp_path / "ca.pem"
    (fault,) = faults(upstream(ca="cb.pem"), tmp_path)
    assert fault.startswith(f"upstreams[0].ca: there is no file {tmp_path}/cb.pem")


def test_store_relative_path_is_resolved_against_the_file(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('[store]\nsql = "sqlite:///data/x.db"\njournal = "j"\nobjects = "file:o"\n')
    store = load(file).store
    assert store.sql == f"sqlite:///{tmp_path}/data/x.db"
    assert (store.journal, store.objects) == (f"{tmp_path}/j", f"file:{tmp_path}/o")
    file.write_text('[store]\ncounters = "memory"\n')
    store = load(file).store
    assert store.sql == f"sqlite:///{tmp_path}/var/penstock.db"
    assert store.journal == f"{tmp_path}/var/journal"


@pytest.mark.parametrize(
    ("key", "location"),
    [
        ("sql", "sqlite:////srv/x.db"),
        ("sql", "postgresql://db.example/x"),
        ("objects", "file:/srv/o"),
        ("objects", "s3://bucket/prefix"),
    ],
)
def test_store_other_location_is_unchanged(key: str, location: str) -> None:
    assert getattr(parse({"store": {key: location}}, Path("/etc/p")).store, key) == location


@pytest.mark.parametrize("url", ["https://u:p@gw.example", "https://gw.example/?k=v"])
def test_url_of_the_gateway_is_refused_without_advice_for_upstreams(url: str) -> None:
    (fault,) = faults({"dashboard": {"public_url": url}})
    assert fault.startswith("dashboard.public_url: must not carry")
    assert "put them in" not in fault and "upstreams[]" not in fault
