"""The table of the guarded fetcher."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.units import Network

Port = Annotated[int, Meta(ge=1, le=65535)]


class FetchConfig(Struct, frozen=True, kw_only=True):
    """What Penstock itself fetches: URLs that callers and upstreams give."""

    enabled: Annotated[
        bool,
        Meta(
            description="Fetch URLs that callers give, where a target does not do so itself. With "
            "false such a request is refused."
        ),
    ] = True
    allow_http: Annotated[
        bool,
        Meta(description="Fetch http URLs too, at port 80. Only https unless given."),
    ] = False
    ports: Annotated[
        tuple[Port, ...],
        Meta(description="Ports that URLs may name besides 443, and 80 with `allow_http`."),
    ] = ()
    denied_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks never fetched from although they are public, such as your own: "
            '"198.18.0.0/15". Goes before `allowed_networks`.'
        ),
    ] = ()
    allowed_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks fetched from although they are not public: "
            '"10.20.0.0/16". Every caller can then read what answers there. None unless given.'
        ),
    ] = ()
    user_agent: Annotated[
        str,
        Meta(
            pattern=r"^[!-~]([ -~]{0,254}[!-~])?$",
            description="Header `user-agent` of these requests.",
            extra={"expected": "visible ASCII text of at most 256 characters"},
        ),
    ] = "Penstock-media-fetcher"
