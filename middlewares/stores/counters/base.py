"""What is counted for each principal while it is used: rates, slots, and money not yet settled.

Theory of operation. Counters are a cache. The ledger is the truth of money, and this invariant
ties the two together:

    spent     what the ledger holds of an account, for each window and for credits
    held      everything else: what runs now, and what has ended and is not in the ledger yet

A request reserves a hold (`reserve`), an upper bound of what it may cost. When it ends the hold is
shrunk to what it did cost (`resize`), and when its row is in the ledger it becomes spent
(`convert`). So `spent + held` is never less than what was really used, and a counter that was lost
is restored from the ledger alone (`restore`).

A key of a team has two accounts: its own and the team's. One decision reserves on both (module
`decision`), and from then on they are two holds with one id, each of its own account.

A hold that a process does not renew for `LIFETIME` expires: a killed process keeps no money or
slot. `convert` returns which holds it did not find (they had ended, or the counters
had been flushed); those rows are in the ledger, so the account is marked stale and restored from
there at its next use.

Every method takes `now` in Unix seconds where time matters; one call is one atomic decision however
many processes ask. What is not awaited by a request (`release`, `charge`, `resize`, `drop`) returns
at once and is carried out in order.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from middlewares.limits import Budget, Level, Rate

LIFETIME = 60.0
"""Seconds that a lease or a hold outlives its process."""
STEP = 60.0
"""Seconds by which time may go back before the clock is believed to have been set."""
AHEAD = 300.0
"""Seconds by which a window may begin ahead of a clock, as clocks of several machines differ. One
that begins later was begun before the clock was set back: it does not count."""
RENEWAL = 15.0
"""Seconds after which a living process renews what it holds."""

Source = Literal["windows", "credits", "other"]
"""What pays: windows or credits of the account, or those of the other account of the request."""
Whose = Literal["key", "team"]


class Check(msgspec.Struct, frozen=True, gc=False):
    """One rate that a request is held against.

    name: of the rate, "requests" or "tokens"; with the principal it names the counter.
    cost: how much of it the request takes. More than the rate ever has at once is let through
        when the counter is full, and is owed.
    """

    name: str
    rate: Rate
    cost: int = 1


class TeamClaim(msgspec.Struct, frozen=True, gc=False):
    """What a request takes of the limits of its team. who: names the team in the counters."""

    who: str
    checks: Sequence[Check] = ()
    slots: int = 0


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The answer to `admit`. wait: seconds after which it may be different, 0 when admitted.

    levels: of each rate, the principal's or the team's, of which less remains.
    lacking: name of the check that failed, or "concurrency"; "" when admitted. With several, the
        one with the longest wait. whose: its limit. both: whether the other's lacks too.
    """

    admitted: bool
    levels: tuple[Level, ...]
    wait: float = 0.0
    lacking: str = ""
    whose: Whose = "key"
    both: bool = False


class RateCounters(Protocol):
    """Rates and slots. `who` names the principal or the team, and of which limiter."""

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        team: TeamClaim | None = None,
    ) -> Verdict:
        """Take all that is asked for, or nothing.

        slots: how many may be in flight at once; 0 does not limit. lease: id of this one. team:
        what is taken of its limits at the same time. Raises CountersUnavailable.
        """
        ...

    def release(self, who: str, lease: str) -> None:
        """Give a slot back. A lease that has ended, or is not known, is no error."""
        ...

    def charge(self, who: str, check: Check, now: float | None = None) -> None:
        """Take `check.cost` after the fact, though it may not be there; negative gives back."""
        ...

    async def levels(
        self, who: str, checks: Sequence[Check], *, now: float | None = None
    ) -> tuple[tuple[Level, ...], int]:
        """Where the counters stand, and how many slots are in use. Raises CountersUnavailable."""
        ...


class Spent(msgspec.Struct, frozen=True):
    """What the ledger says of an account; see `Accounts`.

    starts: Unix seconds by window name, for the windows that run; spent: nano-credits by window
    name, of requests admitted in that period. credits: balance, what was bought less what was used.
    """

    starts: Mapping[str, float] = {}
    spent: Mapping[str, int] = {}
    credits: int = 0


