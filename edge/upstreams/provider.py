"""A configured upstream: its client, and the headers, query and body settings of each request."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import chain

import msgspec

from edge.upstreams import Header, Request, Response, Upstream
from middlewares.exchange import Dialect
from middlewares.problem import Problem

from .decompression import decompressed

_SHORTEST_PART = 6
"""Characters of a secret that are recognized at the end of a truncated text."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Provider(msgspec.Struct, frozen=True):
    """One configured upstream.

    dialects: the wire dialects it speaks; the simulator speaks all. base_url: as configured.
    headers, query: credentials and configured values, sent with every request. The query is encoded
        and may hold a secret.
    extra_body: members added to every body, as JSON. drop_body: members removed, casefolded.
    first_content: seconds until the first content of a stream.
    json_edits: whether it takes edits of images as JSON.
    disclose: whether callers see its name and its error messages.
    secrets: its credentials, which upstreams may repeat in error messages.
    files: whether it keeps files and takes their ids in requests.
    fetches_urls: whether it fetches links in requests.
    trace: whether its requests have the trace context.
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
    json_edits: bool = False
    secrets: tuple[str, ...] = ()
    files: bool = False
    fetches_urls: bool = True
    trace: bool = True

    @property
    def account(self) -> str:
        """A digest of the vendor's account: where its objects are, and by whose credentials."""
        digest = sha256(self.base_url.encode())
        for part in (*chain.from_iterable(self.headers), self.query):
            digest.update(b"\0" + part)
        return digest.hexdigest()

    async def open(self, request: Request) -> Response:
        """See `Upstream.open`. The body is decompressed if the upstream compressed it."""
        return decompressed(await self.upstream.open(request))

    def without_secrets(self, text: str) -> str:
        """`text` of the upstream with every secret masked, including one that is cut off at its
        end."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
            cut = text.rfind(secret[:_SHORTEST_PART])
            if cut >= 0 and secret.startswith(text[cut:]):
                text = text[:cut] + "***"
        return text

    def target(self, path: bytes, query: bytes = b"") -> bytes:
        """Request target of `path` below the base URL, with the configured query."""
        path = self.base_path + path
        if self.query:
            query = self.query + b"&" + query if query else self.query
        return path + b"?" + query if query else path

    def url(self, target: bytes) -> str:
        """The URL of `target` for operators, without its query."""
        path = target.partition(b"?")[0]
        return self.base_url.removesuffix(self.base_path.decode()) + path.decode("latin-1")

    def with_body_settings(
        self, body: bytes, dropped: list[str], drop_params: frozenset[str] = frozenset()
    ) -> bytes:
        """`body`, a JSON object, with `extra_body` added and `drop_body` removed.

        Names are compared casefolded: servers written in Go read `USER` as `user`.
        drop_params: more names that are removed, casefolded, since the model refuses them.
        dropped: gets a note for each member of the request that is not sent.
        """
        if not (self.extra_body or self.drop_body or drop_params):
            return body
        replaced = self.drop_body.union(map(str.casefold, self.extra_body), drop_params)
        kept = {}
        for name, raw in _decode(body).items():
            if name.casefold() not in replaced:
                kept[name] = raw
            else:
                whose = "model" if name.casefold() in drop_params else "upstream"
                dropped.append(f"`{name}`: a setting of the {whose}")
        return _encode({**kept, **self.extra_body})


def credentials(dialect: str, key: str | None, header: str | None = None) -> tuple[Header, ...]:
    """The header with the API key: `header`, or the usual one of `dialect`; none without a key."""
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
"""Anthropic's headers about browsers or the operator's own account; never forwarded."""


MAX_HEADER_BYTES = 4096
"""Bytes of one forwarded header, name and value."""
MAX_HEADERS_BYTES = 8192
"""Bytes of all forwarded headers: below the default limit of any server or proxy."""
MAX_HEADERS = 32
"""Number of forwarded headers."""


def check_forwarded_headers(headers: Iterable[Header]) -> None:
    """Raise Problem for headers that are too large to forward.

    An upstream would refuse them with an error that looks like its own fault.
    """
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
    """The caller's headers that are forwarded to an upstream of the same dialect: an allow-list.

    Anthropic: `anthropic-*`. OpenAI: none, because organisation and project belong to the caller's
    account, and two callers with the same `idempotency-key` would get each other's answers.
    Credentials are never forwarded.
    """
    if dialect != "anthropic":
        return []
    passed = [pair for pair in headers if pair[0].startswith(b"anthropic-") and pair[0] not in _OWN]
    if not any(name == b"anthropic-version" for name, _ in passed):
        passed.append(_ANTHROPIC_VERSION)
    return passed
