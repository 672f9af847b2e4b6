"""The effective configuration as pages may show it: an allow-list of fields.

A field that is not listed is shown as "set" or "unset", never with its value, so that a field that
is added later shows nothing unless someone decides that it may.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from edge.config.load import Settings
from edge.config.units import plain

PUBLIC: Mapping[str, frozenset[str]] = {
    "": frozenset(("brand", "endpoints")),
    "server": frozenset(
        (
            *("host", "port", "workers", "max_body", "drain", "drain_delay", "http2"),
            *("max_connections", "public_url", "cors_origins", "first_token_hold", "ping_interval"),
            *("disconnect_drain", "upload_idle_timeout", "upload_timeout"),
        )
    ),
    "store": frozenset(
        (
            *("counters_timeout", "rates_when_redis_is_down", "budgets_when_redis_is_down"),
            *("responses_ttl", "responses_max_size", "responses_max_count"),
        )
    ),
    "auth": frozenset(("mode", "default_plan", "key_prefix")),
    "limits": frozenset(
        (
            *("address", "address_burst", "safety_net", "throttle_max_wait"),
            *("throttle_max_per_key", "throttle_max_total", "throttle_max_memory"),
            *("max_body_memory", "max_body_memory_per_key"),
        )
    ),
    "dashboard": frozenset(("enabled", "public_url", "insecure_http", "self_service")),
    "landing": frozenset(("lead", "pricing", "currency", "plans", "links")),
    "alerts": frozenset(("at", "credits_below")),
    "plans": frozenset(
        (
            *("id", "requests", "burst", "tokens", "concurrency", "on_excess", "windows"),
            *("overflow", "storage", "on_hangup", "cut_off", "on_budget", "on_rate_limit"),
        )
    ),
    "plans.windows": frozenset(("length", "credits", "aligned")),
    "upstreams": frozenset(
        (
            *("name", "dialect", "transport", "connect_timeout", "first_token_timeout"),
            *("idle_timeout", "total_timeout", "disclose", "stream_usage", "fetches_urls"),
        )
    ),
    "models": frozenset(
        (
            *("id", "aliases", "display_name", "context", "max_output", "modalities"),
            *("output_modalities", "targets", "family", "families", "load_balancing", "weights"),
            *("fallbacks", "embeddings", "price", "on_hangup", "plans", "internal"),
        )
    ),
    "models.price": frozenset(
        (
            *("input", "output", "cache_read", "cache_write", "cache_write_1h", "image"),
            *("audio_minute", "character", "job", "second", "hosted_call"),
        )
    ),
    "fallback": frozenset(
        ("max_attempts", "deadline", "retries", "backoff", "max_backoff", "retry_unanswered")
    ),
    "breaker": frozenset(("min_failures", "failure_rate", "window", "open_for", "max_open_for")),
    "affinity": frozenset(("ttl", "max_entries")),
    "media": frozenset(
        ("image", "audio", "video", "document", "on_error", "cache", "max_new", "timeout")
    ),
    "images": frozenset(("urls",)),
    "jobs": frozenset(
        (
            *("at_once", "first_poll", "longest_poll", "expire", "unknown", "lease", "keep"),
            *("keep_results", "max_result", "polls"),
        )
    ),
    "files": frozenset(
        (
            *("max_size", "max_upload_size", "storage", "inline_max_size", "inline_max_total"),
            "sweep_interval",
        )
    ),
    "fetch": frozenset(("enabled", "allow_http", "ports")),
    "audio": frozenset(("max_size",)),
    "routes": frozenset(("path", "dialect", "prefer", "default_max_tokens", "endpoint")),
    "errors": frozenset(("details", "branded", "openai_members")),
    "log": frozenset(("level", "format", "requests")),
}
"""Fields whose values may be shown, by their table."""


class Line(NamedTuple):
    """One setting. hidden: whether only "set" or "unset" is said of it."""

    path: str
    text: str
    hidden: bool


def config_lines(settings: Settings) -> list[Line]:
    """Every setting, in the order of the tables."""
    return list(_lines(settings, "", ""))


def _lines(struct: msgspec.Struct, table: str, path: str) -> Iterator[Line]:
    public = PUBLIC.get(table, frozenset())
    defaults = {field.name: field.default for field in msgspec.structs.fields(type(struct))}
    for name in struct.__struct_fields__:
        value: Any = getattr(struct, name)
        inner, where = (f"{table}.{name}" if table else name), (f"{path}.{name}" if path else name)
        if isinstance(value, msgspec.Struct):
            yield from _lines(value, inner, where)
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            for number, one in enumerate(value):
                yield from _lines(one, inner, f"{where}[{number}]")
        elif name in public:
            yield Line(where, _text(plain(value)), False)
        else:
            unset = value == defaults[name] or value in (None, (), "", {})
            yield Line(where, "unset" if unset else "set", True)


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_text, value)) or "none"
        case Mapping():
            return ", ".join(f"{key}: {_text(one)}" for key, one in value.items()) or "none"
    return str(value)
