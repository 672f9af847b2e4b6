"""`error.type` of spans: a closed list, so that nothing an upstream wrote can be a value.

kinds of `middlewares.error_kinds.KINDS`   the answer, or the failure of an attempt
500 to 599, 400 to 499                 a status without a kind
internal                               the app raised an exception
service_stopped                        the process ended before the request did
cut                                    the answer broke off for another reason
_OTHER                                 a kind that is not in the table, of another application
"""

from middlewares.error_kinds import KINDS
from middlewares.exchange import Attempt, Exchange

STOPPED = "service_stopped"
CUT = "cut"
INTERNAL = "internal"
OTHER = "_OTHER"
_STOPPED = "the service stops"


def of_request(exchange: Exchange, status: int, *, raised: bool) -> str:
    """The error of a request; "" where it did not fail. Refusals of a caller (4xx) are no errors of
    a server."""
    if status < 500 and not raised and exchange.outcome not in ("failed", "cut"):
        return ""
    if exchange.problem:
        return exchange.problem if exchange.problem in KINDS else OTHER
    if exchange.attempts and exchange.attempts[-1].error == _STOPPED:
        return STOPPED
    if raised:
        return INTERNAL
    return str(status) if 500 <= status <= 599 else CUT


def of_attempt(attempt: Attempt) -> str:
    """The error of an attempt; "" where it was answered, or where the client left."""
    if attempt.problem:
        return attempt.problem if attempt.problem in KINDS else OTHER
    if attempt.error == _STOPPED:
        return STOPPED
    return str(attempt.status) if 400 <= attempt.status <= 599 else ""
