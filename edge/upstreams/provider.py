"""A configured upstream with what every request to it shares, prepared once."""

from collections.abc import Iterable, Mapping

import msgspec

from edge.upstreams import Header, Request, Response, Upstream
from middlewares.exchange import Dialect
from middlewares.problem import Problem

from .decompression import decompressed

_SHORTEST_PART = 6
"""Characters by which the beginning of a credential is known at the end of a text."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Provider(msgspec.Struct, frozen=True):
    """One upstream, ready to be asked.

    dialects: the wire dialects it speaks; the simulator speaks all. base_url: as configured.
    headers, query: sent with every request: credentials and what the operator configured. The query
        is encoded and may hold a secret.
    extra_body: members that every body has, as JSON; drop_body: members that none has, casefolded.
    first_content: seconds until the first content of a stream.
    disclose: whether its names and its error messages cross to callers.
    secrets: what it is sent as credentials; upstreams repeat them in refusals.
    """

    name: str
    upstream: Upstream
    dialects: frozenset[Dialect]
    base_url: str = ""
    base_path: bytes = b""
    headers: tuple[Header, ...] = ()
    query: bytes = b""
    extra_body: Mapping[str, msgspec.Raw] = {}
    drop_body: frozenset[str] = frozenset()
    first_content: float = 120.0
    disclose: bool = False
    secrets: tuple[str, ...] = ()

    async def open(self, request: Request) -> Response:
        """See `UpstreamConfig.open`; the body is not compressed, whatever the upstream did to
        it."""
        return decompressed(await self.upstream.open(request))

    def without_secrets(self, text: str) -> str:
        """`text`, which the upstream wrote, without the credentials it was sent; also where it was
        cut off within one."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
            cut = text.rfind(secret[:_SHORTEST_PART])
            if cut >= 0 and secret.startswith(text[cut:]):
                text = text[:cut] + "***"
        return text

    def target(self, path: bytes, query: bytes = b"") -> bytes:
        """Path and query there of the endpoint at `path` below the base URL."""
        path = self.base_path + path
        if self.query:
            query = self.query + b"&" + query if query else self.query
        return path + b"?" + query if query else path

    def url(self, target: bytes) -> str:
        """The URL of `target`, without its query, for an operator to read."""
        path = target.partition(b"?")[0]
        return self.base_url.removesuffix(self.base_path.decode()) + path.decode("latin-1")

    def with_body_settings(self, body: bytes, dropped: list[str]) -> bytes:
        """`body`, a JSON object, with the operator's members and without those never sent.

        Names are compared casefolded: servers written in Go take `USER` for `user`.
        dropped: gets a note of what of the request is not sent.
        """
        if not self.extra_body and not self.drop_body:
            return body
        replaced = self.drop_body.union(map(str.casefold, self.extra_body))
        kept = {}
        for name, raw in _decode(body).items():
            if name.casefold() not in replaced:
                kept[name] = raw
            else:
                dropped.append(f"`{name}`: a setting of the upstream")
        return _encode({**kept, **self.extra_body})


def credentials(dialect: str, key: str | None, header: str | None = None) -> tuple[Header, ...]:
    """The header that carries an API key, `header` or that of `dialect`; none without a key."""
    if not key:
        return ()
    header = header or ("x-api-key" if dialect == "anthropic" else "authorization")
    value = f"Bearer {key}" if header == "authorization" else key
    return ((header.encode(), value.encode("latin-1")),)


_ANTHROPIC_VERSION: Header = (b"anthropic-version", b"2023-06-01")
_OWN = frozenset(
    (
        b"anthropic-dangerous-direct-browser-access",
        b"anthropic-organization-id",
        b"anthropic-user-profile-id",
        b"anthropic-workspace-id",
    )
)
"""Anthropic's headers that mean a browser, or something in the operator's account."""


MAX_HEADER_BYTES = 4096
"""Bytes that a header may have, name and value, which is passed on to an upstream."""
MAX_HEADERS_BYTES = 8192
"""Bytes of all of these together: less than any server or proxy takes by default."""
MAX_HEADERS = 32
"""How many of these there may be."""


def check_forwarded_headers(headers: Iterable[Header]) -> None:
    """Raises Problem for headers that are too large to be passed on: upstreams would refuse them
    with words that are taken for a fault of theirs."""
    size = count = 0
    for name, value in headers:
        if not name.startswith(b"anthropic-") or name in _OWN:
            continue
        count += 1
        size += len(name) + len(value)
        if len(name) + len(value) > MAX_HEADER_BYTES:
            raise _too_large(name, f"expected at most {MAX_HEADER_BYTES} bytes, name and value")
        if size > MAX_HEADERS_BYTES:
            said = f"expected at most {MAX_HEADERS_BYTES} bytes in all `anthropic-*` headers"
            raise _too_large(name, said)
        if count > MAX_HEADERS:
            raise _too_large(name, f"expected at most {MAX_HEADERS} `anthropic-*` headers")


def _too_large(name: bytes, expected: str) -> Problem:
    shown = name[:64].decode("latin-1")
    return Problem(
        "request_headers_too_large",
        message=f"The header `{shown}` is too large: {expected}.",
        param=shown,
        issue=expected,
    )


def forwarded_headers(dialect: Dialect, headers: Iterable[Header]) -> list[Header]:
    """The caller's headers that go to an upstream of the same dialect: an allow-list.

    Anthropic's are an open family (`anthropic-*`). OpenAI's organisation and project belong to the
    caller's account, not to ours, and stay behind, as does `idempotency-key`: two callers who
    chose the same one would get each other's answers. Credentials never pass.
    """
    if dialect != "anthropic":
        return []
    passed = [pair for pair in headers if pair[0].startswith(b"anthropic-") and pair[0] not in _OWN]
    if not any(name == b"anthropic-version" for name, _ in passed):
        passed.append(_ANTHROPIC_VERSION)
    return passed
