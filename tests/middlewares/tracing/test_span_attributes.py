"""Attributes of a span that the scope gives."""

import pytest

from middlewares.stores import KeyPrefixes, mint
from middlewares.tracing.span_attributes import http_attributes
from tests.asgi import http_scope


@pytest.mark.parametrize("begin", ["sk_cdx_", "acme-", "sk-"])
def test_path_with_a_key_is_left_out_whatever_it_begins_with(begin: str) -> None:
    secret = mint(KeyPrefixes.of(begin))
    found = http_attributes(http_scope("GET", f"/v1/models/{secret}"), "GET", "/v1/models/*", 404)
    assert "url.path" not in found
    assert not any(secret[-43:] in str(value) for value in found.values())


def test_path_of_a_known_route_is_there() -> None:
    found = http_attributes(http_scope("GET", "/v1/models/gpt-5-mini"), "GET", "/v1/models/*", 200)
    assert found["url.path"] == "/v1/models/gpt-5-mini"
