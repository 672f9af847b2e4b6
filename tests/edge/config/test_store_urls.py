"""URLs of stores with and without unescaped special characters."""

import pytest

from edge.config.store_urls import is_postgresql


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://penstock:p%40%2F%23%3A%25%5B@db.example.com:5432/penstock",
        "postgresql://me:a:b%zz@db/penstock",
        "postgres://db/penstock",
        "postgresql:///penstock?host=/var/run/postgresql",
        "postgresql://me@%2Fvar%2Frun%2Fpostgresql/penstock",
        "postgresql://me:a@one:5432,two:5433/penstock?target_session_attrs=primary",
        "postgresql://me:a@[fd00::1]:5432/penstock?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://db/penstock?user=me@example.com&password=a@b",
        "postgresql://",
    ],
)
def test_url_that_psql_would_take_is_accepted(url: str) -> None:
    assert is_postgresql(url)
