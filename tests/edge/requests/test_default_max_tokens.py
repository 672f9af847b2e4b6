"""`max_tokens` of requests that have none, at paths that give it."""

import json
from typing import Any

import pytest

from edge.requests.default_max_tokens import add_max_tokens
from edge.requests.json_body import members_of


@pytest.mark.parametrize(
    ("body", "most", "expected"),
    [
        ({}, None, 1000),
        ({"max_tokens": None}, None, 1000),
        ({"max_tokens": 7}, None, 7),
        ({"max_tokens": "many"}, None, "many"),
        ({}, 400, 400),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, None, 3000),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, 2500, 2500),
        ({"thinking": {"type": "adaptive"}}, None, 1000),
        ({"thinking": {"type": "disabled", "budget_tokens": 2000}}, None, 1000),
        ({"thinking": {"type": "enabled", "budget_tokens": -5}}, None, 1000),
        ({"thinking": {"type": "enabled", "budget_tokens": 10**400}}, None, 1000),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, None, 1000),
        ({"thinking": [1]}, None, 1000),
    ],
)
def test_add_max_tokens(body: dict[str, Any], most: int | None, expected: object) -> None:
    fields = members_of(json.dumps(body).encode())
    add_max_tokens(fields, 1000, most)
    assert json.loads(bytes(fields["max_tokens"])) == expected
