"""Text that holds a key is recognised by its form."""

import pytest

from middlewares.secret_form import may_hold_key, names_key, parts_of
from middlewares.stores import KeyPrefixes, mint

BEGIN = pytest.mark.parametrize("begin", ["sk_cdx_", "acme-", "A_", "x" * 39 + "_"])


@BEGIN
def test_parts_of_a_key_of_any_prefix(begin: str) -> None:
    for mode in ("live", "test"):
        secret = mint(KeyPrefixes.of(begin), mode)
        assert parts_of(secret) == (secret[:-43], secret[-43:])
        assert parts_of(secret[:-1]) is None
        assert parts_of(f" {secret}") is None


@BEGIN
def test_a_key_in_a_text_is_seen(begin: str) -> None:
    secret = mint(KeyPrefixes.of(begin))
    for text in (secret, f"a {secret}", f"/v1/{secret}/x", f"key={secret}&", f"'{secret}'"):
        assert names_key(text) and may_hold_key(text), text
    assert may_hold_key(secret[:-8])


def test_ids_of_others_are_no_keys() -> None:
    for text in (
        "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",  # a pairwise subject of OpenID Connect
        "0123456789abcdef" * 4,
        "ann@example.com",
        "x" * 10_000,
    ):
        assert not names_key(text), text
    assert not may_hold_key("x" * 10_000)
    assert not may_hold_key("0123456789abcdef" * 4)
