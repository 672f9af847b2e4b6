"""The money rule: which purses pay for a request, in one account or in those of a key and its team.

Theory of operation. A level is an account with its budget: the key's, and the team's if both are
limited. What each has left is a `Room`. One without windows and without credits has all the room
there is, one with credits and without windows has none but its credits. In this order:

    windows     of both levels, if both have room for all of it
    credits     of one level, the key's before the team's, if they have all of it. The other level
                counts it in its windows if these have room, else nowhere; then its budget must
                allow credits as well
    the rest    the same two again where there is `needed` in place of all of it. What is left is
                set aside, as a tight hold of the level that has less

`lua/reserve.lua` does the same in Redis.
"""

from math import inf

import msgspec

from .base import Source


class Room(msgspec.Struct, frozen=True, gc=False):
    """What one level has left, in nano-credits.

    windows: the least of any. credits: -inf where the budget does not allow them. needed: the
    least that has to be left of what pays.
    """

    windows: float
    credits: float
    needed: int

    @property
    def short(self) -> bool:
        """Whether the windows have not even what is needed."""
        return self.windows < self.needed


UNLIMITED = Room(inf, -inf, 0)
"""A level that refuses nothing."""


class Share(msgspec.Struct, frozen=True, gc=False):
    """What one level sets aside, and from what."""

    source: Source
    amount: int


def decide(amount: int, key: Room, team: Room = UNLIMITED) -> tuple[Share, Share] | None:
    """The shares of the key and of the team in `amount`; None where there is not enough."""
    for key_wanted, team_wanted in ((amount, amount), (key.needed, team.needed)):
        if key.windows >= key_wanted and team.windows >= team_wanted:
            return _share("windows", amount, key.windows), _share("windows", amount, team.windows)
        if key.credits >= key_wanted:
            beside = _beside(team, amount, team_wanted)
            if beside is not None:
                return _share("credits", amount, key.credits), beside
        if team.credits >= team_wanted:
            beside = _beside(key, amount, key_wanted)
            if beside is not None:
                return beside, _share("credits", amount, team.credits)
    return None


def in_the_way(key: Room, team: Room) -> tuple[bool, bool]:
    """Whether it is the key and whether it is the team that has not enough, after `decide`.

    A level whose windows are short is not in the way where credits could pay for it.
    """
    paid = key.credits >= key.needed or team.credits >= team.needed
    return (
        key.short and not (paid and key.credits > -inf),
        team.short and not (paid and team.credits > -inf),
    )


def _beside(one: Room, amount: int, wanted: int) -> Share | None:
    """The share of a level while credits of the other pay."""
    if one.windows >= amount:
        return Share("windows", amount)
    if one.credits > -inf:
        return Share("other", amount)
    return _share("windows", amount, one.windows) if one.windows >= wanted else None


def _share(source: Source, amount: int, left: float) -> Share:
    return Share(source, amount if left >= amount else int(left))
