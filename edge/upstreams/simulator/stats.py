"""Statistics of a simulator, for tests that query it over HTTP."""

from collections.abc import Iterable
from time import process_time, time
from typing import Literal

import msgspec

HangUpPhase = Literal["head", "body"]


class HangUp(msgspec.Struct, frozen=True):
    """A client that disconnected before the end of its answer.

    at: Unix seconds. phase: whether the response head had left. written: steps of the body that
    had been written.
    """

    at: float
    target: str
    phase: HangUpPhase
    written: int


class Used(msgspec.Struct, frozen=True):
    """Tokens of one answer of `model`, disjoint: the prompt is the sum of the first three."""

    model: str
    input: int
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class Total(msgspec.Struct):
    """Complete answers of one model, and the sums of their usage."""

    answers: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class ModelStats(msgspec.Struct):
    """Requests for one model, and sums of all reported usage, also of incomplete answers."""

    requests: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class Stats(msgspec.Struct):
    """Counters since the start; `connections`, `running` and `streams` are current values.

    running: answers in progress. streams: those that are streamed.
    images, speeches, transcriptions, uploads, downloads, jobs, polls: media answers, in pieces of
    the kind; upload_bytes: of files. polled: polls by job.
    last_hangups: the newest hundred. used: by model, see `Total`; seen: by model, of a server only,
    see `ModelStats`.
    """

    connections: int = 0
    accepted: int = 0
    requests: int = 0
    running: int = 0
    streams: int = 0
    paused: int = 0
    hangups: int = 0
    images: int = 0
    speeches: int = 0
    transcriptions: int = 0
    uploads: int = 0
    upload_bytes: int = 0
    downloads: int = 0
    jobs: int = 0
    polls: int = 0
    polled: dict[str, int] = {}
    last_hangups: list[HangUp] = []
    used: dict[str, Total] = {}
    seen: dict[str, ModelStats] = {}

    def add_request(self, model: str) -> None:
        """Count a request for `model`."""
        if model:
            self.seen.setdefault(model, ModelStats()).requests += 1

    def add(self, counts: Iterable[tuple[str, int]]) -> None:
        """Add to the counters by name; a name with a colon counts polls of a job."""
        for name, number in counts:
            field, _, job = name.partition(":")
            if job:
                self.polled[job] = self.polled.get(job, 0) + number
            else:
                setattr(self, field, getattr(self, field) + number)

    def add_usage(self, used: Used | None) -> None:
        """Add the usage that an answer reported."""
        if used is not None and (total := self.seen.get(used.model)) is not None:
            total.input += used.input
            total.cache_read += used.cache_read
            total.cache_write += used.cache_write
            total.output += used.output

    def finished(self, used: Used | None) -> None:
        """Count a complete answer."""
        if used is None:
            return
        total = self.used.get(used.model)
        if total is None:
            total = self.used[used.model] = Total()
        total.answers += 1
        total.input += used.input
        total.cache_read += used.cache_read
        total.cache_write += used.cache_write
        total.output += used.output

    def hung_up(self, target: bytes, phase: HangUpPhase, written: int) -> None:
        self.hangups += 1
        self.last_hangups.append(HangUp(time(), target.decode("latin-1"), phase, written))
        del self.last_hangups[:-100]

    def report(self) -> bytes:
        """As JSON, with `now` (Unix seconds) and `cpu_seconds` of this process."""
        known = msgspec.to_builtins(self)
        return msgspec.json.encode({**known, "now": time(), "cpu_seconds": process_time()})
