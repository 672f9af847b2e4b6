"""URLs with passwords: whether special characters in them are escaped."""

import re
from urllib.parse import parse_qsl, urlsplit

_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
"""A host of a URL of PostgreSQL and its port; the path of a socket is written with %2F."""
_CREDENTIALS = ("user", "password", "sslpassword")
"""Parameters of a URL of PostgreSQL in which an @ is no sign of a wrong URL."""
ESCAPED = "/ ? # @ : % [ in a password as %2F %3F %23 %40 %3A %25 %5B"
"""How special characters are written in a URL."""


def is_redis(url: str) -> bool:
    """Whether a URL of Redis has no unescaped special character in its password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.path + parts.fragment or (parts.netloc and "@" in parts.query):
        return False
    return parts.scheme == "unix" or parts.path.strip("/").isdigit() or parts.path in ("", "/")


def is_postgresql(url: str) -> bool:
    """Whether a URL of PostgreSQL has no unescaped special character in its user or password, of
    which a part would be taken for the host. Its hosts may be several."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    user, at, hosts = parts.netloc.rpartition("@")
    if "@" in user + parts.path or "#" in url:
        return False
    if not at and any("@" in value for name, value in query if name not in _CREDENTIALS):
        return False
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    ports = [match[1] or "0" for match in found if match]
    ports += [port for name, value in query if name == "port" for port in value.split(",")]
    return all(found) and all(port.isdecimal() and int(port) < 65536 for port in ports)
