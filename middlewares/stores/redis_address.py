"""Where Redis is and how to get in, read from a URL."""

import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

_SCHEMES = ("redis", "rediss", "unix")
_MODES = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


class Address:
    """The address of a Redis, from `redis://`, `rediss://` or `unix://`.

        redis://user:password@host:port/database
        unix://user:password@/path/of/a/socket?db=database

    All but the host and the path may be left out; what is not ASCII is percent-encoded. The query
    may have `db`, `username` and `password`, and with `rediss://` for TLS `ssl_ca_certs`,
    `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname` and `ssl_cert_reqs` (required, optional,
    none). ValueError for anything else.
    """

    __slots__ = ("database", "host", "password", "path", "port", "tls", "username")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise ValueError("the URL of Redis begins with none of redis://, rediss://, unix://")
        given = dict(parse_qsl(parts.query))
        path = unquote(parts.path)
        socket = parts.scheme == "unix"
        if socket and not path:
            raise ValueError("a unix:// URL of Redis needs the path of a socket")
        self.path = path if socket else ""
        self.host = unquote(parts.hostname or "localhost")
        self.port = parts.port or 6379
        username, password = given.pop("username", ""), given.pop("password", "")
        self.username = unquote(parts.username or "") or username
        self.password = unquote(parts.password or "") or password
        database = given.pop("db", "") or ("" if socket else path.strip("/"))
        if database and not database.isdecimal():
            raise ValueError(f"the database in the URL of Redis is {database!r}, not a number")
        self.database = int(database or 0)
        self.tls = _tls(given) if parts.scheme == "rediss" else None
        if given:
            raise ValueError(f"options in the URL of Redis that are not known: {sorted(given)}")

    def greeting(self) -> list[tuple[str | int, ...]]:
        """Commands that begin a connection."""
        commands: list[tuple[str | int, ...]] = []
        if self.password:
            who = (self.username, self.password) if self.username else (self.password,)
            commands.append(("AUTH", *who))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


def _tls(given: dict[str, str]) -> ssl.SSLContext:
    """A context from the query's `ssl_` options, which it takes out of `given`."""
    context = ssl.create_default_context(cafile=given.pop("ssl_ca_certs", None))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    wanted = given.pop("ssl_cert_reqs", "required")
    if wanted not in _MODES:
        raise ValueError(f"ssl_cert_reqs={wanted!r}: expected one of {', '.join(_MODES)}")
    check = given.pop("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    context.check_hostname = check and wanted == "required"
    context.verify_mode = _MODES[wanted]
    certificate, key = given.pop("ssl_certfile", None), given.pop("ssl_keyfile", None)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
