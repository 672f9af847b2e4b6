"""Decoding: every fault of a document is reported at once, with its path."""

from collections.abc import Mapping
from typing import Any

import pytest

from .documents import MODEL, UPSTREAM, faults

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


def test_unknown_key_is_named_with_nearest_known() -> None:
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


@pytest.mark.parametrize("table", RENAMED)
def test_renamed_key_is_refused_and_new_name_given(table: str) -> None:
    assert faults(old_keys(table, RENAMED[table])) == tuple(
        f'{table}.{old}: this setting is called "{new}"' for old, new in RENAMED[table].items()
    )


def test_every_wrong_value_is_reported_at_once() -> None:
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
def test_map_of_secrets_of_wrong_type_is_not_echoed(table: str) -> None:
    (fault,) = faults({"upstreams": [{"name": "u", "dialect": "claude-cli", table: "canary"}]})
    assert fault == f"upstreams[0].{table}: expected a table"


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_document_of_wrong_type_is_refused(document: object) -> None:
    (fault,) = faults(document)
    assert fault.startswith("expected a table")
