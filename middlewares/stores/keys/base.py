"""API keys: what a key is, how its secret is made, and what a store of keys must do. No I/O.

A secret is `sk-<brand>-<live|test>-<43 base62 characters>`, or begins as the operator has it
(`KeyPrefixes`). 62^43 is a little more than 2^256, so a guess is hopeless and one round of SHA-256
is enough to store it by; a slow password hash would buy nothing and cost every request. Look-up is
by digest: no code compares raw secrets.
"""

import re
import secrets
import string
from collections.abc import Callable
from hashlib import sha256
from math import inf
from typing import Any, Literal, NamedTuple, Protocol, Self

import msgspec

from middlewares.secret_form import RANDOM_LENGTH, parts_of
from middlewares.stores.teams.base import TeamRecord

Mode = Literal["live", "test"]

_BASE62 = string.digits + string.ascii_letters
_SHOWN = 4
_LONGEST_STEM = 32
LONGEST_SECRET = 300
"""Bytes of a key; a longer one is no key."""
_OF_TEST = re.compile(r".*[_-]test[_-][0-9A-Za-z]{4}")
"""Display prefix of a test key, whatever keys began with when it was made."""


class KeyPrefixes(NamedTuple):
    """What new secrets begin with, by mode."""

    live: str
    test: str

    @classmethod
    def of_brand(cls, brand: str) -> Self:
        """`sk-<brand>-live-` and `sk-<brand>-test-`."""
        stem = slug(brand)[:_LONGEST_STEM].strip("-") or "gateway"
        return cls(f"sk-{stem}-live-", f"sk-{stem}-test-")

    @classmethod
    def of(cls, prefix: str) -> Self:
        """`prefix` itself, which ends in `-` or `_`, and with "test" behind it: `sk_cdx_` and
        `sk_cdx_test_`."""
        return cls(prefix, f"{prefix}test{prefix[-1]}")

    def mode_of(self, shown: str) -> Mode:
        """The mode of the secret with this display prefix; "live" for an imported one."""
        if shown.startswith(self.live) and len(shown) == len(self.live) + _SHOWN:
            return "live"  # also where the operator's prefix ends in "test-"
        return "test" if _OF_TEST.fullmatch(shown) else "live"


