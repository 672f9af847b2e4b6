"""Random secrets that all processes on one store share."""

from typing import Protocol

SECRET_BYTES = 32


class SecretStore(Protocol):
    """Secrets by name, each created by the first caller."""

    async def secret(self, name: str) -> bytes:
        """The 32 random bytes of this name, the same for everybody and for ever.

        Raises StoreUnavailable.
        """
        ...
