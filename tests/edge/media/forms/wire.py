"""Forms as bytes, as clients write them, and requests that carry them in pieces."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from middlewares.asgi import Message, Receive, Scope

BOUNDARY = b"B"


def part(name: str, data: bytes, filename: str | None = None, kind: str = "") -> bytes:
    """One part. Names are written as they are given."""
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    if kind:
        head += f"\r\nContent-Type: {kind}"
    return head.encode() + b"\r\n\r\n" + data


def form(*parts: bytes, boundary: bytes = BOUNDARY) -> bytes:
    """A whole form of these parts."""
    whole = b"".join(b"--%s\r\n%s\r\n" % (boundary, each) for each in parts)
    return whole + b"--%s--\r\n" % boundary


def scope(
    content_type: bytes = b"multipart/form-data; boundary=" + BOUNDARY,
    *more: tuple[bytes, bytes],
) -> Scope:
    """The scope of a POST with this content type."""
    headers = [(b"content-type", content_type), *more]
    return {"type": "http", "method": "POST", "path": "/", "headers": headers, "state": {}}


def pieces(whole: bytes, size: int) -> list[bytes]:
    """`whole` in pieces of `size` bytes."""
    return [whole[at : at + size] for at in range(0, len(whole), size)]


class Sender:
    """A `receive` that gives these pieces and counts the calls."""

    def __init__(self, given: Iterable[bytes]) -> None:
        self.left = list(given)
        self.asked = 0

    async def __call__(self) -> Message:
        self.asked += 1
        if not self.left:
            return {"type": "http.disconnect"}
        body = self.left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.left)}


def sender(whole: bytes | Sequence[bytes], size: int = 1 << 16) -> Receive:
    """A `receive` of a body."""
    return Sender(pieces(whole, size) if isinstance(whole, bytes) else whole)


def deleted_files() -> set[str]:
    """Deleted files that this process has open, by descriptor."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except OSError:
            continue
    return {name for name in found if "(deleted)" in name}
