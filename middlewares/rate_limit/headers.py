"""Response headers that show the state of rates, in the dialects of OpenAI and Anthropic."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from time import gmtime, strftime, time

from middlewares.asgi import Header
from middlewares.exchange import Exchange


def rate_limit_headers(
    exchange: Exchange, *, clock: Callable[[], float] = time
) -> Sequence[Header]:
    """Rate limit headers, for `HeaderStampMiddleware`.

    `x-ratelimit-*` is the rate of requests, the principal's or its team's, of which less remains,
    with its reset in whole Unix seconds. Beside it come, by dialect, OpenAI's headers, whose resets
    are durations ("6m0s"), or Anthropic's, whose resets are times (RFC 3339). Sources: the vendors'
    pages on rate limits.
    """
    levels = exchange.levels
    if not levels:
        return ()
    anthropic = exchange.dialect == "anthropic"
    now = clock()
    headers: list[Header] = []
    for level in levels:
        limit, remaining = _number(level.limit), b"%d" % level.remaining
        reset = level.reset
        until = ceil(reset)
        shown = _moment(until) if anthropic else _duration(reset - now)
        if level.name == "requests":
            headers += (
                (b"x-ratelimit-limit", limit),
                (b"x-ratelimit-remaining", remaining),
                (b"x-ratelimit-reset", b"%d" % until),
            )
            if anthropic:
                headers += (
                    (b"anthropic-ratelimit-requests-limit", limit),
                    (b"anthropic-ratelimit-requests-remaining", remaining),
                    (b"anthropic-ratelimit-requests-reset", shown),
                )
            else:
                headers += (
                    (b"x-ratelimit-limit-requests", limit),
                    (b"x-ratelimit-remaining-requests", remaining),
                    (b"x-ratelimit-reset-requests", shown),
                )
        elif anthropic:
            headers += (
                (b"anthropic-ratelimit-tokens-limit", limit),
                (b"anthropic-ratelimit-tokens-remaining", remaining),
                (b"anthropic-ratelimit-tokens-reset", shown),
            )
        else:
            headers += (
                (b"x-ratelimit-limit-tokens", limit),
                (b"x-ratelimit-remaining-tokens", remaining),
                (b"x-ratelimit-reset-tokens", shown),
            )
    return headers


@lru_cache(4096)
def _number(number: int) -> bytes:
    return b"%d" % number


@lru_cache(256)
def _moment(seconds: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds)).encode()


def _duration(seconds: float) -> bytes:
    """A duration as OpenAI (and Go) writes it: "120ms", "1s", "8.64s", "6m0s"."""
    milliseconds = ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds > 0 else b"0s"
    if milliseconds < 60_000:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    if minutes < 60:
        return b"%dm%gs" % (minutes, rest / 1000)
    return b"%dh%dm%gs" % (*divmod(minutes, 60), rest / 1000)
