"""Objects that belong to all who hold them."""

from typing import Any, Self


class Shared:
    """A copy is the object itself, a deep one too.

    Frameworks copy what they are configured with (Litestar deep-copies a router with the arguments
    of its middlewares). A copied store would be another store: limits would be counted for each
    router, and keys be known to none.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
