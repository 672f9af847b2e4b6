"""Pack a vendor's thinking signatures into text that another vendor's dialect can carry.

A caller sends thinking signatures and encrypted reasoning back with the next turn. In an answer to
a caller of another dialect they are packed into a text member, with a mark and the fingerprint of
their origin. When the caller sends them back they are unpacked, and go only to the model that made
them. The text is neither secret nor protected: a caller that alters it only invalidates its own
signature. It does not reveal the model's name.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from .conversation import Origin, Signature

MARK = "pk1-"
"""The prefix of packed text. No vendor's own data has it: base64 has no hyphen."""


class _Packed(msgspec.Struct, array_like=True):
    dialect: str
    model: str
    data: str
    id: str
    redacted: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def fingerprint(dialect: str, model: str) -> str:
    """A short digest of an upstream's model that does not reveal its name."""
    return blake2b(f"{dialect}\0{model}".encode(), digest_size=6, person=b"origin").hexdigest()


def pack(signature: Signature) -> str:
    """Pack `signature` into ASCII text without spaces."""
    origin = signature.origin
    packed = _Packed(origin.dialect, origin.model, signature.data, signature.id, signature.redacted)
    return MARK + urlsafe_b64encode(_encode(packed)).decode()


def unpack(text: str) -> Signature | None:
    """Unpack text made by `pack`; None for any other text."""
    if not text.startswith(MARK):
        return None
    try:
        packed = _decode(urlsafe_b64decode(text[len(MARK) :]))
    except (ValueError, msgspec.DecodeError):
        return None
    return Signature(
        origin=Origin(packed.dialect, packed.model),
        data=packed.data,
        id=packed.id,
        redacted=packed.redacted,
    )


def readable(signature: Signature | None, dialect: str, model: str) -> bool:
    """Whether an upstream of `dialect` with the fingerprint `model` made `signature`.

    A signature in the vendor's own form is taken for the upstream's own.
    """
    return (
        signature is not None
        and signature.origin.dialect == dialect
        and signature.origin.model in ("", model)
    )
