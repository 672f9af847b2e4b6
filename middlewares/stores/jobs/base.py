"""Jobs: work at an upstream that outlives requests, workers and restarts.

Theory of operation. A job is one row. A worker claims a row that is due: it takes a lease, and the
row's `fence` grows. Every later write names that fence, so a worker whose lease another has taken
writes nothing (`ClaimLost`). A worker that dies lets its lease run out; the next goes on from the
state in the row.

Money. `create` writes the row and its reservation in one transaction, and the reservation counts
in the account's totals as if it was spent. `finish` writes the final state, the one row of the
ledger and what the reservation was too much, in one transaction. So an account that is restored
from the ledger at any moment has the reservation or the cost, and never both or neither. Counters
follow: the hold of the request that created the job is converted once the row is there, and the
account is restored after the end (`Job.due` stays set until that is done).
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from middlewares.stores.ledger.base import Entry

Kind = Literal["video", "music"]

State = Literal[
    "queued", "submitting", "running", "storing", "unknown", "succeeded", "failed", "cancelled"
]
"""queued: not sent. submitting: being sent, so it may have been. unknown: sent, and no answer came.
running: the upstream has it. storing: it is done, and its results are being copied."""

FINAL: Final[tuple[State, ...]] = ("succeeded", "failed", "cancelled")

STATES: Final[tuple[State, ...]] = (
    *("queued", "submitting", "running", "storing", "unknown"),
    *FINAL,
)


class Result(msgspec.Struct, frozen=True):
    """One thing that a job made.

    file: id of the owner's file that has it or will have it; stored: whether it has.
    url: where the upstream offers it, never shown; "" for the upstream's own content address.
    seconds, width, height: as the upstream says, 0 where it does not.
    """

    file: str = ""
    url: str = ""
    mime: str = ""
    bytes: int = 0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    stored: bool = False


class JobError(msgspec.Struct, frozen=True):
    """Why a job failed, in our words."""

    code: str
    message: str
    type: str = "server_error"
    param: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job. Times are Unix seconds, money is nano-credits.

    id: what clients see. owner: id of the principal. model: id of the catalog, as clients see it.
    request: what was asked, JSON. media: the images of it; b"" where a read leaves them out.
    terms: what was fixed at creation and is not the caller's, JSON: targets and price.
    reservation: the ledger row as it is while the job runs: its cost is what is reserved.
    key, fingerprint: of the Idempotency-Key; None without one.
    callback: where its end is reported; "" nowhere.
    fence: grows with each claim. holder: who claimed it last. lease_until: until when.
    due: when there is something to do; None: never again.
    since: when it came into its state. tries: attempts in this state.
    place: which of the targets is tried. upstream: the target that has it, upstream_id: its id
    there.
    token: random, sent with the submission so that it can be found.
    cancelling: whether its owner has cancelled it; asked: and the upstream was asked to.
    deleted: hidden from its owner.
    reported: seconds and cost as the upstream said, JSON.
    charged: None until the end. notices: tries to report the end.
    """

    id: str
    owner: str
    kind: Kind
    model: str
    created_at: float
    request: bytes = b""
    media: bytes = b""
    terms: bytes = b""
    reservation: Entry
    key: str | None = None
    fingerprint: str = ""
    callback: str = ""
    source: str = ""
    """Id of the job that it was made from (remix)."""
    storage: int = 0
    """Bytes of the owner's quota that are reserved for its results."""
    state: State = "queued"
    fence: int = 0
    holder: str = ""
    lease_until: float = 0.0
    due: float | None = 0.0
    since: float = 0.0
    tries: int = 0
    place: int = 0
    upstream: str = ""
    upstream_id: str = ""
    token: str = ""
    cancelling: bool = False
    asked: bool = False
    deleted: bool = False
    progress: int = 0
    results: tuple[Result, ...] = ()
    error: JobError | None = None
    reported: bytes = b""
    charged: int | None = None
    notices: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None

    @property
    def final(self) -> bool:
        """Whether its state will not change."""
        return self.state in FINAL


class ClaimLost(Exception):
    """Another worker has the job, or it has ended: nothing was written."""


class JobExists(Exception):
    """The owner has a job with this Idempotency-Key."""


class JobFigures(msgspec.Struct, frozen=True):
    """Jobs that something is still to be done for, by state, and the age in seconds of the oldest
    that is due and not claimed."""

    states: Mapping[str, int]
    overdue: float


class JobStore(Protocol):
    """Jobs, kept. Every method may raise StoreUnavailable."""

    async def create(self, job: Job, *, limit: int | None) -> None:
        """Keep a job, its reservation and the room for its results, in one transaction.

        limit: bytes of the owner's quota. Raises JobExists, StorageFull.
        """
        ...

    async def get(self, owner: str, job_id: str) -> Job | None:
        """A job of this owner that is not deleted."""
        ...

    async def with_key(self, owner: str, key: str) -> Job | None:
        """The job that this owner created with an Idempotency-Key."""
        ...

    async def page(
        self, owner: str, kind: Kind, *, after: str | None, limit: int, newest_first: bool = True
    ) -> list[Job]:
        """Jobs of this owner by creation, after the one with the id `after`."""
        ...

    async def listed(
        self,
        owner: str,
        *,
        kind: Kind | None = None,
        states: Collection[State] = (),
        after: tuple[float, str] | None = None,
        limit: int,
    ) -> list[Job]:
        """Jobs of this owner in these states, all for none, newest first by (created_at, id)."""
        ...

    async def reservations(self, owner: str) -> list[Entry]:
        """Reservations of this owner's jobs that have not ended."""
        ...

    async def reservations_of_team(self, team: str) -> list[Entry]:
        """Reservations for this team of jobs of its present keys that have not ended."""
        ...

    async def claim(
        self, holder: str, now: float, lease: float, job_id: str | None = None
    ) -> Job | None:
        """Claim the job that is due longest, or `job_id` if it is not claimed, for `lease` s."""
        ...

    async def renew(self, job: Job, until: float) -> bool:
        """Extend the lease of a claim; False when another has the job."""
        ...

    async def change(self, job: Job, **changes: Any) -> Job:
        """The claimed job with `changes`, which are written. Raises ClaimLost."""
        ...

    async def finish(self, job: Job, entry: Entry, **changes: Any) -> Job:
        """Write the final state in `changes` and the ledger row, once. Raises ClaimLost.

        Returns the job with `deleted` as it is now.
        """
        ...

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        """Note that its owner wants it ended; None where there is none."""
        ...

    async def delete(self, owner: str, job_id: str, now: float) -> Job | None:
        """Hide a job, and cancel it if it runs. The job as it was; None where there is none."""
        ...

    async def let_go(self, claims: Collection[Job]) -> None:
        """End the leases of claims at once, so that others go on."""
        ...

    async def taken(self, ids: Collection[str]) -> set[str]:
        """Which of the ids that upstreams give belong to jobs."""
        ...

    async def figures(self, now: float) -> JobFigures:
        """Counts for metrics."""
        ...

    async def purge(self, before: float) -> int:
        """Remove jobs that ended before; how many."""
        ...
