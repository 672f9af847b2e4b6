"""The table of alerts about budgets."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.secrets import Secret
from edge.config.units import Credits


class AlertsConfig(Struct, frozen=True, kw_only=True):
    """Alerts to the operator about the budgets of keys and teams."""

    webhook: Annotated[
        Secret | None,
        Meta(
            description="URL to which alerts are posted, http or https; it may be of a private "
            'network. "env:NAME" and "file:PATH" keep a secret in it out of the file. Unless given '
            "there are no alerts."
        ),
    ] = None
    at: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=100)], ...],
        Meta(
            max_length=10,
            description="Percents of the cap of a window at which an alert is sent, once for each "
            "period of the window.",
        ),
    ] = (80, 100)
    credits_below: Annotated[
        Credits | None,
        Meta(
            description="Balance of prepaid credits below which an alert is sent, once after each "
            'grant, to keys and teams whose plan has `overflow = "credits"`. Unless given there '
            "are no alerts about credits."
        ),
    ] = None
    secret: Annotated[
        Secret | None,
        Meta(
            description='Secret that signs alerts, "whsec_" and 24 to 64 bytes in base64: '
            '"env:ALERTS_SECRET" or "file:/run/secrets/alerts". Unless given the gateway makes '
            "one, which `penstock alerts secret` prints."
        ),
    ] = None
