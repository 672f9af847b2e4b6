"""OpenAI Embeddings, passed through: the one dialect of them."""

from typing import Any

import msgspec

from edge.dialects.disclosure import tells, undisclosed
from edge.dialects.failures import failed_by
from edge.dialects.lenient import lenient, mended
from edge.dialects.passthrough import (
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Dialect,
    Echo,
    Fields,
    Relay,
    UpstreamBroke,
    decode_fields,
    encode,
    rename,
)
from edge.untyped import number
from middlewares.exchange import Usage

from .openai_chat.frames import failure_of
from .openai_chat.wire import NULL, usage_in


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw = NULL


class _Answer(msgspec.Struct):
    data: list[_Vector] | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    error: msgspec.Raw = NULL
    base_resp: msgspec.Raw = NULL
    object: str | None = None


_decode = msgspec.json.Decoder(_Answer, float_hook=number).decode
_NEEDED = frozenset(("data", "embedding"))
_EMPTY = (b"null", b"[]", b'""')


def prepare(fields: Fields, model: str, stream: bool, *, family: str = "") -> bytes:
    """The upstream's body: the client's members as they came, another model."""
    return encode({**fields, "model": msgspec.Raw(encode(model))})


def relay(fields: Fields, asked: str, echo: Echo, *, disclose: bool = False) -> Relay:
    """Embeddings come whole."""
    raise NotImplementedError("embeddings are not streamed")


def finish_plain(
    body: bytes,
    asked: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage. Raises UpstreamBroke for a body without embeddings."""
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        try:
            body = mended(body)
            answer = lenient(_decode, body, _NEEDED)
        except UNREADABLE:
            raise UpstreamBroke(f"the answer is no list of embeddings: {error}") from None
    failed = failure_of(answer, body)
    vectors = answer.data or ()
    if failed is None and (not vectors or any(bytes(v.embedding) in _EMPTY for v in vectors)):
        failed = failed_by(body)
    if failed is not None:
        raise UpstreamBroke.by(failed)
    empty = bytes(answer.error) != b"null"
    known = int(answer.model is not None)
    if empty or (not disclose and (tells(body) or body.count(b'"model"') > known)):
        try:
            members = decode_fields(body)
            members.pop("error", None)
            if not disclose:
                members = undisclosed(members, asked)
            elif "model" in members:
                members["model"] = msgspec.Raw(encode(asked))
            body = encode(members)
        except UNREADABLE as error:
            raise UpstreamBroke(f"the answer cannot be read: {error}") from None
    elif answer.model is not None:
        body = rename(body, answer.model, asked)
    return body, usage_in(answer, only_input=True)


def said(body: bytes) -> int:
    """Nothing: numbers are no text."""
    return 0


DIALECT = Dialect(prepare=prepare, relay=relay, finish_plain=finish_plain, said=said, ping=b"")
