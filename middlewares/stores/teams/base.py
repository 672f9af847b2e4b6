"""Teams: what a team is. No I/O."""

from typing import Any

import msgspec


class TeamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One team as stored.

    Times are Unix seconds. `plan` and `limits` hold over all its keys together; `limits` has the
    form of a key's own. `metadata` is for people. The keys of a disabled team are refused.
    `revision` is given by the store and grows with each write to any team or key.
    """

    id: str
    created_at: float
    name: str = ""
    plan: str | None = None
    limits: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    disabled: bool = False
    revision: int = 0
