"""What a configuration file may say, and how each mistake in one is told."""

import json
import pickle
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import schema
from edge.settings import (
    Credits,
    Duration,
    HttpUrl,
    Location,
    Rate,
    Secret,
    Settings,
    SettingsError,
    Size,
    Span,
    advice,
    demo_settings,
    load,
    not_enforced,
    parse,
    slug,
)
from edge.units import network

CONFIG = Path(__file__).parents[2] / "config"
CANARY = "c4n4ry-51f0-secret"
UPSTREAM = {"name": "up", "dialect": "openai", "base_url": "https://up.example/v1"}
MODEL = {"id": "m", "targets": ["up/m"]}


def faults(
    document: object, directory: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        parse(document, directory, env=env or {})
    return raised.value.faults


def upstream(**fields: Any) -> dict[str, Any]:
    return {"upstreams": [{**UPSTREAM, **fields}]}


def model(**fields: Any) -> dict[str, Any]:
    return {"upstreams": [UPSTREAM], "models": [{**MODEL, **fields}]}


# Units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2), ("10m", 600), ("1h30m", 5400), ("7d", 604800), (1.5, 1.5), (0, 0)],
)
def test_durations_are_seconds(text: object, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("32MiB", 33554432),
        ("1GB", 10**9),
        ("65536", 65536),
        (7, 7),
        ("1.5 KiB", 1536),
        ("2kb", 2000),
    ],
)
def test_sizes_are_bytes(text: object, count: int) -> None:
    assert Size.parse(text) == count


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [("60/min", 60, 60), ("5000/10min", 5000, 600), ("200k/min", 200_000, 60), ("2/s", 2, 1)],
)
def test_rates_are_a_count_and_seconds(text: str, count: int, seconds: float) -> None:
    assert Rate.parse(text) == Rate(count, seconds)


@pytest.mark.parametrize(
    ("text", "nano"),
    [("3.00", 3 * 10**9), ("0.000000001", 1), (5, 5 * 10**9), ("999999999.999999999", 10**18 - 1)],
)
def test_credits_are_whole_nano_credits(text: object, nano: int) -> None:
    assert Credits.parse(text) == nano


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((Duration, text) for text in ("", "2", "s", "-1s", "2 weeks", -1, True, None, [1])),
        *((Duration, number) for number in (float("inf"), float("nan"))),
        *((Size, text) for text in ("", "MiB", "-1", "3q", 1.5, True, -1)),
        *(
            (Rate, text)
            for text in (
                *("", "60", "60/", "60/fortnight", "0/min", "1/0min", "0.5/s", 60),
                *("9999999m/s", f"{'9' * 400}/s", "1/3654d", f"1/{'9' * 400}d"),
            )
        ),
        *((Credits, text) for text in (3.0, "", "-1", "1e3", "0.0000000001", "1,00", True, "NaN")),
        *((Span, text) for text in ("", "month", "30s", "x", "3654d")),
        *((Location, text) for text in ("", "a b", "redis://h\r\n", 3)),
    ],
)
def test_other_forms_are_refused(kind: Any, text: object) -> None:
    with pytest.raises(ValueError, match="expected "):
        kind.parse(text)


@pytest.mark.parametrize("end", ["", "/", "?", "#", ":", "@", "://", "%"])
@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_password_is_hidden_whatever_is_in_it(scheme: str, end: str) -> None:
    written = Location.parse(f"{scheme}://ann:{CANARY}{end}x@cache:6379/0?name=x")
    assert written.shown == f"{scheme}://***@cache:6379/0"
    assert CANARY not in repr(written)


@given(st.integers(0, 10**18 - 1))
def test_credits_survive_being_written(nano: int) -> None:
    assert Credits.parse(str(Credits(nano))) == nano


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_durations_survive_being_written(seconds: float) -> None:
    written = str(Duration(seconds))
    assert Duration.parse(written) == pytest.approx(seconds)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_rates_and_sizes_survive_being_written(count: int, seconds: int) -> None:
    assert Size.parse(str(Size(count))) == count
    rate = Rate(count, seconds * 60)
    assert Rate.parse(str(rate)).count == count
    assert Rate.parse(str(rate)).seconds == rate.seconds


