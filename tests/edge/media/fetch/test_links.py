"""How URLs are read, and which are refused before a lookup."""

import pytest

from edge.media.fetch.links import Link, Refused, read_link, redirected

from .bypasses import DISGUISES

PORT = 40404


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://example.com", Link("https", "example.com", 443, "/")),
        ("https://example.com?a=1", Link("https", "example.com", 443, "/?a=1")),
        ("HTTPS://EXAMPLE.COM:443/A?b=c#d", Link("https", "example.com", 443, "/A?b=c")),
        ("https://a_b.example.com/%20x", Link("https", "a_b.example.com", 443, "/%20x")),
        ("https://münchen.de/é", Link("https", "xn--mnchen-3ya.de", 443, "/%C3%A9")),
        ("https://例え.テスト/", Link("https", "xn--r8jz45g.xn--zckzah", 443, "/")),
        ("https://93.184.215.14/", Link("https", "93.184.215.14", 443, "/")),
        ("https://[2606:4700::1111]/", Link("https", "2606:4700::1111", 443, "/")),
        ("https://1.example.com:8443/", Link("https", "1.example.com", 8443, "/")),
        ("https://cdn.example.com/a@b/[c]", Link("https", "cdn.example.com", 443, "/a@b/[c]")),
    ],
)
def test_read_link_gives_the_parts(url: str, link: Link) -> None:
    assert read_link(url, ports=(8443,)) == link


@pytest.mark.parametrize("url", DISGUISES)
def test_read_link_refuses_what_is_disguised_or_lets_an_address_be_checked(url: str) -> None:
    """What is read is a name that no resolver takes for an address, or a canonical address."""
    url = url.format(port=PORT)
    try:
        link = read_link(url, ports=(PORT,))
    except Refused as refused:
        assert refused.outcome == "refused"
        assert "?" not in refused.reason
        return
    assert link.host in ("127.0.0.1", "example.com")
    assert "@" not in link.origin


def test_read_link_reads_http_only_where_it_is_allowed() -> None:
    assert read_link("http://example.com/x", http=True).port == 80
    with pytest.raises(Refused, match="scheme http"):
        read_link("http://example.com/x")
    with pytest.raises(Refused, match="port 443"):
        read_link("http://example.com:443/x", http=True)
    with pytest.raises(Refused, match="port 80"):
        read_link("https://example.com:80/x", http=True)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b?c=d", "https://example.com:443/b?c=d"),
        ("b", "https://example.com:443/dir/b"),
        ("../b#c", "https://example.com:443/b"),
        ("//other.example/b", "https://other.example:443/b"),
        ("https://other.example", "https://other.example:443/"),
    ],
)
def test_redirected_follows_the_location(location: str, url: str) -> None:
    link = read_link("https://example.com/dir/a?q=1")
    assert redirected(link, location, http=False, ports=()).url == url


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://example.com/",
        "\thttps://example.com/",
        "file:///etc/passwd",
        "https://[::1",
        "x y",
    ],
)
def test_redirected_refuses_every_other_location(location: str) -> None:
    link = read_link("https://example.com/a")
    with pytest.raises(Refused):
        redirected(link, location, http=True, ports=())
