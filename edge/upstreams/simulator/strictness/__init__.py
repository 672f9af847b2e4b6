"""What the vendors refuse, in their words, for callers that ask for `strict=1`.

A translator is right when what it writes is taken here; so these rules are those that a request
from another dialect is likely to break, not all that the vendors have. What no request may contain
at all is refused by the readers without being asked.

    chat, messages, responses   the rules of each dialect
    openai                      what Chat Completions and Responses have in common
    turns, sampling             rules of Messages: the conversation; thinking and models
"""

from collections.abc import Callable, Mapping
from typing import Any

from edge.requests.untyped_json import decode_object
from edge.upstreams.simulator.prompt import Dialect, PromptRejected

from . import chat, messages, responses

_CHECKS: Mapping[Dialect, Callable[[dict[str, Any]], None]] = {
    "openai": chat.check,
    "responses": responses.check,
}


def check(dialect: Dialect, body: bytes, *, version: str = "", betas: bool = False) -> None:
    """Hold a body that has been read before against the rules of its dialect.

    version: of the Anthropic API. betas: some are switched on, so that unknown fields may pass.
    Raises Rejected.
    """
    given = decode_object(body)
    try:
        if dialect == "anthropic":
            messages.check(given, version=version, betas=betas)
        else:
            _CHECKS[dialect](given)
    except (AttributeError, IndexError, KeyError, TypeError) as wrong:
        raise PromptRejected(400, f"The request has a value of the wrong type: {wrong!r}") from None
