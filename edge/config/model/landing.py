"""Table of the page at /: what an operator says there in own words."""

from typing import Annotated

from msgspec import Meta, Struct

PageLink = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s/?#@<>\"']+([/?#][^\s<>\"']*)?|mailto:[^\s<>\"']+)$",
        max_length=500,
        extra={"expected": 'a URL of http or https, or "mailto:help@example.com"'},
    ),
]


class LandingConfig(Struct, frozen=True, kw_only=True):
    """Texts and links of the page at /, all of them plain text."""

    lead: Annotated[
        str,
        Meta(
            max_length=300,
            description="Sentence below the name. Unless given, which clients the gateway serves.",
        ),
    ] = ""
    pricing: Annotated[
        str,
        Meta(
            max_length=300,
            description='Sentence above the models: "Pay as you go. Credits never expire."',
        ),
    ] = ""
    currency: Annotated[
        str,
        Meta(
            max_length=4,
            description='Sign of one credit, which precedes prices: "$". Unless given, prices are '
            "in credits.",
        ),
    ] = ""
    plans: Annotated[
        tuple[str, ...],
        Meta(description="Plans to show with their budgets and rates. None unless given."),
    ] = ()
    links: Annotated[
        dict[str, PageLink],
        Meta(
            description="Links by their text, 8 at most: { Documentation = "
            '"https://docs.example.com", Support = "mailto:help@example.com" }.'
        ),
    ] = {}
