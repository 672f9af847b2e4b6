"""Bytes of request bodies in memory, bounded per principal and in total.

A body counts from its first byte until it is dropped: while it is read, while its request waits for
a limit or for another request's answer, and until the upstream's answer has begun, since until then
it may be sent to another target.
"""

from .problem import Problem
from .shared import Shared

SMALL_BODY = 64 << 10
"""Bytes; bodies up to this size have a reserve when large ones have taken the rest."""


class Uploads(Shared):
    """Counter of the bytes of request bodies. total: bound of all; each: bound of one principal.

    A tenth of `total` is added for bodies of up to `SMALL_BODY` bytes, so that a few large ones do
    not shut out many small ones.
    """

    __slots__ = ("_held_by", "_max_each", "_max_total", "held")

    def __init__(self, *, total: int, each: int) -> None:
        if not 0 < each <= total:
            raise ValueError(f"each {each}, total {total}: expected bytes, 0 < each <= total")
        self._max_total = int(total)
        self._max_each = int(each)
        self._held_by: dict[str, int] = {}
        self.held = 0
        """Bytes held now."""

    def make_room(self, size: int) -> None:
        """Raise the bounds so that one body of `size` bytes has room."""
        self._max_each = max(self._max_each, size)
        self._max_total = max(self._max_total, self._max_each)

    def check(self, subject: str, size: int, more: int) -> None:
        """Check that `more` bytes of a body of `size` have room. Raises Problem."""
        held = self._held_by.get(subject, 0)
        if held + more > self._max_each:
            raise Problem(
                "rate_limited",
                message="Rate limit reached for request bodies under way: limit "
                f"{self._max_each} bytes at once. Please try again in 1s.",
                reason=f"{held} bytes of bodies of this principal are held",
                retry_after=1,
            )
        room = self._max_total if size > SMALL_BODY else self._max_total + self._max_total // 10
        if self.held + more > room:
            raise Problem(
                "upstream_unavailable",
                reason=f"{self.held} bytes of request bodies are held",
                retry_after=1,
            )


class Upload:
    """The counted bytes of one body. size: their number."""

    __slots__ = ("_subject", "_uploads", "size")

    def __init__(self, uploads: Uploads, subject: str) -> None:
        self._uploads = uploads
        self._subject = subject
        self.size = 0

    @property
    def subject(self) -> str:
        """Whose body it is."""
        return self._subject

    def expect(self, size: int) -> None:
        """Check that a body of this content-length has room. Raises Problem.

        Nothing is reserved: a client that announces much and sends nothing takes no room.
        """
        self._uploads.check(self._subject, size, size)

    def add(self, more: int) -> None:
        """Count `more` bytes that have arrived. Raises Problem where there is no room."""
        uploads, subject = self._uploads, self._subject
        held_by = uploads._held_by
        size = self.size + more
        own = held_by.get(subject, 0) + more
        held = uploads.held + more
        if own > uploads._max_each or held > uploads._max_total:
            uploads.check(subject, size, more)
        self.size = size
        uploads.held = held
        held_by[subject] = own

    def remove(self, less: int) -> None:
        """Count `less` bytes no more: they were dropped, or are on disk now."""
        size = self.size
        if less < size:
            self.size = size - less
        elif size:
            less, self.size = size, 0
        else:
            return
        uploads, held_by = self._uploads, self._uploads._held_by
        uploads.held -= less
        left = held_by[self._subject] - less
        if left:
            held_by[self._subject] = left
        else:
            del held_by[self._subject]

    def extend(self, more: int) -> None:
        """Count stored bytes that the body refers to. Raises Problem where there is no room.

        Counts up to the bound of one principal; a larger body is refused by its own limit.
        """
        self.add(max(0, min(more, self._uploads._max_each - self.size)))

    def close(self) -> None:
        """Count nothing any more. Idempotent."""
        self.remove(self.size)
