"""OpenAI Embeddings, passed through: the one dialect of them."""

import msgspec

from edge.dialects.openai_chat.frames import failure_of
from edge.dialects.openai_chat.wire import NULL
from edge.requests.untyped import number
from middlewares.exchange import Usage

from .errors import failed_by
from .lenient import lenient, mended
from .objects import Answer, finished, prepare, relay, said
from .passthrough import NO_ECHO, NO_FIELDS, UNREADABLE, Dialect, Echo, Fields, UpstreamBroke


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw = NULL


class _Answer(Answer):
    data: list[_Vector] | None = None


_decode = msgspec.json.Decoder(_Answer, float_hook=number).decode
_NEEDED = frozenset(("data", "embedding"))
_EMPTY = (b"null", b"[]", b'""')


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
    return finished(answer, body, asked, failed, disclose=disclose)


DIALECT = Dialect(prepare=prepare, relay=relay, finish_plain=finish_plain, said=said, ping=b"")
