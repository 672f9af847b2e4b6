"""Which settings a page may show."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec

from edge.config.load import parse
from edge.config.model import Configuration
from edge.dashboard.config_view import PUBLIC, config_lines

DOCUMENT: dict[str, Any] = {
    "brand": "Acme",
    "upstreams": [
        {
            "name": "up",
            "dialect": "openai",
            "base_url": "https://api.example.com/v1",
            "api_key": "sk-canary",
            "headers": {"x-canary": "canary"},
        }
    ],
    "models": [{"id": "m1", "targets": ["up/m"], "price": {"input": "3", "output": "15"}}],
    "plans": [{"id": "pro", "requests": "60/min", "windows": [{"length": "5h", "credits": "2"}]}],
}


def _structs(kind: Any, table: str) -> Iterator[tuple[str, str]]:
    """Table and name of every setting."""
    hints = get_type_hints(kind)
    for name in kind.__struct_fields__:
        inner = f"{table}.{name}" if table else name
        found = [one for one in _kinds(hints[name]) if issubclass(one, msgspec.Struct)]
        if found:
            yield from _structs(found[0], inner)
        yield table, name


def _kinds(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for argument in get_args(hint):
        yield from _kinds(argument)


def test_allow_list_names_settings_that_exist() -> None:
    known = set(_structs(Configuration, ""))
    listed = {(table, name) for table, names in PUBLIC.items() for name in names}
    assert not listed - known


def test_allow_list_has_no_setting_that_may_hold_a_secret() -> None:
    secret = {
        ("auth", "admin_token"),
        ("dashboard", "admin_password"),
        ("alerts", "webhook"),
        ("alerts", "secret"),
        ("store", "sql"),
        ("store", "counters"),
        ("store", "objects"),
        *(("upstreams", name) for name in ("api_key", "headers", "query", "base_url")),
        *(("upstreams", name) for name in ("extra_body", "ca", "client_cert")),
    }
    listed = {(table, name) for table, names in PUBLIC.items() for name in names}
    assert not listed & secret


def test_lines_show_public_values_and_whether_others_are_set() -> None:
    lines = {line.path: line for line in config_lines(parse(DOCUMENT, env={}))}
    assert lines["brand"].text == "Acme"
    assert lines["plans[0].requests"].text == "60/m"
    assert lines["plans[0].windows[0].credits"].text == "2.00"
    assert lines["models[0].price.output"].text == "15.00"
    for path in ("upstreams[0].api_key", "upstreams[0].headers", "upstreams[0].base_url"):
        assert (lines[path].text, lines[path].hidden) == ("set", True)
    assert (lines["auth.admin_token"].text, lines["auth.admin_token"].hidden) == ("unset", True)
    assert "canary" not in str(lines)


def test_setting_that_is_not_listed_is_hidden() -> None:
    for line in config_lines(parse(DOCUMENT, env={})):
        if line.hidden:
            assert line.text in ("set", "unset")
