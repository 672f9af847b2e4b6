"""Where clients find endpoints, by the routes of a configuration."""

from typing import Any

import pytest

from edge.config.load import parse
from edge.endpoints import ENDPOINTS
from edge.routing.served import by_shape, client_paths, served_paths


def paths(*routes: dict[str, Any]) -> dict[str, str]:
    settings = parse({"upstreams": [{"name": "s", "dialect": "simulator"}], "routes": list(routes)})
    return dict(client_paths(served_paths(settings)))


def route(path: str, dialect: str) -> dict[str, Any]:
    return {"path": path, "dialect": dialect}


def test_client_paths_without_routes_are_those_of_the_table() -> None:
    usual = {row.name: row.path for row in reversed(ENDPOINTS) if "*" not in row.path}
    assert paths() == {name: path for name, path in usual.items() if name != "links"}


@pytest.mark.parametrize(
    ("routes", "chat", "messages"),
    [
        (
            [route("/openai/v1/chat/completions", "openai")],
            *("/v1/chat/completions", "/v1/messages"),
        ),
        (
            [
                route("/v1/chat/completions", "anthropic"),
                route("/openai/v1/chat/completions", "openai"),
            ],
            *("/openai/v1/chat/completions", "/v1/messages"),
        ),
        (
            [route("/v1/messages", "openai"), route("/claude/v1/messages", "anthropic")],
            *("/v1/chat/completions", "/claude/v1/messages"),
        ),
        ([route("/v1/chat/completions", "auto")], "/v1/chat/completions", "/v1/messages"),
    ],
)
def test_client_paths_prefer_the_usual_path_that_speaks_their_dialect(
    routes: list[dict[str, Any]], chat: str, messages: str
) -> None:
    found = paths(*routes)
    assert (found["chat.completions"], found["messages"]) == (chat, messages)


def test_endpoint_at_a_path_that_prefers_another_dialect_needs_a_sign() -> None:
    auto = {**route("/v1/chat/completions", "auto"), "prefer": "anthropic"}
    settings = parse({"upstreams": [{"name": "s", "dialect": "simulator"}], "routes": [auto]})
    served = served_paths(settings)
    (found,) = (one for one in served if one.path == "/v1/chat/completions")
    assert found.dialects == ("anthropic", "openai")
    assert by_shape(served, client_paths(served)) == {"chat.completions"}


def test_served_path_that_speaks_another_dialect_has_it() -> None:
    settings = parse(
        {
            "upstreams": [{"name": "s", "dialect": "simulator"}],
            "routes": [route("/v1/chat/completions", "anthropic")],
        }
    )
    by_path = {one.path: one for one in served_paths(settings)}
    assert by_shape(tuple(by_path.values()), {"messages": "/v1/messages"}) == frozenset()
    assert by_path["/v1/chat/completions"].dialects == ("anthropic",)
    assert by_path["/v1/models"].dialects == ()
    assert not any(one.row.open for one in by_path.values())
