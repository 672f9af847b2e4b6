"""POST /v1/embeddings: unit vectors derived from the text."""

import math
from array import array
from base64 import b64encode
from hashlib import shake_256
from sys import byteorder

import msgspec

from .controls import take_directive
from .prompt import UNREADABLE, PromptRejected, rejected
from .tokens import count

_DIMENSIONS = 1536
_MOST = 8192


class _Body(msgspec.Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """A request for embeddings. inputs: one bytes value per input, in order."""

    model: str
    inputs: tuple[bytes, ...]
    tokens: int
    base64: bool
    dimensions: int
    directive: str


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


def read(body: bytes) -> EmbeddingsRequest:
    """Read a body. A directive may be in any input text. Raises PromptRejected."""
    try:
        asked = _decode(body)
    except UNREADABLE as error:
        raise rejected(error) from None
    dimensions = _DIMENSIONS if asked.dimensions is None else asked.dimensions
    if not 1 <= dimensions <= _MOST:
        raise PromptRejected(400, f"Invalid 'dimensions': from 1 to {_MOST}.", "dimensions")
    if asked.encoding_format not in (None, "float", "base64"):
        raise PromptRejected(400, "Invalid 'encoding_format': float or base64.", "encoding_format")
    if not asked.input:
        raise PromptRejected(400, "Invalid 'input': it must not be empty.", "input")
    single = isinstance(asked.input, str) or isinstance(asked.input[0], int)
    inputs: list[bytes] = []
    words: list[str] = []
    tokens = 0
    for item in [asked.input] if single else asked.input:
        if isinstance(item, str):
            text, directive = take_directive(item)
            words.append(directive)
            inputs.append(text.encode())
            tokens += count(text)
        else:
            inputs.append(_encode(item))
            tokens += len(item) if isinstance(item, list) else 1
    return EmbeddingsRequest(
        model=asked.model,
        inputs=tuple(inputs),
        tokens=tokens,
        base64=asked.encoding_format == "base64",
        dimensions=dimensions,
        directive=" ".join(words),
    )


def body(request: EmbeddingsRequest) -> bytes:
    """The answer as one JSON document."""
    data = []
    for index, item in enumerate(request.inputs):
        vector = _vector(item, request.dimensions)
        data.append(
            {
                "object": "embedding",
                "index": index,
                "embedding": _as_base64(vector) if request.base64 else vector.tolist(),
            }
        )
    usage = {"prompt_tokens": request.tokens, "total_tokens": request.tokens}
    return _encode({"object": "list", "data": data, "model": request.model, "usage": usage})


def _vector(item: bytes, dimensions: int) -> "array[float]":
    """A vector of length 1 in 32-bit floats."""
    noise = shake_256(item).digest(2 * dimensions)
    raw = [int.from_bytes(noise[n : n + 2], "big") / 32767.5 - 1 for n in range(0, len(noise), 2)]
    length = math.sqrt(sum(x * x for x in raw)) or 1.0
    return array("f", [x / length for x in raw])


def _as_base64(vector: "array[float]") -> str:
    """Little-endian 32-bit floats, as the vendor packs them."""
    if byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()