class Hold(msgspec.Struct, gc=False):
    """Money set aside for one request in one account. One per account and request id.

    amount: nano-credits. source: what pays. starts: of each window, the period it was admitted in.
    tight: less than the upper bound of the cost, as no more was left.
    team: what is set aside for the same request in the account of the team. Counters give it with
        `reserve`; their other methods are about one account and do not read it.
    """

    account: str
    id: str
    amount: int
    source: Source
    at: float
    starts: dict[str, float] = {}
    tight: bool = False
    team: "Hold | None" = None

    def parts(self) -> "list[Hold]":
        """What the counters hold: this and the team's, but for one that counts nowhere."""
        return [one for one in (self, self.team) if one is not None and one.source != "other"]


class TeamAccount(msgspec.Struct, frozen=True, gc=False):
    """The account of a team, and its budget."""

    account: str
    budget: Budget


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The counters do not know this account, or it is stale: it must be restored first."""

    account: str


class InsufficientFunds(msgspec.Struct, frozen=True):
    """There is not enough. window: name of the one that lacks it, "" for credits.

    remaining: nano-credits that are neither spent nor held. reset: Unix seconds, None for credits.
    held: whether only what is in flight is in the way. whose: account in which it lacks.
    """

    window: str
    remaining: int
    reset: float | None
    held: bool = False
    whose: Whose = "key"


class WindowLevel(msgspec.Struct, frozen=True):
    """Where a window stands, in nano-credits. start None: not begun."""

    name: str
    cap: int
    used: int
    start: float | None
    reset: float | None


class AccountStatus(msgspec.Struct, frozen=True):
    """Where an account stands. held: nano-credits by what pays. holds: ids of open ones."""

    windows: tuple[WindowLevel, ...]
    credits: int
    held: Mapping[Source, int]
    holds: tuple[str, ...] = ()


class AccountCounters(Protocol):
    """Money in motion."""

    async def reserve(
        self,
        account: str,
        hold: str,
        amount: int,
        least: int,
        budget: Budget,
        now: float,
        team: TeamAccount | None = None,
    ) -> Hold | InsufficientFunds | Unknown:
        """Set money aside, from the windows if each has enough left, else from credits.

        Where neither has `amount` but one has `least` and the account has no tight hold, what is
        left of it is set aside, as a tight hold. A window that is over starts again with this.
        team: in this account too, or in neither; see module `decision`.
        Raises CountersUnavailable.
        """
        ...

    def resize(self, hold: Hold, amount: int) -> None:
        """The request has ended and costs `amount`. Also where the hold has ended by itself."""
        ...

    def drop(self, hold: Hold) -> None:
        """The request has cost nothing."""
        ...

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        """The rows of these are in the ledger: held becomes spent, at the hold's amount.

        Spending counts in the period it was admitted in, and nowhere once that is over. Returns
        those it did not find. Raises CountersUnavailable: then it may be tried again.
        """
        ...

    async def status(self, account: str, budget: Budget, now: float) -> AccountStatus | None:
        """Where it stands; None: the account must be restored first. Raises CountersUnavailable."""
        ...

    async def restore(self, account: str, spent: Spent, settled: Sequence[str], seen: int) -> bool:
        """Set what is spent from the ledger; holds stay, less those in `settled`, which it has.

        seen: the account's version, read by `version` before the ledger was asked. False, and
        nothing done, when something was converted since: ask the ledger again.
        """
        ...

    async def version(self, account: str) -> tuple[int, tuple[str, ...]]:
        """A number that changes with each conversion, and the ids of open holds; 0 when unknown.

        Raises CountersUnavailable.
        """
        ...

    async def invalidate(self, account: str) -> None:
        """Have the account restored at its next use, also by others. Holds stay.

        Raises CountersUnavailable.
        """
        ...


class Counters(RateCounters, AccountCounters, Protocol):
    """Both, with a life of their own."""

    async def start(self) -> None:
        """Connect and start renewing leases and holds. Does not fail without a connection."""
        ...

    async def aclose(self) -> None:
        """Carry out what was left to do, for a bounded time, and stop. Idempotent."""
        ...