def test_windows_are_a_length_or_the_calendar_month() -> None:
    assert Span.parse("5h").seconds == 18000
    assert Span.parse("calendar month").seconds is None
    assert str(Span.parse("calendar month")) == "calendar month"


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
def test_base_urls_with_more_than_a_base_are_refused_without_echo(url: str) -> None:
    (fault,) = faults(upstream(base_url=url))
    assert fault.startswith("upstreams[0].base_url: ")
    assert CANARY not in fault


def test_base_url_loses_its_last_slash() -> None:
    assert HttpUrl.parse("http://[::1]:8080/v1/") == "http://[::1]:8080/v1"


def test_a_network_with_host_bits_is_told_its_name() -> None:
    with pytest.raises(ValueError, match=re.escape('did you mean "10.0.0.0/8"?')):
        network("10.0.0.1/8")
    assert str(network("10.1.2.3")) == "10.1.2.3/32"


# Secrets


def test_a_secret_shows_itself_nowhere() -> None:
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


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n")
    settings = parse(
        upstream(api_key="env:UP_KEY") | {"auth": {"admin_token": "file:token"}},
        tmp_path,
        env={"UP_KEY": "sk-up"},
    )
    assert settings.upstreams[0].api_key == Secret("sk-up")
    assert settings.auth.admin_token == Secret(CANARY)


