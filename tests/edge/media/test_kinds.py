import pytest

from edge.media.kinds import OTHER, kind_of


@pytest.mark.parametrize(
    ("head", "declared", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "text/html", "image/png"),
        (b"GIF89a<html><script>alert(1)</script>", "text/html", "image/gif"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "", "audio/wav"),
        (b"%PDF-1.7\n", "", "application/pdf"),
        (b"<html><script>alert(1)</script>", "text/html", "text/plain"),
        (
            b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            "image/svg+xml",
            "text/plain",
        ),
        (b'{"a": 1}', "application/json; charset=utf-8", "application/json"),
        (b'{"a": 1}', "", "text/plain"),
        ("日本".encode()[:-1], "", "text/plain"),
        (b"\xff\xfe\x00", "text/plain", OTHER),
        (b"PK\x03\x04" + bytes(30), "", OTHER),
        (b"a\x00b", "text/plain", OTHER),
        (b"", "", OTHER),
    ],
)
def test_kind_of(head: bytes, declared: str, kind: str) -> None:
    assert kind_of(head, declared) == kind
