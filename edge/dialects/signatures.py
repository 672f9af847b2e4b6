"""Carry what only one vendor can read (`neutral.Opaque`) through a dialect of another.

A caller keeps thinking signatures and encrypted reasoning for the next turn. What goes to a caller
whose dialect is not the maker's is packed into text that the caller's dialect has a place for, with
a mark and the maker's fingerprint; coming back it is unpacked, and sent on only to its maker. The
text is no secret and needs no protection: whoever alters it spoils a signature of his own. It does
not name the model behind it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from .conversation import Origin, Signature

MARK = "pk1-"
"""What packed text begins with. Neither vendor's own data (base64) can: it has no hyphen."""


class _Packed(msgspec.Struct, array_like=True):
    dialect: str
    model: str
    data: str
    id: str
    redacted: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def fingerprint(dialect: str, model: str) -> str:
    """A short name for an upstream's model that does not tell which one it is."""
    return blake2b(f"{dialect}\0{model}".encode(), digest_size=6, person=b"origin").hexdigest()


def pack(signature: Signature) -> str:
    """`signature` as ASCII text without spaces."""
    origin = signature.origin
    packed = _Packed(origin.dialect, origin.model, signature.data, signature.id, signature.redacted)
    return MARK + urlsafe_b64encode(_encode(packed)).decode()


def unpack(text: str) -> Signature | None:
    """What `pack` made `text` of; None for anything else."""
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
    """Whether an upstream of `dialect` whose fingerprint is `model` made `signature`.

    What came in the vendor's own form is believed to be its own.
    """
    return (
        signature is not None
        and signature.origin.dialect == dialect
        and signature.origin.model in ("", model)
    )