def test_a_secret_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("bad", [f"{CANARY}\r\nx-evil: 1", f"{CANARY} b", f"{CANARY}ü"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_echo(bad: str) -> None:
    (fault,) = faults(upstream(api_key="env:K"), env={"K": bad})
    assert fault.startswith("upstreams[0].api_key: expected visible ASCII")
    assert CANARY not in fault


def test_a_secret_of_a_wrong_type_is_not_echoed() -> None:
    (fault,) = faults(upstream(api_key={"value": CANARY}))
    assert CANARY not in fault


@pytest.mark.parametrize(
    "token", ["admin", "changeme", "short-1234", "password12345678", "secret----------", "a" * 32]
)
def test_an_admin_token_that_anybody_would_try_is_refused(token: str) -> None:
    (fault,) = faults({"auth": {"admin_token": token}})
    assert fault.startswith("auth.admin_token: ")
    assert token not in fault.removeprefix("auth.admin_token: ")


# Mistakes in the file


def test_an_unknown_key_anywhere_is_named_with_its_nearest() -> None:
    document = {
        "brnd": "x",
        "server": {"prot": 1},
        "upstreams": [UPSTREAM, {**UPSTREAM, "name": "b", "base_ulr": "https://b"}],
        "plans": [{"id": "p", "windows": [{"length": "5h", "credits": "1", "lenght": 1}]}],
        "models": [{**MODEL, "price": {"ouput": "1"}}],
        "log": {"zzz": 1},
    }
    assert faults(document) == (
        "brnd: unknown key; did you mean brand?",
        "server.prot: unknown key; did you mean port?",
        "plans[0].windows[0].lenght: unknown key; did you mean length?",
        "upstreams[1].base_ulr: unknown key; did you mean base_url?",
        "models[0].price.ouput: unknown key; did you mean output?",
        "log.zzz: unknown key; known here: level, format, requests",
    )


RENAMED = {
    "server": {
        "drain_notice": "drain_delay",
        "header_hold": "first_token_hold",
        "keep_alive": "ping_interval",
        "hear_out": "disconnect_drain",
        "body_timeout": "upload_idle_timeout",
    },
    "store": {
        "rates_without_counters": "rates_when_redis_is_down",
        "budgets_without_counters": "budgets_when_redis_is_down",
        "responses": "responses_ttl",
        "responses_size": "responses_max_size",
        "responses_count": "responses_max_count",
    },
    "auth": {"plan": "default_plan"},
    "limits": {
        "throttle_wait": "throttle_max_wait",
        "throttle_queue": "throttle_max_per_key",
        "throttle_total": "throttle_max_total",
        "throttle_memory": "throttle_max_memory",
        "bodies": "max_body_memory",
        "bodies_each": "max_body_memory_per_key",
    },
    "upstreams[0]": {
        "connections": "max_connections",
        "processes": "max_processes",
        "waiting": "max_waiting",
        "spare": "prewarm",
    },
    "models[0]": {
        "name": "display_name",
        "output": "output_modalities",
        "balance": "load_balancing",
    },
    "fallback": {
        "attempts": "max_attempts",
        "time": "deadline",
        "pause": "backoff",
        "longest_pause": "max_backoff",
        "unanswered": "retry_unanswered",
    },
    "breaker": {
        "failures": "min_failures",
        "share": "failure_rate",
        "pause": "open_for",
        "longest_pause": "max_open_for",
    },
    "affinity": {"keep": "ttl", "most": "max_entries"},
}
"""Table → old key → the key that took its place before 0.1.0."""


def old_keys(table: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """A document that has the old keys of `table`, in their order."""
    written = dict.fromkeys(keys, 1)
    if table == "upstreams[0]":
        return {"upstreams": [{**UPSTREAM, **written}]}
    if table == "models[0]":
        return {"upstreams": [UPSTREAM], "models": [{**MODEL, **written}]}
    return {table: written}


@pytest.mark.parametrize("table", RENAMED)
def test_parse_old_key_refuses_it_and_names_the_new_one(table: str) -> None:
    assert faults(old_keys(table, RENAMED[table])) == tuple(
        f'{table}.{old}: this setting is called "{new}"' for old, new in RENAMED[table].items()
    )


def test_each_value_of_a_wrong_kind_is_told_at_once() -> None:
    document = {
        "brand": 3,
        "server": {"port": "80", "workers": 0, "max_body": "3q", "trusted_proxies": ["x"]},
        "auth": {"mode": "open"},
        "log": [],
        "errors": {"details": "yes"},
        "upstreams": [{"dialect": "openai"}, "up"],
        "models": [{"id": "a b", "targets": []}, {"id": "m", "targets": "up/m", "context": None}],
    }
    assert faults(document) == (
        "brand: expected a text, found 3",
        'server.port: expected a whole number, found "80"',
        "server.workers: expected a whole number >= 1, found 0",
        'server.max_body: expected a size such as "32MiB" or "1GB", or a number of bytes, '
        'found "3q"',
        'server.trusted_proxies[0]: expected a network such as "10.0.0.0/8" or "fd00::/8", '
        'found "x"',
        'auth.mode: expected one of "keys", "none", found "open"',
        "upstreams[0].name: is missing",
        'upstreams[1]: expected a table, found "up"',
        "models[0].id: expected a name without spaces or quotes, with * only at its end, "
        'found "a b"',
        "models[0].targets: expected at least one entry, found none",
        'models[1].targets: expected a list, found "up/m"',
        'errors.details: expected true or false, found "yes"',
        "log: expected a table, found a list",
    )


@pytest.mark.parametrize("table", ["headers", "environment"])
def test_what_stands_in_the_place_of_secrets_is_not_repeated(table: str) -> None:
    (fault,) = faults({"upstreams": [{"name": "u", "dialect": "claude-cli", table: "canary"}]})
    assert fault == f"upstreams[0].{table}: expected a table"


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_a_document_that_is_no_table_is_refused(document: object) -> None:
    (fault,) = faults(document)
    assert fault.startswith("expected a table")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"server": {"workers": 2}},
            "server.workers: 2 workers need Redis to count limits together; set store.counters = "
            '"redis://HOST:6379/0", or server.workers = 1',
        ),
        (
            {"store": {"sql": "mysql://h/d"}},
            'store.sql: expected "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE"',
        ),
        (
            {"store": {"sql": "sqlite:///:memory:"}},
            'store.sql: expected "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE"',
        ),
        (
            {"store": {"counters": "disk"}},
            'store.counters: expected "memory" or "redis://HOST:PORT/0"',
        ),
        (
            {"store": {"counters": "redis://:hunter2/@cache:6379/0"}},
            'store.counters: expected "redis://HOST:PORT/0"; write / ? # @ : % in a password as '
            "%2F %3F %23 %40 %3A %25",
        ),
        (
            {"limits": {"throttle_max_wait": 0}},
            "limits.throttle_max_wait: expected more than 0 seconds; "
            'on_excess = "reject" never waits',
        ),
        (
            {"limits": {"throttle_max_memory": "0"}},
            "limits.throttle_max_memory: expected more than 0 bytes",
        ),
        (
            {"store": {"objects": "var"}},
            'store.objects: expected "file:FOLDER" or "s3://BUCKET/PREFIX"',
        ),
        (
            {"server": {"cors_origins": ["app.example"]}},
            'server.cors_origins[0]: expected an origin such as "https://app.example.com" or "*", '
            'found "app.example"',
        ),
        ({"brand": "—"}, "brand: expected at least one ASCII letter or digit"),
        ({"brand": "a\nb"}, "brand: expected printable text on one line"),
        (
            {"upstreams": [UPSTREAM, UPSTREAM]},
            'upstreams: 2 entries have the name "up"; expected one',
        ),
        (
            {"plans": [{"id": "p"}, {"id": "p"}]},
            'plans: 2 entries have the id "p"; expected one',
        ),
        (
            {"upstreams": [{"name": "up", "dialect": "anthropic"}]},
            "upstreams[0].base_url: is missing; dialect anthropic needs it",
        ),
        (
            upstream(dialect="simulator"),
            "upstreams[0].base_url: is not used by dialect simulator; remove it",
        ),
        (upstream(idle_timeout=0), "upstreams[0].idle_timeout: expected more than 0 seconds"),
        (
            upstream(auth_header="api-key"),
            "upstreams[0].auth_header: is not used without api_key; set the key or remove it",
        ),
        (upstream(query={"": "1"}), "upstreams[0].query.: expected a printable name"),
        (
            upstream(query={"v": "1\r\nx: y"}),
            "upstreams[0].query.v: expected printable text without line ends as its value",
        ),
        (
            upstream(extra_body={"Max_Tokens": 5}),
            "upstreams[0].extra_body.Max_Tokens: cannot be set here: the cost of a request is "
            "computed from the caller's own",
        ),
        (
            upstream(extra_body={"day": date(2026, 1, 1)}),
            "upstreams[0].extra_body.day: expected a JSON value: no date, nan or inf",
        ),
        (
            upstream(extra_body={"a": [float("nan")]}),
            "upstreams[0].extra_body.a: expected a JSON value: no date, nan or inf",
        ),
        (
            upstream(extra_body={"user": "x"}, drop_body=["user"]),
            "upstreams[0].extra_body.user: is in drop_body too; keep one of them",
        ),
        (
            upstream(drop_body=["seed", "max_output_tokens"]),
            "upstreams[0].drop_body[1]: max_output_tokens cannot be dropped: the cost of a "
            "request is computed from it",
        ),
        (
            {"upstreams": [{"name": "cli", "dialect": "claude-cli", "drop_body": ["user"]}]},
            "upstreams[0].drop_body: is not used by dialect claude-cli; remove it",
        ),
        (
            upstream(headers={"x y": "1"}),
            "upstreams[0].headers.x y: expected a header name (RFC 9110 token)",
        ),
        (
            upstream(headers={"Host": "h"}),
            "upstreams[0].headers.Host: is set by Penstock itself; remove it",
        ),
        (
            upstream(headers={"x-a": "1", "X-A": "2"}),
            "upstreams[0].headers.X-A: is there in another case too; keep one of them",
        ),
        (
            upstream(headers={"x-a": "1\r\nx-b: 2"}),
            "upstreams[0].headers.x-a: expected printable ASCII characters without line ends as "
            "its value",
        ),
        (upstream(proxy="http://p:1"), 'upstreams[0].proxy: needs transport = "httpx"'),
        (
            upstream(proxy="p:1", transport="httpx"),
            'upstreams[0].proxy: expected a URL such as "http://proxy.example.com:3128"',
        ),
        (
            model(targets=["other/m"]),
            "models[0].targets[0]: unknown upstream other; known: up",
        ),
        (
            model(targets=["up"]),
            'models[0].targets[0]: expected "upstream/its-model-name", with * only at the end, '
            'found "up"',
        ),
        (
            model(targets=["up/*"]),
            "models[0].targets[0]: ends in *, but the id m does not; write the whole "
            "name of the upstream's model",
        ),
        (
            model(aliases=["m"]),
            'models[0].aliases[0]: "m" is also models[0].id; expected each name once',
        ),
        (
            model(id="m-*", aliases=["x"]),
            "models[0].aliases: an id that ends in * has no aliases; remove them",
        ),
        (
            model(fallbacks=["n"]),
            "models[0].fallbacks[0]: unknown model n; expected an id or alias of models",
        ),
        (
            model(fallbacks=["m"]),
            "models[0].fallbacks[0]: m is this model itself; expected another",
        ),
        (model(plans=["pro"]), "models[0].plans[0]: unknown plan pro"),
        (
            model(weights=[1]),
            'models[0].weights: is used only with load_balancing = "weight"; set that or remove it',
        ),
        (
            model(family="gpt 5"),
            "models[0].family: expected a name without spaces, quotes or *, at most 200 "
            'characters, found "gpt 5"',
        ),
        (
            model(families=["gpt-5", "gpt-4.1"]),
            "models[0].families: expected 1 names, one for each target, found 2",
        ),
        (
            model(family="gpt-5", families=["gpt-5"]),
            "models[0].families: is not used beside family; keep one of them",
        ),
        (
            model(load_balancing="weight", weights=[1, 2]),
            "models[0].weights: expected 1 numbers, one for each target, found 2",
        ),
        (
            {"plans": [{"id": "p", "on_budget": "x"}]},
            "plans[0].on_budget: unknown model x; expected an id or alias of models",
        ),
        (
            {"plans": [{"id": "p", "on_rate_limit": "x"}]},
            "plans[0].on_rate_limit: unknown model x; expected an id or alias of models",
        ),
        ({"breaker": {"open_for": "0s"}}, "breaker.open_for: expected more than 0 seconds"),
        ({"fallback": {"deadline": "0s"}}, "fallback.deadline: expected more than 0 seconds"),
        (
            {"media": {"image": "eye"}},
            "media.image: unknown model eye; expected an id or alias of models",
        ),
        (
            {
                "upstreams": [UPSTREAM],
                "models": [{**MODEL, "aliases": ["n"]}, {"id": "n", "targets": ["up/n"]}],
            },
            'models[1].id: "n" is also models[0].aliases[0]; expected each name once',
        ),
        (
            {"routes": [{"path": "/v2/odd", "dialect": "openai"}]},
            "routes[0].endpoint: is missing; /v2/odd ends in none of /chat/completions, "
            "/completions, /responses, /responses/compact, /responses/input_tokens, /messages, "
            "/messages/count_tokens, /embeddings, /models",
        ),
        (
            {"routes": [{"path": "/x/models", "dialect": "openai"}] * 2},
            'routes: 2 entries have the path "/x/models"; expected one',
        ),
    ],
)
def test_what_does_not_fit_together_is_told_in_a_sentence(
    document: dict[str, Any], expected: str
) -> None:
    assert faults(document) == (expected,)


