"""Checks of one route of a configuration, and the endpoint that its path names."""

from collections.abc import Collection, Iterator

from edge.endpoints import BY_NAME, CONVERSATIONS, TAILS

from .model import RouteConfig


def endpoint_of(path: str) -> str | None:
    """Endpoint of a route that names none: that of the longest known tail of its path."""
    tails = [tail for tail in TAILS if path.endswith(tail)]
    return TAILS[max(tails, key=len)] if tails else None


def route_faults(route: RouteConfig, offered: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs of the key at fault within the route, and a sentence.

    offered: names of endpoints; empty for all of them.
    """
    name = route.endpoint or endpoint_of(route.path)
    if name is None:
        yield "endpoint", f"is missing; {route.path} ends in none of {', '.join(TAILS)}"
        return
    if offered and name not in offered:
        yield "endpoint", f"endpoints does not have {name}; add it there or remove the route"
        return
    own = BY_NAME[name]
    speaks = own in CONVERSATIONS.values()
    reached = route.prefer if route.dialect == "auto" else route.dialect
    if speaks and reached is not None and offered and CONVERSATIONS[reached].name not in offered:
        key = "prefer" if route.dialect == "auto" else "dialect"
        yield key, f"endpoints does not have {CONVERSATIONS[reached].name}, which speaks {reached}"
    if route.prefer is not None:
        if route.dialect != "auto":
            yield "prefer", 'is used only with dialect = "auto"; set that or remove it'
        elif not speaks and own.dialect is not None:
            yield "prefer", f"{name} has one dialect; remove it"
        elif route.prefer == "responses" and (own.dialect is None or own.codec == "chat"):
            yield "prefer", f'expected "openai" or "anthropic" for {name}'
    if route.default_max_tokens is not None and (
        not speaks or route.dialect not in ("anthropic", "auto")
    ):
        yield (
            "default_max_tokens",
            "is only for conversations in Anthropic's dialect; remove it",
        )
    elif route.default_max_tokens is not None and offered and "messages" not in offered:
        yield "default_max_tokens", "endpoints does not have messages; add it there or remove this"
