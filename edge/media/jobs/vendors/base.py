"""The protocol of vendor adapters: requests to write and answers to read, without I/O.

An adapter says how one kind of upstream takes a job. Answers of upstreams may have members of any
type; an adapter reads what it needs and takes the rest for absent.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from edge.media.jobs.work import Work
from middlewares.stores.jobs.base import Kind, Result

Progress = Literal["running", "succeeded", "failed", "cancelled"]

_RUNNING = (
    *("queued", "in_progress", "pending", "processing", "running", "submitted", "in_queue"),
    *("starting", "preparing", "not_start", "created", "waiting", "started", "streaming"),
    *("text_success", "first_success"),
)
_SUCCEEDED = ("completed", "succeeded", "succeed", "success", "done", "complete", "finished", "ok")
_FAILED = ("failed", "failure", "error", "fail", "expired", "rejected", "timeout", "moderated")
_CANCELLED = ("cancelled", "canceled", "cancelling", "canceling")
_WORDS: Mapping[str, Progress] = {
    **dict.fromkeys(_RUNNING, "running"),
    **dict.fromkeys(_SUCCEEDED, "succeeded"),
    **dict.fromkeys(_FAILED, "failed"),
    **dict.fromkeys(_CANCELLED, "cancelled"),
}


class Call(msgspec.Struct, frozen=True):
    """One request to an upstream. path: below its base URL."""

    method: str
    path: str
    query: str = ""
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}


class Answer(msgspec.Struct, frozen=True):
    """What an upstream said of a job.

    id: the job's at the upstream; "" in answers to later requests, and where it has none.
    progress: 0 to 100, None where it does not say. texts: of a failure, for the log and to find
    its cause. seconds: of what was made; cost: in dollars; None where it does not say.
    wait: seconds after which to ask again. then: a further call that has the results.
    """

    state: Progress
    id: str = ""
    progress: int | None = None
    results: tuple[Result, ...] = ()
    error: Mapping[str, Any] = {}
    seconds: float | None = None
    cost: float | None = None
    wait: float | None = None
    then: Call | None = None


class Vendor(Protocol):
    """One kind of upstream.

    kinds: of jobs that it takes. streams: whether the answer to a submission is the media itself.
    """

    kinds: tuple[Kind, ...]
    streams: bool

    def seconds(self, work: Work) -> float:
        """Seconds that the upstream is asked for: `work.seconds`, or its default."""
        ...

    def most_seconds(self, work: Work) -> float:
        """The most seconds that the result can have, to be paid for."""
        ...

    def submit(self, work: Work, model: str, token: str) -> Call:
        """The request that begins the job. token: by which it may be found."""
        ...

    def submitted(self, body: Any) -> Answer:
        """Read the answer to it. Raises ValueError where it names no job."""
        ...

    def poll(self, work: Work, upstream_id: str) -> Call:
        """Ask how it stands."""
        ...

    def polled(self, body: Any, upstream_id: str) -> Answer:
        """Read the answer to that."""
        ...

    def content(self, upstream_id: str) -> Call | None:
        """Fetch a result that has no URL; None where all have one."""
        ...

    def cancel(self, work: Work, upstream_id: str) -> Call | None:
        """Ask for its end; None where that cannot be asked."""
        ...

    def find(self, work: Work, model: str, token: str) -> Call | None:
        """List jobs, among which one may be whose submission was not answered; None: no way."""
        ...

    def found(self, body: Any, work: Work, token: str, since: float) -> list[str]:
        """Ids of those that may be it. since: Unix seconds of the submission."""
        ...


class Polling:
    """What most adapters have in common."""

    kinds: tuple[Kind, ...] = ("video",)
    streams = False
    default = 5.0
    """Seconds of a video for which the caller gave none."""

    def seconds(self, work: Work) -> float:
        return work.seconds or self.default

    def most_seconds(self, work: Work) -> float:
        return self.seconds(work)

    def content(self, upstream_id: str) -> Call | None:
        return None

    def cancel(self, work: Work, upstream_id: str) -> Call | None:
        return None

    def find(self, work: Work, model: str, token: str) -> Call | None:
        return None

    def found(self, body: Any, work: Work, token: str, since: float) -> list[str]:
        return []


class AtOnce(Polling):
    """Adapters of upstreams whose answer to a submission is the result."""

    def poll(self, work: Work, upstream_id: str) -> Call:
        raise ValueError("this upstream has no jobs to ask for")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        raise ValueError("this upstream has no jobs to ask for")


def members(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """`value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """`value` if it is a string, a whole number as one, else ""."""
    if isinstance(value, bool):
        return ""
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def number(value: Any) -> float | None:
    """A finite number at least 0, also written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e15 else None


def percent(value: Any) -> int | None:
    """Progress from 0 to 100."""
    found = number(value)
    return None if found is None else int(min(100, found))


def state_of(word: Any) -> Progress:
    """The state of a vendor's word; an unknown one runs, since only a verdict ends a job."""
    return _WORDS.get(text(word).strip().lower().replace("-", "_"), "running")


def error_of(*places: Any) -> dict[str, Any]:
    """The first of `places` that says why something failed, as an error body."""
    for place in places:
        if isinstance(place, dict) and place:
            return {"error": place}
        if isinstance(place, str) and place:
            return {"error": {"message": place}}
    return {}


def link(url: Any, mime: str = "", **more: Any) -> tuple[Result, ...]:
    """A result at a URL; nothing where it is none."""
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return ()
    return (Result(url=url, mime=mime, **more),)


def named(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), {}, [])}


def whole(seconds: float) -> int | float:
    """Seconds without a fraction where there is none, as vendors want them."""
    return int(seconds) if seconds == int(seconds) else seconds
