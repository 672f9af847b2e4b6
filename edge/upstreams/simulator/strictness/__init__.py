"""The vendors' checks of requests, with their messages, for `strict=1`.

They show that a translated request is valid. So they contain the rules that a request from another
dialect is likely to break, not all rules of the vendors. The readers always refuse what no request
may contain.

    chat, messages, responses   the rules of each dialect
    openai                      what Chat Completions and Responses have in common
    turns, sampling             rules of Messages: the conversation; thinking and models
"""

from collections.abc import Callable, Mapping
from typing import Any

from edge.untyped_json import decode_object
from edge.upstreams.simulator.prompt import PromptRejected
from middlewares.exchange import Dialect

from . import chat, messages, responses

_CHECKS: Mapping[Dialect, Callable[[dict[str, Any]], None]] = {
    "openai": chat.check,
    "responses": responses.check,
}


def check(dialect: Dialect, body: bytes, *, version: str = "", betas: bool = False) -> None:
    """Check a body, which a reader has accepted, by the rules of its dialect.

    version: of the Anthropic API. betas: whether betas are enabled, so unknown fields are allowed.
    Raises PromptRejected.
    """
    given = decode_object(body)
    try:
        if dialect == "anthropic":
            messages.check(given, version=version, betas=betas)
        else:
            _CHECKS[dialect](given)
    except (AttributeError, IndexError, KeyError, TypeError) as wrong:
        raise PromptRejected(400, f"The request has a value of the wrong type: {wrong!r}") from None
