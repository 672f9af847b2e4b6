"""Loading a configuration: files, defaults, the demo."""

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.config.demo import demo_settings
from edge.config.load import Settings, SettingsError, load, parse
from edge.config.secrets import Secret

from .documents import CONFIG, MODEL, UPSTREAM, model, uncommented


def test_route_endpoint_follows_from_its_path() -> None:
    paths = {"/a/chat/completions": "chat.completions", "/b/completions": "completions"}
    routes = [{"path": path, "dialect": "auto"} for path in paths]
    settings = parse({"routes": routes}, env={})
    assert {route.path: route.endpoint for route in settings.routes} == paths


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", ""), ("a.toml", "# later\n"), ("a.json", "{}")]
)
def test_load_empty_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError, match="is empty; expected at least one of"):
        load(file)


def test_load_toml_and_json_are_equal(tmp_path: Path) -> None:
    document = model(context=8192) | {"brand": "Claudin.io"}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "a.toml").write_text(
        'brand = "Claudin.io"\n[[upstreams]]\nname = "up"\ndialect = "openai"\n'
        'base_url = "https://up.example/v1"\n[[models]]\nid = "m"\ncontext = 8192\n'
        'targets = ["up/m"]\n'
    )
    assert load(tmp_path / "a.json", env={}) == load(tmp_path / "a.toml", env={})


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_load_a_file_of_a_windows_editor(tmp_path: Path, start: bytes, end: bytes) -> None:
    lines = (b'brand = "Acme"', b"[server]", b"port = 1", b"")
    (tmp_path / "a.toml").write_bytes(start + end.join(lines))
    settings = load(tmp_path / "a.toml", env={})
    assert (settings.brand, settings.server.port) == ("Acme", 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"a = ", "is not TOML"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[" * 100_000, "is not JSON: is nested too deeply"),
        ("a.toml", b"a = " + b"[" * 100_000, "is not TOML: is nested too deeply"),
        ("a.toml", b"\xff", "is not UTF-8 text"),
        ("a.toml", None, "cannot be read: No such file or directory"),
    ],
)
def test_load_unreadable_file_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"{name}: {message}"):
        load(tmp_path / name)


def test_load_server_values_replace_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[server]\nport = 1\nhost = "::1"\n')
    server = load(tmp_path / "a.toml", env={}, server={"port": 0}).server
    assert (server.port, server.host) == (0, "::1")
    with pytest.raises(SettingsError, match="workers need Redis"):
        load(tmp_path / "a.toml", env={}, server={"workers": 2})


@pytest.mark.parametrize("brand", ["Claudin.io", "My  Own_Edge", "Claude Code Proxy"])
def test_keys_and_prefixes_of_models_have_one_name_of_the_brand(brand: str) -> None:
    settings = parse({"brand": brand}, env={})
    assert settings.key_prefixes.live == f"sk-{settings.slug}-live-"
    assert settings.key_prefixes.test == f"sk-{settings.slug}-test-"


ENV = dict.fromkeys(
    (
        "PENSTOCK_ADMIN_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_ORGANIZATION",
        "ANTHROPIC_API_KEY",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
        "TRACING_KEY",
    ),
    "0123456789abcdef-x",
) | {"EGRESS_PROXY": "http://proxy:3128"}


def test_default_file_changes_no_default() -> None:
    settings = load(CONFIG / "penstock.toml", env={})
    given = {"upstreams", "models"}
    for field in msgspec.structs.fields(Settings):
        if field.name not in given:
            default = field.default
            if field.name == "store":
                default = parse({}, CONFIG).store  # relative to the folder of the file
            assert getattr(settings, field.name) == default, field.name


BUCKET = ("objects_endpoint", "objects_region", "objects_access_key", "objects_secret_key")
"""Settings of a bucket, which have no defaults."""


def test_default_file_commented_values_are_the_defaults() -> None:
    text = uncommented((CONFIG / "penstock.toml").read_text())
    settings = parse(tomllib.loads(text), CONFIG, env=ENV)
    plain = load(CONFIG / "penstock.toml", env={})
    tables = (
        *("server", "store", "auth", "limits", "errors", "log"),
        *("files", "fetch", "images", "audio", "jobs"),
    )
    for name in set(tables) - {"auth"}:
        shown = getattr(settings, name)
        if name == "server":  # two without a value that could be shown
            assert shown.public_url == "https://llm.example.com" and shown.max_connections
            shown = msgspec.structs.replace(shown, public_url=None, max_connections=None)
        if name == "store":  # whose value depends on `auth.mode`
            assert shown.responses_ttl == plain.keep_responses
            shown = msgspec.structs.replace(shown, responses_ttl=None)
            shown = msgspec.structs.replace(shown, **dict.fromkeys(BUCKET))
        if name == "jobs":  # results are kept without a bound unless one is given
            shown = msgspec.structs.replace(shown, keep_results=None)
        assert shown == getattr(plain, name), name
    document = tomllib.loads(text)
    for name in tables:
        known = {field.name for field in msgspec.structs.fields(getattr(plain, name))}
        assert set(document[name]) == known, name
    for name in ("media", "tracing"):
        known = {field.name for field in msgspec.structs.fields(getattr(plain, name))}
        assert set(document[name]) == known


def test_demo_needs_no_environment(tmp_path: Path) -> None:
    settings = demo_settings({}, tmp_path)
    assert settings.store.sql == f"sqlite:///{tmp_path}/penstock.db"
    assert [one.dialect for one in settings.upstreams] == ["simulator"]


def test_demo_takes_providers_with_a_key(tmp_path: Path) -> None:
    env = {
        "OPENAI_API_KEY": "sk-o",
        "ANTHROPIC_API_KEY": "sk-a",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }
    found = {one.name: one for one in demo_settings(env, tmp_path).upstreams}
    assert list(found) == ["simulator", "openai", "anthropic"]
    assert found["openai"].base_url == found["anthropic"].base_url == "http://127.0.0.1:9/v1"
    assert found["openai"].api_key == Secret("sk-o")
    with pytest.raises(SettingsError, match=r"upstreams\[1\].base_url"):
        demo_settings({**env, "OPENAI_BASE_URL": "nonsense"}, tmp_path)


@pytest.mark.parametrize(
    ("mode", "given", "kept"),
    [
        ("keys", {}, 30 * 86400),
        ("none", {}, 0),
        ("none", {"responses_ttl": "1h"}, 3600),
        ("keys", {"responses_ttl": 0}, 0),
    ],
)
def test_keep_responses_without_keys_only_when_written(
    mode: str, given: dict[str, Any], kept: float
) -> None:
    settings = parse(
        {"upstreams": [UPSTREAM], "models": [MODEL], "auth": {"mode": mode}, "store": given}, env={}
    )
    assert settings.keep_responses == kept
