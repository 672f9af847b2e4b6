"""Addresses of Redis, read from URLs."""

import ssl

import pytest

from middlewares.stores.redis_address import Address


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("redis://", "localhost", 6379, 0),
        ("redis://cache.example:7000/3", "cache.example", 7000, 3),
        ("redis://[::1]:7000", "::1", 7000, 0),
        ("redis://cache.example/3?db=4", "cache.example", 6379, 4),
        ("rediss://cache.example/", "cache.example", 6379, 0),
    ],
)
def test_address_tcp_has_host_port_and_database(
    url: str, host: str, port: int, database: int
) -> None:
    found = Address(url)
    assert (found.host, found.port, found.database, found.path) == (host, port, database, "")
    assert (found.tls is not None) == url.startswith("rediss")


def test_address_socket_has_path_and_database() -> None:
    found = Address("unix://:secret@/run/a%20b.sock?db=2")
    assert (found.path, found.database, found.tls) == ("/run/a b.sock", 2, None)
    assert found.greeting() == [("AUTH", "secret"), ("SELECT", 2)]


@pytest.mark.parametrize(
    ("url", "greeting"),
    [
        ("redis://h", []),
        ("redis://:p%40%2Fss@h", [("AUTH", "p@/ss")]),
        ("redis://us%C3%A9r:pass@h/1", [("AUTH", "us\u00e9r", "pass"), ("SELECT", 1)]),
        ("redis://h?username=user&password=pa%20ss", [("AUTH", "user", "pa ss")]),
    ],
)
def test_greeting_gives_credentials_and_database(
    url: str, greeting: list[tuple[str | int, ...]]
) -> None:
    assert Address(url).greeting() == greeting


def test_tls_checks_certificate_and_name_unless_switched_off() -> None:
    modes = []
    for query in ("", "?ssl_check_hostname=false", "?ssl_cert_reqs=none"):
        context = Address(f"rediss://h{query}").tls
        assert context is not None
        modes.append((context.verify_mode, context.check_hostname))
    assert modes == [
        (ssl.CERT_REQUIRED, True),
        (ssl.CERT_REQUIRED, False),
        (ssl.CERT_NONE, False),
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost", "redis://"),
        ("redis://localhost/0?socket_timout=3", "socket_timout"),
        ("redis://localhost/0?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://localhost/0?ssl_cert_reqs=maybe", "maybe"),
        ("unix://", "socket"),
        ("redis://localhost:port", "port"),
        ("redis://localhost/first", "'first', not a number"),
        ("redis://localhost/0?db=-1", "'-1', not a number"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Address(url)