def test_redis_allows_more_workers() -> None:
    settings = parse({"server": {"workers": 4}, "store": {"counters": "redis://h"}}, env={})
    assert settings.server.workers == 4


def test_a_routes_endpoint_follows_from_its_path() -> None:
    paths = {"/a/chat/completions": "chat.completions", "/b/completions": "completions"}
    routes = [{"path": path, "dialect": "auto"} for path in paths]
    settings = parse({"routes": routes}, env={})
    assert {route.path: route.endpoint for route in settings.routes} == paths


def test_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    settings = parse(upstream(ca="ca.pem"), tmp_path, env={})
    assert settings.upstreams[0].ca == tmp_path / "ca.pem"
    (fault,) = faults(upstream(ca="cb.pem"), tmp_path)
    assert fault.startswith(f"upstreams[0].ca: there is no file {tmp_path}/cb.pem")


# Files


def test_relative_paths_of_stores_are_below_the_folder_of_the_file(tmp_path: Path) -> None:
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
def test_other_locations_of_stores_stay_as_written(key: str, location: str) -> None:
    assert getattr(parse({"store": {key: location}}, Path("/etc/p")).store, key) == location


@pytest.mark.parametrize(
    "key",
    [
        *("os.environ/OPENAI_API_KEY", "os.environ['X']", "$OPENAI_API_KEY", "${OPENAI_API_KEY}"),
        *("{{ env.KEY }}", "{env:KEY}", "%KEY%", "process.env.KEY", "env.KEY", "<your-api-key>"),
        *("vault://secret/key", "op://vault/item", "ENV:KEY", "OPENAI_API_KEY"),
    ],
)
def test_an_api_key_that_refers_as_other_programs_do_is_refused_without_echo(key: str) -> None:
    upstream = {"name": "u", "dialect": "openai", "base_url": "https://x/v1", "api_key": key}
    with pytest.raises(SettingsError) as raised:
        parse({"upstreams": [upstream]})
    (fault,) = raised.value.faults
    assert fault.startswith("upstreams[0].api_key: looks like a reference")
    assert '"env:NAME"' in fault
    assert key not in fault


