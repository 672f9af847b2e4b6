"""State of the provider: files and jobs of its one account."""

from collections.abc import Callable, Mapping
from time import time
from typing import Any

import msgspec

from .prompt import PromptRejected

_MOST = 4096


class StoredFile(msgspec.Struct, frozen=True):
    """An uploaded file. data: None for one whose bytes were not kept."""

    id: str
    filename: str
    content_type: str
    size: int
    sha256: str
    data: bytes | None
    purpose: str
    created_at: int
    expires_at: int | None = None


class SimulatedJob(msgspec.Struct):
    """A job. life, usage: see `controls`. polls, fetched: how often it was asked for.

    shape: whose API it belongs to. content: what it makes. source: the job that it changes.
    """

    id: str
    shape: str
    model: str
    prompt: str
    life: Mapping[str, float]
    usage: str
    created_at: int
    content: bytes
    content_type: str
    seconds: float
    size: str = ""
    source: str | None = None
    polls: int = 0
    fetched: int = 0
    cancelled: bool = False

    @property
    def over(self) -> bool:
        """Whether it has reached its end, by its polls."""
        return self.cancelled or ("held" not in self.life and self.polls > self.life.get("slow", 0))

    @property
    def failed(self) -> bool:
        """Whether it ends without a result."""
        return self.cancelled or "fail" in self.life

    @property
    def progress(self) -> int:
        """Percent done."""
        return 100 if self.over else min(99, int(100 * self.polls / (self.life.get("slow", 0) + 1)))


class Account:
    """Files and jobs by id, at most 4,096 of each: the oldest give way.

    base: address of the server in links, without a slash at the end. keys: idempotency keys that
    made a job.
    """

    def __init__(
        self, base: str = "https://simulator.invalid", clock: Callable[[], float] = time
    ) -> None:
        self.base = base
        self.files: dict[str, StoredFile] = {}
        self.jobs: dict[str, SimulatedJob] = {}
        self.keys: set[str] = set()
        self._clock = clock
        self._made = 0

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    def number(self) -> str:
        """A number that no file or job had before, as hexadecimal digits."""
        self._made += 1
        return f"{self._made:06x}"

    def keep(self, made: StoredFile | SimulatedJob) -> None:
        """Add a file or a job."""
        kept: dict[str, Any] = self.files if isinstance(made, StoredFile) else self.jobs
        kept[made.id] = made
        if len(kept) > _MOST:
            del kept[next(iter(kept))]

    def file(self, file_id: str, param: str | None = None) -> StoredFile:
        """A file that has not expired. Raises PromptRejected."""
        found = self.files.get(file_id)
        if found is None or (found.expires_at is not None and found.expires_at <= self.now()):
            status = 404 if param is None else 400
            raise PromptRejected(status, f"No such File object: {file_id}", param or "id")
        return found

    def job(self, job_id: str) -> SimulatedJob:
        """A job. Raises PromptRejected."""
        found = self.jobs.get(job_id)
        if found is None:
            raise PromptRejected(404, f"Job with id '{job_id}' not found.", "id")
        return found

    def release(self) -> None:
        """Let held jobs come to their end."""
        for job in self.jobs.values():
            job.life = {name: n for name, n in job.life.items() if name != "held"}
