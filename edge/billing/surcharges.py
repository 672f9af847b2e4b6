"""Surcharges that a request may cause beyond the price of its tokens.

    service tier, speed, region   a factor of `price.tiers`; without one the request is refused
    an hour in the prompt cache   `price.cache_write_1h`
    hosted tools                  `price.hosted_call` for each call
    a compaction by the vendor    one more pass of the model over the same input

Sources: OpenAI API reference, `service_tier`; Anthropic API reference, `service_tier`, `speed`,
`inference_geo`, `cache_control.ttl`, `context_management`, `max_uses` of server tools.
"""

import re
from collections.abc import Mapping

import msgspec

from edge.endpoints import Codec
from edge.requests.regex_windows import found
from edge.requests.unseen_input import is_hosted
from edge.untyped_json import decode_any
from middlewares.exchange import Tariff, Usage
from middlewares.pricing import Price
from middlewares.problem import Problem

Fields = Mapping[str, msgspec.Raw]

_TIERS = ("service_tier", "speed", "inference_geo")
_TIER_MEMBERS = frozenset(_TIERS)
_STANDARD_TIERS = frozenset(
    (
        *("", "auto", "default", "standard", "standard_only", "on_demand", "flex", "batch"),
        *("global", "not_available"),
    )
)
"""Tiers, speeds and regions without a surcharge, in any dialect."""
_DEFAULT_CALLS = 10
"""Calls of hosted tools that are reserved if the request sets no limit."""
_HOUR = re.compile(rb'"(?:1|\\u0031)(?:h|\\u0068)"')
_SHORTEST_HOUR = len('["1h"]')
_COMPACT = re.compile(rb"compact|\\u00")
_NULL = msgspec.Raw(b"null")


class _Tool(msgspec.Struct):
    max_uses: int | None = None

    @property
    def calls(self) -> int:
        """Calls that it allows; 0 without a valid limit."""
        return max(0, self.max_uses or 0)


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tools = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
_decode_count = msgspec.json.Decoder(int | None).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def requested_tiers(fields: Fields) -> tuple[str, ...]:
    """Service tier, speed and region in a body, each "" if absent; () if all are.

    The upstream refuses a value that is not a string.
    """
    if _TIER_MEMBERS.isdisjoint(fields):
        return ()
    return tuple(_text(fields.get(name, _NULL)) for name in _TIERS)


def _text(raw: msgspec.Raw) -> str:
    try:
        value = decode_any(raw)
    except _UNREADABLE:
        return ""
    return value if isinstance(value, str) else ""


def check_tiers(asked: tuple[str, ...], price: Price) -> None:
    """Raise Problem for a non-standard tier without a factor in `price`."""
    for name, tier in zip(_TIERS, asked, strict=False):
        if tier not in price.factors and tier not in _STANDARD_TIERS:
            raise Problem(
                "invalid_request",
                message=f"Unsupported value for `{name}`: {tier[:40]!r} has no price for this "
                "model. Leave it out.",
                param=name,
                issue="expected a value that the model has a price for",
            )


class _TieredPrice(msgspec.Struct, frozen=True):
    """A price with the requested tiers."""

    price: Price
    asked: tuple[str, ...]

    def cost(self, usage: Usage) -> int:
        """See `Price.cost`."""
        return self.price.cost(usage, self.asked)


def tariff_of(price: Price | None, fields: Fields, sent: bytes | None = None) -> Tariff | None:
    """The tariff of an answer: `price` with the requested tiers.

    sent: body of the upstream request. A tier that is not in it costs nothing: its dialect has
    none, or the operator drops it.
    """
    if price is None:
        return None
    if not price.factors:
        return price
    asked = requested_tiers(fields)
    if asked and sent is not None:
        passed = requested_tiers(_decode_fields(sent)) or ("",) * len(asked)
        asked = tuple(one if there else "" for one, there in zip(asked, passed, strict=True))
    return _TieredPrice(price, asked) if asked else price


def caches_for_an_hour(fields: Fields) -> bool:
    """Whether a body may request a prompt cache of one hour."""
    for raw in fields.values():  # noqa: SIM110 - a generator costs more than the loop
        if len(raw) >= _SHORTEST_HOUR and found(_HOUR, raw):
            return True
    return False


def compacts(fields: Fields) -> bool:
    """Whether a body may let the vendor compact the conversation."""
    return found(_COMPACT, fields.get("context_management", _NULL))


def hosted_calls(codec: Codec | None, fields: Fields) -> int:
    """Approximate maximum of hosted tool calls of a request.

    Limits: `max_uses` of each tool (Messages), `max_tool_calls` (Responses), also translated.
    Without a limit of its own dialect: ten in all.
    """
    searches = bytes(fields.get("web_search_options", _NULL)) != b"null"
    if "tools" not in fields:
        return _DEFAULT_CALLS if searches else 0
    try:
        tools = [tool for tool in _decode_tools(fields["tools"]) or () if is_hosted(tool)]
        if not tools:
            return _DEFAULT_CALLS if searches else 0
        if codec == "messages":
            uses = [_decode_tool(tool).calls for tool in tools]
            most = sum(uses) if all(uses) else 0
        elif codec == "responses":
            most = _decode_count(fields.get("max_tool_calls", _NULL)) or 0
        else:
            most = 0
    except _UNREADABLE:
        return _DEFAULT_CALLS
    return most if most > 0 else _DEFAULT_CALLS
