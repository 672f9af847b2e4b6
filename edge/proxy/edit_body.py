"""The JSON body of an image edit: the images in base64, encoded while they are sent."""

from binascii import b2a_base64
from collections.abc import AsyncIterator, Sequence

from msgspec import Raw

from edge.dialects.passthrough import Fields, encode
from edge.media.forms import FormFile, Spool, plain_name
from edge.untyped_json import decode_any

_TRIPLES = 3 << 15
"""Bytes that are encoded at a time."""
_OTHER = "application/octet-stream"


class EditBody:
    """A JSON object with images. Each iteration encodes it from its beginning.

    body: the object without them. The files must stay open until it is sent.
    """

    def __init__(self, body: bytes, files: Sequence[FormFile]) -> None:
        named: dict[str, list[FormFile]] = {}
        for file in files:
            named.setdefault(plain_name(file.name), []).append(file)
        parts: list[bytes | Spool] = [body.rstrip().removesuffix(b"}")]
        comma = b"" if body.strip() == b"{}" else b","
        for name, found in named.items():
            listed = name == "image"
            member = encode("images" if listed else name)
            parts.append(comma + member + (b":[" if listed else b":"))
            for number, file in enumerate(found):
                kind = (file.spool.kind or file.content_type or _OTHER).encode()
                parts.append(b',{"image_url":"data:'[not number :] + kind + b";base64,")
                parts += (file.spool, b'"}')
            parts.append(b"]" if listed else b"")
            comma = b","
        self._parts = [*parts, b"}"]
        self.length = sum(
            len(part) if isinstance(part, bytes) else 4 * -(-part.size // 3) for part in self._parts
        )
        """Bytes of the body."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in pieces."""
        held = b""
        for part in self._parts:
            if isinstance(part, bytes):
                held += part
                continue
            async for piece in part.pieces(size=_TRIPLES):
                yield held + b2a_base64(piece, newline=False)
                held = b""
        yield held


def nested(fields: Fields) -> Fields:
    """`fields` with `svg[model]` and the like as members of objects, as JSON has them."""
    if not any("[" in name for name in fields):
        return fields
    made: dict[str, object] = {}
    for name, raw in fields.items():
        first, bracket, rest = name.partition("[")
        if not bracket or not rest.endswith("]"):
            made[name] = raw
            continue
        keys = rest.removesuffix("]").split("][")
        holder = made.setdefault(first, {})
        for key in keys[:-1]:
            holder = holder.setdefault(key, {}) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[keys[-1]] = decode_any(raw)
    return {name: raw if isinstance(raw, Raw) else Raw(encode(raw)) for name, raw in made.items()}