@pytest.mark.parametrize("key", ["sk-proj-$abc", "AIza%20x", "key-env.in-it", "a{b}c", "x<y>z"])
def test_an_api_key_with_odd_characters_is_a_key(key: str) -> None:
    upstream = {"name": "u", "dialect": "openai", "base_url": "https://x/v1", "api_key": key}
    settings = parse({"upstreams": [upstream]})
    assert settings.upstreams[0].api_key == Secret(key)


@pytest.mark.parametrize(
    ("url", "end"),
    [
        ("https://x/v1/chat/completions", "/chat/completions"),
        ("https://x/v1/completions/", "/completions"),
        ("https://x/v1/messages", "/messages"),
        ("https://x/v1/responses", "/responses"),
        ("https://x/openai/embeddings", "/embeddings"),
    ],
)
def test_a_base_url_that_ends_in_an_endpoint_is_refused(url: str, end: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse({"upstreams": [{"name": "u", "dialect": "openai", "base_url": url}]})
    (fault,) = raised.value.faults
    assert fault.startswith(f"upstreams[0].base_url: ends in the endpoint {end};")


def test_a_base_url_without_a_path_is_advised_on() -> None:
    def said(url: str) -> list[str]:
        return advice(parse({"upstreams": [{"name": "u", "dialect": "openai", "base_url": url}]}))

    (sentence,) = said("https://api.example.com")
    assert sentence.startswith("upstreams[0].base_url: https://api.example.com has no path")
    assert said("https://api.example.com/v1") == []


def test_advice_names_deployments_that_may_be_any_model() -> None:
    azure = {**UPSTREAM, "base_url": "https://res.openai.azure.com/openai/v1"}
    other = {**UPSTREAM, "name": "other", "base_url": "https://api.example.com/v1"}

    def said(**fields: Any) -> list[str]:
        document = {"upstreams": [azure, other], "models": [{**MODEL, **fields}]}
        return [sentence for sentence in advice(parse(document)) if ".family" in sentence]

    (sentence,) = said(targets=["other/m", "up/prod"])
    assert sentence.startswith("models[0].family: is not given; up/prod may be any model")
    for known in (
        {"targets": ["up/gpt-5-prod", "other/prod"]},
        {"targets": ["up/prod"], "family": "gpt-5"},
        {"targets": ["up/prod"], "families": ["gpt-5"]},
    ):
        assert said(**known) == []


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", ""), ("a.toml", "# later\n"), ("a.json", "{}")]
)
def test_an_empty_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError, match="is empty; expected at least one of"):
        load(file)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    document = model(context=8192) | {"brand": "Claudin.io"}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "a.toml").write_text(
        'brand = "Claudin.io"\n[[upstreams]]\nname = "up"\ndialect = "openai"\n'
        'base_url = "https://up.example/v1"\n[[models]]\nid = "m"\ncontext = 8192\n'
        'targets = ["up/m"]\n'
    )
    assert load(tmp_path / "a.json", env={}) == load(tmp_path / "a.toml", env={})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.toml", b"a = ", "is not TOML"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[" * 100_000, "is not JSON: is nested too deeply"),
        ("a.toml", b"a = " + b"[" * 100_000, "is not TOML: is nested too deeply"),
        ("a.toml", b"\xff", "is not UTF-8 text"),
        ("a.toml", None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"{name}: {told}"):
        load(tmp_path / name)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[server]\nport = 1\nhost = "::1"\n')
    server = load(tmp_path / "a.toml", env={}, server={"port": 0}).server
    assert (server.port, server.host) == (0, "::1")
    with pytest.raises(SettingsError, match="workers need Redis"):
        load(tmp_path / "a.toml", env={}, server={"workers": 2})


