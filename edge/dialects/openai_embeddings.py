"""Pass OpenAI Embeddings through; it is the only dialect of embeddings."""

import msgspec

from edge.dialects.openai_chat.failures import failure_of
from edge.dialects.openai_chat.wire import NULL
from edge.untyped_json import number
from middlewares.exchange import Usage

from .errors import failed_by
from .lenient_json import decode_leniently, repaired_json
from .passthrough import (
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    UpstreamError,
)
from .plain_json import Answer, finished, output_size, prepare, relay


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw = NULL


class _Answer(Answer):
    data: list[_Vector] | None = None


_decode = msgspec.json.Decoder(_Answer, float_hook=number).decode
_NEEDED = frozenset(("data", "embedding"))
_EMPTY = (b"null", b"[]", b'""')


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage. Raises UpstreamError for a body without embeddings."""
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        try:
            body = repaired_json(body)
            answer = decode_leniently(_decode, body, _NEEDED)
        except UNREADABLE:
            raise UpstreamError(f"the answer is no list of embeddings: {error}") from None
    failed = failure_of(answer, body)
    vectors = answer.data or ()
    if failed is None and (not vectors or any(bytes(v.embedding) in _EMPTY for v in vectors)):
        failed = failed_by(body)
    return finished(answer, body, requested_model, failed, disclose=disclose)


DIALECT = PassthroughCodec(
    prepare=prepare, relay=relay, finish_body=finish_body, output_size=output_size, ping=b""
)
