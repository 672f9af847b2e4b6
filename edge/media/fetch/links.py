"""Checks of URLs, before any name is looked up.

The host of a URL is either a canonical IP literal or a DNS name that no resolver takes for an
address: `getaddrinfo` reads `2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1` and full-width digits as
IPv4 addresses, so what only looks like a name is refused.
"""

import re
import unicodedata
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, unquote, urljoin

import idna
from msgspec import Struct

LONGEST = 8 << 10
"""Bytes of a URL."""
PORTS = {"https": 443, "http": 80}

_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([1-9][0-9]{0,4}))?", re.DOTALL)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LAST_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")
_KEPT = "!#$%&'()*+,/:;=?@[]~-._"


class Refused(Exception):
    """A URL, or what is behind it, that is not fetched.

    outcome: label of the metric. reason: for the log; names no path and no query.
    """

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class Link(Struct, frozen=True):
    """A URL that may be looked up: host, a name or an address, and the target to request."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def name(self) -> str:
        """The last component of the path, decoded; "" if there is none."""
        return unquote(self.target.partition("?")[0].rpartition("/")[2])

    @property
    def url(self) -> str:
        """The whole URL, without a fragment."""
        return self.origin + self.target


def read_link(url: str, *, http: bool = False, ports: Collection[int] = ()) -> Link:
    """The parts of a URL. Raises Refused.

    http: whether plain HTTP is allowed. ports: allowed besides those of the schemes.
    """
    if len(url) > LONGEST or len(url.encode("utf-8", "replace")) > LONGEST:
        raise Refused("refused", f"a URL of more than {LONGEST} bytes")
    if not url.isprintable() or " " in url or "\\" in url:
        raise Refused("refused", "a URL with a space, a backslash or a control character")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise Refused("refused", "not an absolute URL")
    scheme, authority, rest = parts[1].lower(), parts[2], parts[3]
    if scheme != "https" and not (http and scheme == "http"):
        raise Refused("refused", f"scheme {scheme[:20]} is not allowed")
    if "@" in authority:
        raise Refused("refused", "a URL with user information")
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise Refused("refused", "not a host and port")
    host = _host(split[1])
    port = int(split[2] or PORTS[scheme])
    if port != PORTS[scheme] and port not in ports:
        raise Refused("refused", f"port {port} of {host} is not allowed")
    if not rest.startswith("/"):
        rest = "/" + rest
    try:
        target = quote(rest, safe=_KEPT)
    except UnicodeEncodeError:
        raise Refused("refused", "a URL with half a character") from None
    return Link(scheme, host, port, target)


def redirected(link: Link, location: str, *, http: bool, ports: Collection[int]) -> Link:
    """The link that a redirect from `link` leads to. Raises Refused."""
    if not location or not location.isprintable() or len(location) > LONGEST:
        raise Refused("refused", "a redirect to nowhere")
    try:
        url = urljoin(link.url, location)
    except ValueError:
        raise Refused("refused", "a redirect to something that is no URL") from None
    found = read_link(url, http=http, ports=ports)
    if link.scheme == "https" and found.scheme != "https":
        raise Refused("refused", f"a redirect from https to {found.scheme} at {found.host}")
    return found


def _host(text: str) -> str:
    """The host to look up, in ASCII. Raises Refused for one that is not written canonically."""
    if text.startswith("["):
        return _literal(text[1:-1])
    try:
        name = text.lower()
        if not name.isascii():
            name = idna.encode(unicodedata.normalize("NFC", name)).decode()
    except (idna.IDNAError, UnicodeError):
        raise Refused("refused", "a host that is no DNS name") from None
    if _DIGITS_AND_DOTS.fullmatch(name):
        try:
            return str(IPv4Address(name))  # it accepts the canonical form only
        except ValueError:
            raise Refused("refused", "an IPv4 address that is not written canonically") from None
    labels = name.split(".")
    if (
        len(name) > 253
        or not all(_LABEL.fullmatch(label) for label in labels)
        or not _LAST_LABEL.fullmatch(labels[-1])
    ):
        raise Refused("refused", "a host that is no DNS name")
    return name


def _literal(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Refused("refused", "not an IPv6 address") from None
    if "%" in text or str(address) != text:
        raise Refused("refused", "an IPv6 address that is not written canonically")
    return text
