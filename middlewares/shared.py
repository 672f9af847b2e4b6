"""Base class of objects that must not be copied, such as stores."""

from typing import Any, Self


class Shared:
    """Base class: `copy` and `deepcopy` return the object itself.

    Frameworks copy their configuration (Litestar deep-copies a router with the arguments of its
    middlewares). A copied store would be another store: each router would count its own limits, and
    no router would know the keys.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
