"""Checks of IP addresses: only those that anyone on the internet can reach may be fetched from.

Theory of operation. `ipaddress.is_global` is not enough: its answer for tunnelled, translated and
reserved addresses differs between releases of Python. So the networks that are not public stand
here, and `is_global` is asked as well.

    IPv4-mapped and NAT64 (64:ff9b::/96)   the IPv4 address inside decides: resolvers make them for
                                           public services
    6to4, Teredo, IPv4-compatible, the     refused, whatever is inside: no public service has one
    local NAT64 prefix, IPv6 with a zone
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_TRANSLATED = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_NOT_PUBLIC: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), what)
    for text, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Special-purpose networks of the IANA registries, the narrower one first."""


def refusal_of(
    host: str, *, denied: Collection[Network] = (), allowed: Collection[Network] = ()
) -> str:
    """Why the address `host` must not be connected to, for the log; "" for a public one.

    denied: networks that are refused although they are public. allowed: networks that are not
    refused although they are not public; `denied` goes before.
    """
    if "%" in host:
        return f"{host} has a zone"
    try:
        outer = ip_address(host)
    except ValueError:
        return f"{host} is not an address"
    address = _inner(outer)
    for each in (outer, address):
        if _in(each, denied):
            return f"{host} is in a denied network"
    if _in(address, allowed):
        return ""
    what = _special(address)
    return f"{host} is not public ({what})" if what else ""


def _inner(address: IPAddress) -> IPAddress:
    """The IPv4 address that traffic to a mapped or translated `address` reaches, else itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _special(address: IPAddress) -> str:
    """The purpose of an address that is not public, "" for a public one."""
    for network, what in _NOT_PUBLIC:
        if network.version == address.version and address in network:
            return what
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "not assigned"
    return "" if address.is_global else "not global"


def _in(address: IPAddress, networks: Collection[Network]) -> bool:
    return any(one.version == address.version and address in one for one in networks)
