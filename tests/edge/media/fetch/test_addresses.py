"""Which addresses are public, on every release of Python."""

from ipaddress import ip_network

import pytest

from edge.media.fetch.addresses import refusal_of

PUBLIC = (
    "93.184.215.14",
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "2001:4860:4860::8888",
    "2001:200::1",
    "::ffff:93.184.215.14",
    "64:ff9b::5db8:d70e",
)
NOT_PUBLIC = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),
    *("127.0.0.0", "127.255.255.255", "168.63.129.16", "169.254.0.0", "169.254.255.255"),
    *("172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.8", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "192.168.0.0", "198.18.0.0", "198.19.255.255", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.255"),
    *("::", "::1", "::2", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "64:ff9b:2::1", "100::1", "2001::1"),
    *("2001:0:5db8:d70e::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1"),
    *("2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1"),
    *("fd00:ec2::254", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_refusal_of_a_public_address_is_empty(address: str) -> None:
    assert refusal_of(address) == ""


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_refusal_of_another_address_names_it(address: str) -> None:
    assert refusal_of(address).startswith(f"{address} is not public (")


@pytest.mark.parametrize("text", ["fe80::1%eth0", "::1%lo", "8.8.8.8%1", "2606:4700::1%2"])
def test_an_address_with_a_zone_is_refused(text: str) -> None:
    assert refusal_of(text) == f"{text} has a zone"


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.1", "1.2.3.4.5", "::g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert refusal_of(text) == f"{text} is not an address"


def test_denied_networks_are_refused_also_inside_other_addresses() -> None:
    denied = (ip_network("93.184.0.0/16"), ip_network("2606:4700::/32"))
    for address in ("93.184.215.14", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e", "2606:4700::1"):
        assert refusal_of(address, denied=denied) == f"{address} is in a denied network"
    assert refusal_of("8.8.8.8", denied=denied) == ""


def test_allowed_networks_are_not_refused_unless_denied() -> None:
    allowed = (ip_network("10.20.0.0/16"), ip_network("fd12::/64"))
    assert refusal_of("10.20.1.1", allowed=allowed) == ""
    assert refusal_of("::ffff:10.20.1.1", allowed=allowed) == ""
    assert refusal_of("fd12::5", allowed=allowed) == ""
    assert refusal_of("10.21.1.1", allowed=allowed)
    denied = (ip_network("10.20.9.0/24"),)
    assert refusal_of("10.20.9.1", allowed=allowed, denied=denied)
    assert refusal_of("127.0.0.1", allowed=allowed)
