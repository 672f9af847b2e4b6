"""Requests just within each bound of what one request may hold, and just beyond it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from edge.proxy.intake import MAX_MODELS
from edge.requests import body_limits
from edge.requests.json_body import MAX_MEMBERS

from .kinds import DIALECTS, Dialect, Raw, array, encode

Make = Callable[[Dialect, str, int], bytes]


class Bound(NamedTuple):
    """make: a body with so many of them. status: of the answer to one more; 0 where it is served,
    as for the longest known to be. callers: of which dialects. upstreams: of which dialects, None
    for any. endpoint: instead of the dialect's."""

    name: str
    most: int
    make: Make
    status: int = 400
    callers: tuple[str, ...] = ("chat", "claude", "resp")
    upstreams: tuple[str, ...] = ("chat", "claude", "resp")
    endpoint: str = ""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Caller and model."""
        for caller in self.callers:
            for model in self.upstreams:
                yield caller, model


def _messages(d: Dialect, model: str, count: int) -> bytes:
    return d.messages(model, array(d.message, count))


def _parts(d: Dialect, model: str, count: int) -> bytes:
    return d.parts(model, array(d.part, count))


def _tools(d: Dialect, model: str, count: int) -> bytes:
    return d.body(model, tools=[d.tool(f"t{n}", {"type": "object"}) for n in range(count)])


def _schema(**members: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, **members}


def _required(d: Dialect, model: str, count: int) -> bytes:
    names = [f"p{n}" for n in range(count)]
    return d.body(model, tools=[d.tool("t", _schema(properties={}, required=names))])


def _properties(d: Dialect, model: str, count: int) -> bytes:
    properties = {f"p{n}": {"type": "string"} for n in range(count)}
    return d.body(model, tools=[d.tool("t", _schema(properties=properties))])


def _enumerated(d: Dialect, model: str, count: int) -> bytes:
    values = [f"v{n}" for n in range(count)]
    schema = _schema(properties={"a": {"type": "string", "enum": values}}, required=["a"])
    return d.body(model, **d.formatted(schema))


def _strict(d: Dialect, model: str, count: int) -> bytes:
    names = [f"p{n}" for n in range(count)]
    properties = {name: {"type": "string"} for name in names}
    schema = _schema(properties=properties, required=names)
    return d.body(model, tools=[d.tool("t", schema, strict=True)])


def _stops(d: Dialect, model: str, count: int) -> bytes:
    return d.body(model, **d.stops([f"stop{n}" for n in range(count)]))


def _long_stop(d: Dialect, model: str, count: int) -> bytes:
    return d.body(model, **d.stops(["s" * count]))


def _metadata(d: Dialect, model: str, count: int) -> bytes:
    return d.body(model, metadata={f"m{n}": "" for n in range(count)})


def _members(d: Dialect, model: str, count: int) -> bytes:
    usual = d.body(model)
    more = count - usual.count(b'":') + 2 * (d is not DIALECTS["resp"])
    return b"{" + b"".join(b'"m%d":0,' % n for n in range(more)) + usual[1:]


def _models(d: Dialect, model: str, count: int) -> bytes:
    return d.body(model, models=[model] * count)


def _values(d: Dialect, model: str, count: int) -> bytes:
    """Nearly all in one array of a member that no dialect knows."""
    return b'{"other":%s,' % array(b"1", count) + d.body(model)[1:]


def _containers(d: Dialect, model: str, count: int) -> bytes:
    return b'{"other":%s,' % array(b"{}", count) + d.body(model)[1:]


def _embedded(d: Dialect, model: str, count: int) -> bytes:
    return encode({"model": "embed", "input": Raw(array(b'"a"', count))})


CHAT, RESPONSES = ("chat",), ("chat", "resp")

BOUNDS = (
    Bound("messages", body_limits.MOST_MESSAGES, _messages),
    Bound("parts", body_limits.MOST_PARTS, _parts),
    Bound("tools", body_limits.MOST_TOOLS, _tools),
    Bound("required", body_limits.MOST_NAMES, _required),
    Bound("properties", body_limits.MOST_NAMES, _properties),
    Bound("strict properties", body_limits.MOST_NAMES, _strict),
    Bound("enum of a format", body_limits.MOST_NAMES, _enumerated, callers=RESPONSES),
    Bound("stop strings", body_limits.MOST_STOPS, _stops, callers=("chat", "claude")),
    Bound(
        "length of a stop string", body_limits.LONGEST_STOP, _long_stop, callers=("chat", "claude")
    ),
    Bound("metadata", body_limits.MOST_METADATA, _metadata),
    Bound("models", MAX_MODELS, _models),
    Bound(
        "embedded texts",
        body_limits.MOST_INPUTS,
        _embedded,
        callers=CHAT,
        endpoint="/v1/embeddings",
    ),
)
"""Those that are exact."""

ROUGH = (
    Bound("members", MAX_MEMBERS, _members),
    Bound("values", body_limits.MOST_VALUES, _values),
    Bound("containers", body_limits.MOST_CONTAINERS, _containers),
)
"""Those that count what is not in question too: tried with a hundred fewer, and a hundred more."""