@pytest.mark.parametrize(
    ("brand", "expected"),
    [("Penstock", "penstock"), ("Claudin.io", "claudinio"), ("My  Own_Edge", "my-own-edge")],
)
def test_slug(brand: str, expected: str) -> None:
    assert slug(brand) == expected


# Defaults, documentation and schema


def uncommented(text: str) -> str:
    return "\n".join(re.sub(r"^#(?=[^ #\n])", "", line) for line in text.splitlines())


ENV = dict.fromkeys(
    (
        "PENSTOCK_ADMIN_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_ORGANIZATION",
        "ANTHROPIC_API_KEY",
    ),
    "0123456789abcdef-x",
) | {"EGRESS_PROXY": "http://proxy:3128"}


def test_the_default_file_changes_no_default() -> None:
    settings = load(CONFIG / "penstock.toml", env={})
    given = {"upstreams", "models", "written"}
    assert not_enforced(settings) == []
    for field in msgspec.structs.fields(Settings):
        if field.name not in given:
            default = field.default
            if field.name == "store":
                default = parse({}, CONFIG).store  # relative to the folder of the file
            assert getattr(settings, field.name) == default, field.name


def test_what_the_default_file_shows_commented_out_is_true() -> None:
    text = uncommented((CONFIG / "penstock.toml").read_text())
    settings = parse(tomllib.loads(text), CONFIG, env=ENV)
    plain = load(CONFIG / "penstock.toml", env={})
    for name in ("server", "store", "limits", "errors", "log"):
        shown = getattr(settings, name)
        if name == "server":  # which has no value that could be shown
            assert shown.public_url == "https://llm.example.com"
            shown = msgspec.structs.replace(shown, public_url=None)
        if name == "store":  # whose value depends on `auth.mode`
            assert shown.responses_ttl == plain.keep_responses
            shown = msgspec.structs.replace(shown, responses_ttl=None)
        assert shown == getattr(plain, name), name
    document = tomllib.loads(text)
    for name in ("server", "store", "auth", "limits", "errors", "log"):
        known = {field.name for field in msgspec.structs.fields(getattr(plain, name))}
        assert set(document[name]) == known, name


