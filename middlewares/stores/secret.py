"""Protocol of a store of random secrets, shared by all processes."""

from typing import Protocol

SECRET_BYTES = 32


class SecretStore(Protocol):
    """Secrets by name, each created by the first caller."""

    async def secret(self, name: str) -> bytes:
        """Return the 32 random bytes of `name`. Every process gets the same, and they never change.

        Raises StoreUnavailable.
        """
        ...
