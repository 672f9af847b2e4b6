"""Tables of retries, circuit breakers and affinity."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.units import Duration

from .names import Positive


class FallbackConfig(Struct, frozen=True, kw_only=True):
    """Retries and fallbacks of a request whose target fails before its first content."""

    max_attempts: Annotated[
        Positive,
        Meta(
            description="Most attempts of one request, over all targets and fallbacks. 1 never "
            "tries again.",
            extra={"renamed_from": "attempts"},
        ),
    ] = 5
    deadline: Annotated[
        Duration,
        Meta(
            description="Time from the start of a request after which no further attempt begins. "
            "Where clients do not stream, give it more than `upstreams[].total_timeout`.",
            extra={"renamed_from": "time"},
        ),
    ] = Duration(300)
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="Further rounds over the same targets once each has failed. Retries of "
            "the clients come on top.",
        ),
    ] = 0
    backoff: Annotated[
        Duration,
        Meta(
            description="Longest pause before the first further round; it doubles before each "
            "later one. The pause itself is random, from 0 to this.",
            extra={"renamed_from": "pause"},
        ),
    ] = Duration(0.5)
    max_backoff: Annotated[
        Duration,
        Meta(
            description="Upper bound of that pause. A longer `retry-after` is not waited for.",
            extra={"renamed_from": "longest_pause"},
        ),
    ] = Duration(8)
    retry_unanswered: Annotated[
        bool,
        Meta(
            description="Send a request again, to another target or on a fresh connection, also "
            "where it was sent and no answer came. The first upstream may have worked on it, and "
            "bill you for it; false returns the error instead.",
            extra={"renamed_from": "unanswered"},
        ),
    ] = True


class BreakerConfig(Struct, frozen=True, kw_only=True):
    """Circuit breaker of each target. An open one is passed over while another target is left."""

    min_failures: Annotated[
        Positive,
        Meta(
            description="Failures within `window` that open the breaker, where `failure_rate` is "
            "reached too.",
            extra={"reloadable": False, "renamed_from": "failures"},
        ),
    ] = 5
    failure_rate: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Percent of the requests within `window` that must have failed.",
            extra={"reloadable": False, "renamed_from": "share"},
        ),
    ] = 30
    window: Annotated[
        Duration,
        Meta(
            description="Time over which requests and failures are counted.",
            extra={"reloadable": False},
        ),
    ] = Duration(30)
    open_for: Annotated[
        Duration,
        Meta(
            description="Time for which an open breaker keeps requests away; then one request "
            "probes the target. Doubles with each probe that fails.",
            extra={"reloadable": False, "renamed_from": "pause"},
        ),
    ] = Duration(5)
    max_open_for: Annotated[
        Duration,
        Meta(
            description="Upper bound of that time, and of what a `retry-after` asks for.",
            extra={"reloadable": False, "renamed_from": "longest_pause"},
        ),
    ] = Duration(120)


class AffinityConfig(Struct, frozen=True, kw_only=True):
    """Conversations stay with the target that answered them last, whose prompt cache has them."""

    ttl: Annotated[
        Duration,
        Meta(
            description="How long a conversation stays, counted from its last answer. 0 turns "
            "affinity off; what one model signed is then not removed for another.",
            extra={"reloadable": False, "renamed_from": "keep"},
        ),
    ] = Duration(86400)
    max_entries: Annotated[
        Positive,
        Meta(
            description="Most conversations that one worker remembers.",
            extra={"reloadable": False, "renamed_from": "most"},
        ),
    ] = 100_000
