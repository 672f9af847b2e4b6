"""Request bodies that this process holds, counted in bytes: of each principal and in total.

A body counts from its first byte until nothing holds it any more: while it is read, while its
request waits for its turn or for an answer that another request makes, and until the upstream's
answer has begun, as until then it may have to be sent elsewhere.
"""

from .problem import Problem
from .shared import Shared

MOST_SMALL = 64 << 10
"""Bytes; bodies up to this size have room of their own when large ones have taken the rest."""


class Uploads(Shared):
    """Bytes of bodies under way. total: of all principals; each: of one.

    A tenth of `total` is added for bodies of up to `MOST_SMALL` bytes, so that a few large ones do
    not shut out the many small ones.
    """

    __slots__ = ("_each", "_of", "_total", "held")

    def __init__(self, *, total: int, each: int) -> None:
        if not 0 < each <= total:
            raise ValueError(f"each {each}, total {total}: expected bytes, 0 < each <= total")
        self._total = int(total)
        self._each = int(each)
        self._of: dict[str, int] = {}
        self.held = 0
        """Bytes held now."""

    def make_room(self, size: int) -> None:
        """Let one body of `size` bytes have room, whatever the bounds were."""
        self._each = max(self._each, size)
        self._total = max(self._total, self._each)

    def check(self, who: str, size: int, more: int) -> None:
        """Raises Problem where there is no room for `more` bytes of a body of `size`."""
        if self._of.get(who, 0) + more > self._each:
            raise Problem(
                "rate_limited",
                message="Rate limit reached for request bodies under way: limit "
                f"{self._each} bytes at once. Please try again in 1s.",
                reason=f"{self._of.get(who, 0)} bytes of bodies of this principal are held",
                retry_after=1,
            )
        room = self._total if size > MOST_SMALL else self._total + self._total // 10
        if self.held + more > room:
            raise Problem(
                "upstream_unavailable",
                reason=f"{self.held} bytes of request bodies are held",
                retry_after=1,
            )


class Upload:
    """One body of a principal. size: bytes of it that are counted."""

    __slots__ = ("_uploads", "_who", "size")

    def __init__(self, uploads: Uploads, who: str) -> None:
        self._uploads = uploads
        self._who = who
        self.size = 0

    def expect(self, size: int) -> None:
        """It says that it has so many bytes. Nothing is reserved for it: whoever says that it has
        many, and sends none, takes room from nobody. Raises Problem where there is no room."""
        self._uploads.check(self._who, size, size)

    def add(self, more: int) -> None:
        """So many bytes more have come. Raises Problem where there is no room for them."""
        uploads, who = self._uploads, self._who
        of = uploads._of
        size = self.size + more
        own = of.get(who, 0) + more
        held = uploads.held + more
        if own > uploads._each or held > uploads._total:
            uploads.check(who, size, more)
        self.size = size
        uploads.held = held
        of[who] = own

    def extend(self, more: int) -> None:
        """It refers to so many bytes that are kept here, which count with it. Raises Problem where
        there is no room for them; a body that is too large with them is for others to refuse."""
        self.add(max(0, min(more, self._uploads._each - self.size)))

    def close(self) -> None:
        """Nothing holds it any more. Idempotent."""
        size, self.size = self.size, 0
        if not size:
            return
        uploads = self._uploads
        uploads.held -= size
        left = uploads._of[self._who] - size
        if left:
            uploads._of[self._who] = left
        else:
            del uploads._of[self._who]