def test_the_schema_file_is_current() -> None:
    assert (CONFIG / "schema.json").read_text() == schema.text(), "run `make schema`"


def test_the_schema_takes_what_the_program_takes() -> None:
    checker = jsonschema.Draft202012Validator(schema.schema())
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    text = (CONFIG / "penstock.toml").read_text()
    assert list(checker.iter_errors(tomllib.loads(text))) == []
    assert list(checker.iter_errors(tomllib.loads(uncommented(text)))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"brnd": "x"},
        {"server": {"port": 70000}},
        {"server": {"max_body": "3q"}},
        {"server": {"trusted_proxies": ["x y"]}},
        {"limits": {"address": "60"}},
        {"models": [{"id": "m", "targets": []}]},
        {"models": [{"id": "m", "targets": ["up/m"], "price": {"input": 0.5}}]},
        {"models": [{"targets": ["up/m"]}]},
        {"upstreams": [{"name": "UP", "dialect": "openai"}]},
        {"auth": {"mode": "open"}},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(document: dict[str, Any]) -> None:
    assert faults(document)
    assert list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(document))


def test_every_key_says_what_it_is() -> None:
    tables = schema.schema()["$defs"]
    silent = [
        f"{table}.{name}"
        for table, kind in tables.items()
        for name, field in kind["properties"].items()
        if not field.get("description")
    ]
    assert silent == []


def test_every_default_in_the_schema_can_be_written_in_a_file() -> None:
    tables = schema.schema()["$defs"]
    for name in ("server", "store", "auth", "limits", "errors", "log"):
        fields = tables[name.capitalize()]["properties"]
        defaults = {key: field["default"] for key, field in fields.items() if "default" in field}
        assert getattr(parse({name: defaults}, env={}), name) == getattr(parse({}, env={}), name)


# What is accepted and does nothing yet


def test_advice_names_models_that_no_budget_limits() -> None:
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "none", "targets": ["up/a"]},
                {"id": "input", "targets": ["up/b"], "price": {"input": "1"}},
                {"id": "both", "targets": ["up/c"], "price": {"input": "1", "output": "2"}},
                {"id": "zero", "targets": ["up/d"], "price": {"input": "0", "output": "0"}},
                {
                    "id": "embed",
                    "targets": ["up/e"],
                    "output_modalities": ["embedding"],
                    "price": {"input": "1"},
                },
                {"id": "spare", "targets": ["up/f"]},
                {"id": "gold", "targets": ["up/g"], "plans": ["gold"]},
            ],
            "plans": [
                {"id": "pro", "windows": [{"length": "5h", "credits": "1"}], "on_budget": "spare"},
                {"id": "prepaid", "overflow": "credits"},
                {"id": "gold", "requests": "1/min"},
            ],
        },
        env={},
    )
    others = ("max_output", "hosted_call")
    told = [one for one in advice(settings) if not any(name in one for name in others)]
    assert [sentence.partition(":")[0] for sentence in told] == [
        "models[0].price",
        "models[1].price.output",
        "models[6].price",
    ]
    assert "the budgets of pro, prepaid do not limit them" in told[0]
    assert "the budget of any key" in told[2]


