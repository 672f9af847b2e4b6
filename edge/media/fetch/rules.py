"""What may be fetched, and the limits of one fetch."""

from msgspec import Struct

from edge.config.model import FetchConfig

from .addresses import Network

MIB = 1 << 20


class FetchRules(Struct, frozen=True):
    """What an operator allows. See `FetchConfig` for each."""

    enabled: bool = True
    http: bool = False
    ports: tuple[int, ...] = ()
    denied: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()
    user_agent: str = "Penstock-media-fetcher"

    @classmethod
    def of(cls, config: FetchConfig) -> "FetchRules":
        """The rules of a configuration."""
        return cls(
            config.enabled,
            config.allow_http,
            config.ports,
            config.denied_networks,
            config.allowed_networks,
            config.user_agent,
        )


class FetchLimits(Struct, frozen=True):
    """Bounds of fetches. Times are seconds.

    connect: lookup, TCP and TLS of each host. first_byte: from the request to the response head.
    total: of one fetch with its redirects, without its wait for a slot. wait: for a slot.
    per_request, per_owner, per_worker: fetches at once.
    fresh: how long a result is used again. cached: bytes kept for that.
    """

    connect: float = 5.0
    first_byte: float = 10.0
    total: float = 30.0
    wait: float = 30.0
    redirects: int = 3
    per_request: int = 4
    per_owner: int = 16
    per_worker: int = 64
    fresh: float = 600.0
    cached: int = 256 * MIB
    entries: int = 4096
