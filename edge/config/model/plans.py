"""Tables of plans: rates, spend caps and what happens beyond them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.units import Credits, RateSetting, Size, Span

from .names import Positive, Slug


class WindowConfig(Struct, frozen=True, kw_only=True):
    """A spend cap over a length of time."""

    length: Annotated[
        Span,
        Meta(
            description='Length of the window: "5h", "1d" or "7d", from first use on, or '
            '"calendar month", from the first of the month (UTC).',
        ),
    ]
    credits: Annotated[Credits, Meta(description='Spend cap in credits, as text: "5.00".')]
    aligned: Annotated[
        bool,
        Meta(description="Start the window at calendar boundaries (UTC) instead of at first use."),
    ] = False


class AllowanceConfig(Struct, frozen=True, kw_only=True):
    """Limits of one key, from its plan or its own."""

    requests: Annotated[
        RateSetting | None,
        Meta(description='Request rate of one key: "120/min". Not limited unless given.'),
    ] = None
    burst: Annotated[
        int,
        Meta(ge=0, le=10**9, description="Requests beyond that rate which a key may save up."),
    ] = 0
    tokens: Annotated[
        RateSetting | None,
        Meta(
            description='Rate of input and output tokens of one key: "200k/min". Not limited '
            "unless given."
        ),
    ] = None
    concurrency: Annotated[
        Positive | None,
        Meta(description="Requests of one key in flight at once. Not limited unless given."),
    ] = None
    on_excess: Annotated[
        Literal["reject", "throttle"],
        Meta(
            description='Requests over a rate: "reject" answers 429, "throttle" lets them wait '
            "for their turn."
        ),
    ] = "reject"
    windows: Annotated[
        tuple[WindowConfig, ...],
        Meta(description="Spend caps; a request must fit into all of them."),
    ] = ()
    overflow: Annotated[
        Literal["none", "credits"],
        Meta(
            description='What pays where a window is used up or there is none: "credits" takes '
            'prepaid credits, "none" refuses. "none" without windows does not limit spending.'
        ),
    ] = "none"
    storage: Annotated[
        Size | None,
        Meta(description="Bytes of all files of one key. Unless given, `files.storage`."),
    ] = None
    on_hangup: Annotated[
        Literal["cancel", "drain"],
        Meta(
            description='When a client disconnects: "cancel" stops the upstream and charges what '
            'it has produced; "drain" reads on, up to `server.disconnect_drain`, and charges the '
            "upstream's own count."
        ),
    ] = "cancel"
    cut_off: Annotated[
        bool,
        Meta(
            description="End a running stream with an error event when its money is used up. "
            "Unless given the stream goes on to its own end."
        ),
    ] = False


class PlanConfig(AllowanceConfig, frozen=True, kw_only=True):
    """Limits that keys share by naming the plan."""

    id: Annotated[
        Slug,
        Meta(description="Name of the plan, by which keys and `auth.default_plan` refer to it."),
    ]
    on_budget: Annotated[
        str | None,
        Meta(
            description="Model that serves instead of a refusal by a spend cap or for missing "
            "credits. It must cost nothing, or the request is refused all the same. Only for "
            "answers (not embeddings or counting), and only if the key may use it."
        ),
    ] = None
    on_rate_limit: Annotated[
        str | None,
        Meta(
            description="Model that serves instead of a refusal by a rate. Its requests count "
            "against `concurrency`, not against the rates. Only for answers (not embeddings or "
            "counting), and only if the key may use it."
        ),
    ] = None
