"""What a secret looks like and when a key is usable."""

import re
from math import inf

import pytest

from middlewares.stores import digest, mint, prefix
from middlewares.stores.keys.base import KeyPrefixes, is_secret
from tests.middlewares.stores.samples import new_key


def test_a_secret_has_the_published_form_and_is_new_each_time() -> None:
    secrets = {mint("Penstock", "live") for _ in range(200)}
    assert len(secrets) == 200
    assert all(re.fullmatch(r"sk-penstock-live-[0-9A-Za-z]{43}", secret) for secret in secrets)
    seen = {character for secret in secrets for character in secret[-43:]}
    assert len(seen) == 62


@pytest.mark.parametrize(
    ("brand", "slug"),
    [
        ("Penstock", "penstock"),
        ("Claude Code Proxy", "claude-code-proxy"),
        ("  a__b!! ", "a-b"),
        ("Ключ", "gateway"),
        ("x" * 90, "x" * 32),
        ("Foo test bar", "foo-test-bar"),
        ("Claudin.io", "claudinio"),
        ("My  Own_Edge", "my-own-edge"),
    ],
)
def test_the_brand_is_in_the_secret(brand: str, slug: str) -> None:
    secret = mint(brand, "test")
    assert secret.startswith(f"sk-{slug}-test-")
    assert len(secret) == len(f"sk-{slug}-test-") + 43
    assert is_secret(secret)


def test_a_prefix_of_ones_own_is_in_the_secret_and_the_mode_behind_it() -> None:
    prefixes = KeyPrefixes.of("sk_cdx_")
    live, test = mint(prefixes), mint(prefixes, "test")
    assert re.fullmatch(r"sk_cdx_[0-9A-Za-z]{43}", live)
    assert re.fullmatch(r"sk_cdx_test_[0-9A-Za-z]{43}", test)
    assert (prefix(live), prefix(test)) == (live[:11], test[:16])
    for secret in (live, test):
        assert is_secret(secret)
        assert not is_secret(prefix(secret))
    assert mint(KeyPrefixes.of("acme-"), "test").startswith("acme-test-")


@pytest.mark.parametrize(
    "prefixes",
    [
        *(KeyPrefixes.of("sk_cdx_"), KeyPrefixes.of("sk-"), KeyPrefixes.of("sk-acme-test-")),
        *(KeyPrefixes.of("test_"), KeyPrefixes.of_brand("Test lab"), KeyPrefixes.of_brand("test")),
    ],
)
def test_mode_of_a_display_prefix(prefixes: KeyPrefixes) -> None:
    assert prefixes.mode_of(prefix(mint(prefixes))) == "live"
    assert prefixes.mode_of(prefix(mint(prefixes, "test"))) == "test"
    assert prefixes.mode_of(prefix(mint("Penstock", "test"))) == "test"
    assert prefixes.mode_of(prefix(mint("Penstock"))) == "live"
    assert prefixes.mode_of(prefix(mint(KeyPrefixes.of("old_"), "test"))) == "test"
    assert prefixes.mode_of(prefix(mint(KeyPrefixes.of("old_")))) == "live"
    assert prefixes.mode_of("impo") == "live"
    assert (
        prefixes.mode_of("sk-claudin-io-test-Ab12") == "test"
    )  # of a brand as it was written once


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'prod'.*'live' or 'test'"):
        mint("Penstock", "prod")  # type: ignore[arg-type]


def test_the_prefix_shows_four_random_characters() -> None:
    secret = mint("Penstock")
    assert prefix(secret) == secret[: len("sk-penstock-live-") + 4]
    assert not is_secret(prefix(secret))
    with pytest.raises(ValueError, match="32 to 300 printable") as raised:
        prefix("not-ours-but-secret")
    assert "not-ours" not in str(raised.value)


def test_text_and_bytes_have_one_digest() -> None:
    assert digest("sk-é") == digest("sk-é".encode())
    assert len(digest("")) == 32


def test_when_a_secret_is_usable() -> None:
    key, secret = new_key(previous_digest=b"p" * 32, previous_until=50.0, expires_at=80.0)
    assert key.usable_until(digest(secret)) == 80.0
    assert key.usable_until(b"p" * 32) == 50.0
    assert key.usable_until(b"other") == -inf
    forever, secret = new_key()
    assert forever.usable_until(digest(secret)) == inf
    for fields in ({"disabled": True}, {"revoked_at": 1.0}):
        closed, secret = new_key(**fields, previous_digest=b"p" * 32, previous_until=50.0)
        assert closed.usable_until(digest(secret)) == closed.usable_until(b"p" * 32) == -inf


def test_an_expiry_ends_the_secret_before_the_rotation_too() -> None:
    key, _ = new_key(previous_digest=b"p" * 32, previous_until=90.0, expires_at=80.0)
    assert key.usable_until(b"p" * 32) == 80.0