def test_advice_is_silent_where_nothing_is_sold() -> None:
    models = [{"id": "m", "targets": ["up/a"]}]
    upstreams = [{"name": "up", "dialect": "simulator"}]
    plans = [{"id": "slow", "requests": "1/min"}]
    document = {"upstreams": upstreams, "models": models, "plans": plans}
    assert advice(parse(document, env={})) == []


def test_what_is_not_enforced_is_told_only_when_written() -> None:
    assert not_enforced(parse({"limits": {}, "store": {}, "media": {}}, env={})) == []
    told = not_enforced(
        parse(
            {
                "store": {"objects": "file:var/objects"},
                "upstreams": [UPSTREAM, {**UPSTREAM, "name": "r", "dialect": "responses"}],
                "models": [
                    {**MODEL, "targets": ["up/m", "up/n"], "fallbacks": ["n"]},
                    {"id": "n", "targets": ["r/n"], "price": {"input": "1"}},
                ],
                "media": {"image": "m"},
                "routes": [
                    {"path": "/a/responses", "dialect": "responses"},
                    {"path": "/a/messages", "dialect": "anthropic"},
                ],
            },
            env={},
        )
    )
    assert [sentence.partition(":")[0] for sentence in told] == [
        "media",
        "store.objects",
    ]


# The demo


def test_the_demo_needs_nothing(tmp_path: Path) -> None:
    settings = demo_settings({}, tmp_path)
    assert settings.store.sql == f"sqlite:///{tmp_path}/penstock.db"
    assert [one.dialect for one in settings.upstreams] == ["simulator"]
    assert not_enforced(settings) == []


def test_the_demo_takes_the_providers_whose_keys_are_there(tmp_path: Path) -> None:
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


def test_advice_names_what_vendors_charge_for_and_prices_do_not() -> None:
    price = {"input": "1", "output": "2"}
    settings = parse(
        {
            "upstreams": [{"name": "up", "dialect": "simulator"}],
            "models": [
                {"id": "plain", "targets": ["up/p"], "price": {**price, "hosted_call": "0"}},
                {"id": "hidden", "targets": ["up/gpt-5"], "price": price},
                {"id": "drained", "targets": ["up/o3"], "price": price, "on_hangup": "drain"},
                {"id": "named", "targets": ["up/x"], "family": "gpt-5.2", "price": price},
                {"id": "claude", "targets": ["up/claude-opus-5-5"], "price": price},
                {"id": "older", "targets": ["up/claude-3-5-haiku-latest"], "price": price},
                {"id": "free", "targets": ["up/gpt-5"]},
            ],
            "plans": [{"id": "pro"}, {"id": "patient", "on_hangup": "drain"}],
        },
        env={},
    )
    told = {one.partition(":")[0]: one for one in advice(settings)}
    assert (
        "not given for hidden, drained, named, claude, older;" in told["models[].price.hosted_call"]
    )
    assert "not given for hidden, named, claude;" in told["models[].on_hangup"]
    assert "keys of pro." in told["models[].on_hangup"]


@pytest.mark.parametrize(
    ("mode", "given", "kept"),
    [
        ("keys", {}, 30 * 86400),
        ("none", {}, 0),
        ("none", {"responses_ttl": "1h"}, 3600),
        ("keys", {"responses_ttl": 0}, 0),
    ],
)
def test_responses_of_strangers_are_kept_only_where_the_operator_says_so(
    mode: str, given: dict[str, Any], kept: float
) -> None:
    settings = parse(
        {"upstreams": [UPSTREAM], "models": [MODEL], "auth": {"mode": mode}, "store": given}, env={}
    )
    assert settings.keep_responses == kept
