"""The `max_tokens` that a path gives to requests in Anthropic's dialect."""

from collections.abc import MutableMapping

import msgspec

_NULL = msgspec.Raw(b"null")
_MOST = 1 << 31


class _Thinking(msgspec.Struct):
    type: msgspec.Raw = _NULL
    budget_tokens: msgspec.Raw = _NULL


_thinking_of = msgspec.json.Decoder(_Thinking).decode
_number_of = msgspec.json.Decoder(int).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def add_max_tokens(fields: MutableMapping[str, msgspec.Raw], tokens: int, most: int | None) -> None:
    """Give the members of a request `tokens` as its `max_tokens` if they have none.

    A thinking budget is added: the vendor counts it within the limit. most: the model's limit.
    """
    if bytes(fields.get("max_tokens", _NULL)) != b"null":
        return
    tokens += _thinking_budget(fields.get("thinking", _NULL))
    fields["max_tokens"] = msgspec.Raw(b"%d" % min(tokens, most or tokens))


def _thinking_budget(raw: msgspec.Raw) -> int:
    try:
        thinking = _thinking_of(raw)
        if bytes(thinking.type) != b'"enabled"':
            return 0
        budget = _number_of(thinking.budget_tokens)
    except _UNREADABLE:
        return 0
    return budget if 0 < budget < _MOST else 0
