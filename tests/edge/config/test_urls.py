"""URLs with and without unescaped special characters."""

import pytest

from edge.config.urls import is_postgresql


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
        "postgresql:///p?host=one,two&port=5432,5433",
    ],
)
def test_url_that_psql_would_take_is_accepted(url: str) -> None:
    assert is_postgresql(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db:65536/p",
        "postgresql://one:1,two:x/p",
        "postgresql:///p?host=db&port=x",
        "postgresql://me:a?b@db/p",
        "postgresql://me:1?b=c@db/p",
        "postgresql://me:a[b@db/p",
    ],
)
def test_url_that_means_something_else_is_refused(url: str) -> None:
    assert not is_postgresql(url)
