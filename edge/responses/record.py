"""A finished answer taken apart for the store, and put together again. No I/O."""

import msgspec

from edge.untyped import decode_any
from middlewares.stores.responses import Kept

from .items import head_of, is_id, items_of

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")


def taken_apart(
    answer: bytes,
    *,
    owner: str,
    model: str,
    previous: str | None,
    new: bytes,
    now: float,
    keep: float,
) -> Kept:
    """What to keep of an answer. answer: the response object; new: what was newly sent.

    now: Unix seconds. keep: seconds. Raises ValueError for an object that is no response.
    """
    members = _decode_members(answer)
    id_ = decode_any(members.get("id", _NULL))
    if not isinstance(id_, str) or not is_id(id_):
        raise ValueError("the answer has no usable id")
    output = members.get("output", _NULL)
    if not bytes(output).startswith(b"["):
        raise ValueError("the answer has no list of output items")
    members["output"] = _NULL
    ids = (head_of(item).id for item in items_of(output))
    return Kept(
        owner=owner,
        id=id_,
        previous=previous,
        model=model,
        created_at=now,
        expires_at=now + keep,
        input=new,
        output=bytes(output),
        answer=_encode(members),
        items=tuple(id_ for id_ in ids if isinstance(id_, str) and is_id(id_)),
    )


def put_together(kept: Kept) -> bytes:
    """The answer that `kept` was made of, as JSON."""
    members = _decode_members(kept.answer)
    members["output"] = msgspec.Raw(kept.output)
    return _encode(members)