class Key(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One API key as stored: everything but its secret.

    Times are Unix seconds. `models`, `endpoints` and `networks` (CIDR) are allow-lists; None
    allows all. `limits` is not read here, only by the limiters; `metadata` is for people. While
    `previous_until` lies ahead the secret before the last rotation is accepted too. `revoked_at` is
    final, `disabled` is not. `revision` is given by the store and grows with each write to any key
    or team. `team` is the id of the team that the key belongs to.
    """

    id: str
    digest: bytes
    prefix: str
    created_at: float
    name: str = ""
    owner: str = ""
    plan: str | None = None
    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    limits: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    expires_at: float | None = None
    disabled: bool = False
    revoked_at: float | None = None
    previous_digest: bytes | None = None
    previous_until: float | None = None
    revision: int = 0
    team: str | None = None

    def holds(self, digest: bytes) -> bool:
        """Whether `digest` is of this key's secret, or of the one before."""
        return digest in (self.digest, self.previous_digest)

    def usable_until(self, digest: bytes) -> float:
        """Unix seconds at which the secret with `digest` stops to open this key; may be past."""
        if self.revoked_at is not None or self.disabled or not self.holds(digest):
            return -inf
        until = inf if self.expires_at is None else self.expires_at
        if digest != self.digest:
            until = min(until, self.previous_until or -inf)
        return until

    def state(self, now: float) -> "State":
        """Whether its current secret opens it, or why not."""
        if self.revoked_at is not None:
            return "revoked"
        if self.disabled:
            return "disabled"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def refusal(self, digest: bytes) -> str:
        """Why the secret with `digest` does not open this key, once `usable_until` has passed."""
        if self.revoked_at is not None:
            return "revoked"
        if self.disabled:
            return "disabled"
        if digest != self.digest:
            return "rotated"
        return "expired"


State = Literal["active", "revoked", "disabled", "expired"]


class KeysWanted(msgspec.Struct, frozen=True):
    """Keys with all of these. None: any; "" is a value: keys without an owner or a team.

    text: what the name, the owner or the display prefix begins with, in any case (of letters
        beyond ASCII as the database has it), or a whole id.
    newest: newest first, else oldest first.
    """

    owner: str | None = None
    team: str | None = None
    state: State | None = None
    text: str = ""
    newest: bool = True

    def matches(self, key: Key, now: float) -> bool:
        """Whether a key has all of these."""
        text = self.text.lower()
        return (
            self.owner in (None, key.owner)
            and self.team in (None, key.team or "")
            and self.state in (None, key.state(now))
            and (
                any(each.lower().startswith(text) for each in (key.name, key.owner, key.prefix))
                or self.text == key.id
            )
        )


class KeyPage(msgspec.Struct, frozen=True):
    """A page of keys. next: `after` of the next page, None on the last."""

    keys: list[Key]
    next: tuple[float, str] | None


class UnknownKey(LookupError):
    """No key has this id."""


class KeyWithTeam(msgspec.Struct, frozen=True):
    """A key and the team that it belongs to. team: None without one, and when it is missing."""

    key: Key
    team: TeamRecord | None = None


Change = KeyWithTeam | TeamRecord
"""A key or a team that was written."""


def revision_of(change: Change) -> int:
    """The revision at which it was written."""
    return change.revision if isinstance(change, TeamRecord) else change.key.revision


class KeyStore(Protocol):
    """Keys, kept. Every method may raise StoreUnavailable and returns within a bounded time.

    Keys are never deleted: a revoked one stays, so that `changes` can tell of it.
    """

    @property
    def generation(self) -> int:
        """Changes when another store, or an older state of it, has taken the place of this one:
        then nothing that was read before holds."""
        ...

    async def find(self, digest: bytes) -> Key | None:
        """The key whose secret, or the one before, has this SHA-256; usable or not."""
        ...

    async def find_with_team(self, digest: bytes) -> KeyWithTeam | None:
        """The same with the team of the key, of one moment."""
        ...

    async def get(self, key_id: str) -> Key | None:
        """The key with this id."""
        ...

    async def match(self, text: str) -> list[Key]:
        """The keys whose id, display prefix or name is exactly `text`, oldest first."""
        ...

    async def every(self) -> list[Key]:
        """All keys, oldest first."""
        ...

    async def page(
        self, after: tuple[float, str] | None, limit: int, *, team: str | None = None
    ) -> list[Key]:
        """Up to `limit` keys after `after`, oldest first by (created_at, id). team: only those of
        the team with this id."""
        ...

    async def search(
        self,
        wanted: KeysWanted,
        *,
        now: float,
        after: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> KeyPage:
        """Keys that match, by (created_at, id). A page reads a bounded part of the keys, so it may
        be short, or empty, and not the last: `KeyPage.next` says whether it is."""
        ...

    async def revision(self) -> int:
        """The revision of the latest committed write of a key or a team."""
        ...

    async def changes(self, since: int, limit: int) -> list[Change]:
        """Up to `limit` keys and teams written after revision `since`, in the order of revision.

        Revisions become visible in their order, so a reader that has seen n misses no earlier one.
        """
        ...

    async def insert(self, key: Key) -> Key:
        """Keep a new key; returns it with its revision."""
        ...

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        """Replace a key by `change` of it, alone with it; returns it with its new revision.

        Raises UnknownKey, and whatever `change` raises: then nothing is written.
        """
        ...


def digest(secret: str | bytes) -> bytes:
    """SHA-256 of a secret, the one form in which it is kept and looked for."""
    return sha256(secret if isinstance(secret, bytes) else secret.encode()).digest()


def mint(prefixes: str | KeyPrefixes, mode: Mode = "live") -> str:
    """A new secret, with 256 bits from the system's randomness. The caller shows it once.

    prefixes: a text is a brand, as in `KeyPrefixes.of_brand`.
    """
    if mode not in ("live", "test"):
        raise ValueError(f"mode {mode!r}: expected 'live' or 'test'")
    body = "".join(secrets.choice(_BASE62) for _ in range(RANDOM_LENGTH))
    if isinstance(prefixes, str):
        prefixes = KeyPrefixes.of_brand(prefixes)
    return f"{prefixes.test if mode == 'test' else prefixes.live}{body}"


def prefix(secret: str) -> str:
    """What may be shown of a secret: all in front of its random part, and 4 characters of that; of
    one without the form of `mint`, its first 4. ValueError for what `is_acceptable` refuses."""
    parts = parts_of(secret)
    if parts is not None:
        return parts[0] + parts[1][:_SHOWN]
    if not is_acceptable(secret):
        raise ValueError(f"expected {ACCEPTABLE}")
    return secret[:_SHOWN]


ACCEPTABLE = (
    "32 to 300 printable ASCII characters, no space at either end, at least 8 different ones"
)
"""What a secret that somebody brings along has to be."""


def is_acceptable(secret: str) -> bool:
    """Whether `secret` may be a key although `mint` did not make it."""
    return (
        32 <= len(secret) <= LONGEST_SECRET
        and secret.isascii()
        and secret.isprintable()
        and secret == secret.strip()
        and len(set(secret)) >= 8
    )


def is_secret(text: str) -> bool:
    """Whether `text` has the form of a whole secret, which must not be repeated to anyone."""
    return parts_of(text) is not None


def slug(brand: str) -> str:
    """`brand` in lower-case ASCII letters, digits and hyphens: "Claudin.io" → "claudinio". What
    keys and prefixes of models are made of."""
    spaced = "".join("-" if c in " _-" else c for c in brand.lower() if c.isascii())
    kept = "".join(c for c in spaced if c.isalnum() or c == "-")
    return "-".join(part for part in kept.split("-") if part)
